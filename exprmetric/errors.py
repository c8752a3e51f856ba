"""Typed errors. Every error that one image can cause names the status its triplet ends with.

`ExprmetricError` is the root: catching it catches everything the toolkit raises on purpose.
"""

from __future__ import annotations

import re


class ExprmetricError(Exception):
    """Root of all errors that exprmetric raises on purpose."""


class InputError(ExprmetricError, ValueError):
    """The input as a whole is wrong: a missing folder, a manifest without its columns, a duplicate stem."""


class ImageError(ExprmetricError):
    """One image can't be measured; `status` is what its triplets are marked with."""

    status = "error"


class UnreadableImageError(ImageError):
    """The file is missing, is no image, or can't be decoded."""

    status = "unreadable"


class VideoError(UnreadableImageError):
    """A video can't be read: missing, no video, of a kind that isn't decoded."""


class DamagedVideoError(VideoError):
    """A part of a video could not be decoded. Raised behind its last frame, so that what could be decoded isn't lost.

    Attributes:
        decoded: frames that were decoded and handed out before.
    """

    def __init__(self, message: str, *, decoded: int = 0) -> None:
        super().__init__(message)
        self.decoded = decoded


class NoFaceError(ImageError):
    """No face was found in an image that decodes."""

    status = "no_face"


class SeveralFacesError(ImageError):
    """Several faces were found and the caller asked for exactly one."""

    status = "error"


class LowQualityError(ImageError):
    """A face was found, and a method that was asked for can't read it."""

    status = "low_quality"


class ImplausibleFaceError(LowQualityError):
    """A face was found, and no landmarks fit it: it lies too far sideways, is no face, or no image of one."""


class WeightsError(ExprmetricError):
    """Something is wrong with a weight file."""


class UnknownWeightsError(WeightsError, KeyError):
    """No manifest entry has this name."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The entry is known, its file is not on this machine."""

    def __str__(self) -> str:  # FileNotFoundError formats (errno, strerror) pairs
        return str(self.args[0]) if self.args else ""


class ForbiddenWeightsError(WeightsError):
    """Only weights that allow commercial use were asked for, and these don't."""


class WeightsHashError(WeightsError):
    """A file's SHA-256 is not the pinned one; the message shows both."""


class UnknownMethodError(ExprmetricError, KeyError):
    """No method has this name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class PluginError(ExprmetricError):
    """A third party's method can't be loaded; the message names its package."""


class ProviderError(ExprmetricError, RuntimeError):
    """The execution provider that was asked for is not the one that would run."""


class MissingPackageError(ExprmetricError, ImportError):
    """An optional package is needed and not installed; the message says how to get it, also from a clone."""

    def __str__(self) -> str:
        text = super().__str__()
        if found := re.search(r"pip install 'exprmetric\[([\w,]+)\]'", text):
            text += f" (in a clone: pip install -e '.[{found[1]}]')"
        return text
