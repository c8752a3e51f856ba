"""Methods of third parties: entry points of the group `exprmetric.methods`.

They are found by name, and the code of one is imported only when that one is asked for: a broken one breaks itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from exprmetric.errors import ExprmetricError, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "exprmetric.methods"


def find_plugins() -> dict[str, list[EntryPoint]]:
    """Entry points by name, nothing of them imported; more than one where packages offer the same name."""
    from importlib import metadata

    found: dict[str, list[EntryPoint]] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        same = found.setdefault(point.name, [])
        if point.value not in [p.value for p in same]:  # a package may be installed in two places
            same.append(point)
    return found


def origin(point: EntryPoint) -> str:
    """Where an entry point comes from, for messages."""
    package = f"the package {point.dist.name!r}" if point.dist else "an unknown package"
    return f"{package} ({point.value!r})"


def load_plugin(name: str, points: list[EntryPoint]) -> Callable[[str], Any]:
    """The factory of a third party's method, whose errors are its own.

    Raises:
        PluginError: it can't be imported or is no factory, or several packages offer the name.
    """
    if len(points) > 1:
        places = " and ".join(origin(p) for p in points)
        raise PluginError(f"several packages offer a method named {name!r}: {places}. Uninstall all but one")
    (point,) = points
    try:
        factory = point.load()
    except (Exception, SystemExit) as error:  # of somebody else's code: it may raise anything
        raise PluginError(f"the method {name!r} of {origin(point)} can't be imported: {_what(error)}") from error
    if not callable(factory):
        raise PluginError(f"the method {name!r} of {origin(point)} is no factory but {type(factory).__name__}")

    def make(provider: str) -> Any:
        try:
            return factory(provider)
        except ExprmetricError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"the method {name!r} of {origin(point)} can't be made: {_what(error)}") from error

    return make


def _what(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
