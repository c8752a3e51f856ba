"""The registry of methods: which there are, and one loaded by its name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from exprmetric.errors import PluginError, UnknownMethodError
from exprmetric.methods.base import Method
from exprmetric.methods.plugins import find_plugins, load_plugin, origin
from exprmetric.metrics.distances import DISTANCES

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Factory = Callable[[str], Method]
"""Makes a method; the argument is the ONNX Runtime provider that networks run on."""

METHODS: dict[str, Factory] = {}


def register_method(name: str) -> Callable[[Factory], Factory]:
    """Decorator that registers a factory under a name; a name taken already is an error."""

    def register(factory: Factory) -> Factory:
        if name in METHODS:
            raise ValueError(f"method {name!r} is registered already")
        METHODS[name] = factory
        return factory

    return register


def _encoders() -> dict[str, Factory]:
    """Every ONNX encoder of the weights manifest is a method; no code of its own."""
    from exprmetric.methods.onnx import OnnxEncoder
    from exprmetric.weights import store as weights
    from exprmetric.weights.manifest import PROBABILITIES

    kinds = ("expression-encoder", "identity-encoder")
    found = {e.name: e for e in weights.entries().values() if e.kind in kinds and e.format == "onnx"}
    found |= {name: found[version] for name, version in weights.CURRENT.items() if version in found}
    found |= {f"{name}-{PROBABILITIES}": e.of_probabilities() for name, e in found.items() if e.classes}
    return {
        name: lambda provider, entry=e: OnnxEncoder(entry, provider=provider)  # type: ignore[misc]
        for name, e in found.items()
    }


def available_methods() -> dict[str, Factory]:
    """All methods by name: built in, ONNX encoders of the manifest, plug-ins (entry points `exprmetric.methods`), of
    which nothing is imported yet."""

    def plugin(name: str, points: list[EntryPoint]) -> Factory:
        return lambda provider: load_plugin(name, points)(provider)

    plugins = {name: plugin(name, points) for name, points in find_plugins().items()}
    return {**plugins, **_encoders(), **METHODS}


def shadowed_plugins() -> dict[str, EntryPoint]:
    """The plug-ins that are never used because they have the name of a method of exprmetric's own."""
    own = {name for name, factory in METHODS.items() if factory.__module__.startswith("exprmetric.")}
    own |= _encoders().keys()
    return {name: points[0] for name, points in find_plugins().items() if name in own}


def load_method(name: str, *, provider: str = "cpu") -> Method:
    """The method of this name.

    Args:
        name: a registered name, optionally with a distance: `default`, `lm68`, `default:cosine`.
        provider: ONNX Runtime provider (`cpu`, `cuda`, …) that networks run on.

    Raises:
        UnknownMethodError: no method, or no distance, has this name.
        PluginError: it is a third party's, and broken.
        WeightsNotFoundError, WeightsHashError, ProviderError: from loading it.
    """
    base, _, distance = name.partition(":")
    factories = available_methods()
    if base not in factories:
        raise UnknownMethodError(f"unknown method {base!r}; known: {', '.join(sorted(factories))}")
    if distance and distance not in DISTANCES:
        raise UnknownMethodError(f"unknown distance {distance!r} in {name!r}; known: {', '.join(DISTANCES)}")
    if point := shadowed_plugins().get(base):
        warnings.warn(
            f"{origin(point)} offers a method {base!r} too; exprmetric's own is the one that runs",
            stacklevel=2,
        )
    method = factories[base](provider)
    if not isinstance(method, Method):
        raise PluginError(f"the method {base!r} is no exprmetric.Method but {type(method).__name__}")
    method.name = name
    if distance:
        method.distance_name = distance
    return method
