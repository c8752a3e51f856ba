"""Whose fault an exception is: that of one image, whose row fails, or the machine's, which stops the run."""

from __future__ import annotations

import errno

from exprmetric.errors import ExprmetricError, ImageError, MissingPackageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""No room, no right to write, too many open files: the next image would meet the same."""
_MOST = 300
"""Letters of a message that are kept: libraries quote whole source lines."""


def of_machine(error: Exception) -> ExprmetricError | None:
    """The error as one that stops a run, in one sentence; None where it may be one image's.

    Wrong weights, a missing provider, a missing package, a full disk: every image would meet them.
    """
    if isinstance(error, ImageError):
        return None
    if isinstance(error, ExprmetricError):
        return error
    if isinstance(error, ImportError):
        return MissingPackageError(f"this installation can't go on: {described(error)}")
    if isinstance(error, OSError) and error.errno in _FULL:
        return ExprmetricError(f"this machine can't go on: {error.strerror}")
    return None


def of_image(error: Exception, doing: str = "") -> ImageError:
    """The error as that of the image that was looked at; a fault of the machine is raised instead.

    Args:
        error: anything that rose while one image was looked at.
        doing: what was being done, such as the name of a method.

    Raises:
        ExprmetricError: from `of_machine`.
    """
    if isinstance(error, ImageError):
        return error
    if machine := of_machine(error):
        raise machine from None if machine is error else error
    return ImageError(f"{doing}: {described(error)}" if doing else described(error))


def described(error: BaseException) -> str:
    """Class and message in one line, such as `cv2.error: …`."""
    kind = type(error)
    package = "" if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}."
    message = " ".join(str(error).split())
    if len(message) > _MOST:
        message = f"{message[:_MOST]}…"
    return f"{package}{kind.__name__}: {message}" if message else f"{package}{kind.__name__}"
