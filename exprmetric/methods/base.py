"""`Method`: all that differs between the rows of a result table."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.errors import PluginError, UnknownMethodError
from exprmetric.faces.face import Face
from exprmetric.methods.plugins import find_plugins, load_plugin, origin
from exprmetric.metrics.distances import DISTANCES, distance_function

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Vectors = npt.NDArray[np.float32]

NOT_COMPARABLE = "not comparable with other modes"
"""The note of methods that reproduce somebody else's protocol."""


class Method(ABC):
    """Turns faces into vectors and vectors into distances.

    Attributes:
        name: how the method is asked for, and its row in every table.
        template: name of the alignment template whose crop it reads.
        distance_name: a key of `exprmetric.metrics.distances.DISTANCES`.
        dimension: D, the length of its vectors.
        pixels: it reads crops or pixels; False where landmarks alone are enough.
        note: what must stand beside its numbers wherever they are shown; '' for nothing.
    """

    name: str
    template: str
    distance_name: str = "l2"
    dimension: int
    pixels: bool = True
    note: str = ""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Weights hash and preprocessing: equal fingerprints give equal vectors for equal crops."""

    def prepare(self, face: Face) -> None:  # noqa: B027  most methods need their template's crop and no more
        """Read off the original pixels what no template's crop holds, into `face.readings`.

        Called once a face, in the thread that read the image, before the face lets go of its pixels.

        Raises:
            ImageError: this method can't measure this face; its triplets are marked with the error's status.
        """

    @abstractmethod
    def represent(self, faces: Sequence[Face]) -> Vectors:
        """(N, D) float32 vectors of N faces; they don't depend on how the faces are batched."""

    def distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) distances between the rows of two (N, D) arrays."""
        return distance_function(self.distance_name)(a, b)


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
    from exprmetric import weights
    from exprmetric.methods.onnx import OnnxEncoder

    kinds = ("expression-encoder", "identity-encoder")
    return {
        e.name: lambda provider, entry=e: OnnxEncoder(entry, provider=provider)  # type: ignore[misc]
        for e in weights.entries().values()
        if e.kind in kinds and e.format == "onnx"
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
