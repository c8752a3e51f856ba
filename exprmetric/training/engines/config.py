"""Settings of the self-supervised engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from exprmetric.errors import InputError

ENGINES = {
    "simsiam": "exprmetric.training.engines.simsiam:SimSiam",
    "byol": "exprmetric.training.engines.byol:BYOL",
    "mocov2": "exprmetric.training.engines.mocov2:MoCoV2",
    "simclr": "exprmetric.training.engines.simclr:SimCLR",
}
"""The class of each engine by name, imported when it is asked for."""


C = TypeVar("C", bound="EngineConfig")


@dataclass(frozen=True)
class EngineConfig:
    """Settings of an engine. A recipe's own config may inherit them beside `RecipeConfig`, and then is one.

    0 stands for what the engine's own paper has; each engine's docstring says what that is.

    Attributes:
        engine: a key of `ENGINES`.
        projection: width of the space in which views are compared.
        hidden: width inside the projector; and inside the predictor, which for SimSiam is a quarter of `projection`.
        momentum: share of itself that a momentum encoder keeps at each step (BYOL, MoCo v2).
        momentum_steps: steps over which BYOL's momentum rises to 1 along a cosine; 0: it stays.
        temperature: of the softmax (MoCo v2, SimCLR).
        queue: keys of earlier batches (MoCo v2). The paper's 65,536 are a twentieth of its images; with more keys
            than faces most anchors meet themselves as a negative.
        jitter: of views of colour faces (`color=rgb`), see `exprmetric.training.augment.jittered`; 0: none.
        target_similarity: s_t, below which a negative view is no longer pushed away (SimSiam, BYOL; paper 003, eq. 4).
    """

    engine: str = "simsiam"
    projection: int = 0
    hidden: int = 0
    momentum: float = 0.0
    momentum_steps: int = 0
    temperature: float = 0.0
    queue: int = 4096
    jitter: float = 0.4
    target_similarity: float = 0.6

    def __post_init__(self) -> None:
        self.check_engine()

    def over(self: C, steps: int) -> C:
        """The settings for a training of so many steps: BYOL's momentum rises over it, where nothing else is set."""
        return replace(self, momentum_steps=self.momentum_steps or steps)

    def check_engine(self) -> None:
        """InputError for a setting that no engine can have; for a recipe's `__post_init__`."""
        if self.engine not in ENGINES:
            raise InputError(f"unknown engine {self.engine!r}; known: {', '.join(ENGINES)}")
        for name in ("projection", "hidden", "momentum_steps", "temperature"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: it can't be negative")
        if not 0 <= self.momentum <= 1:
            raise InputError(f"momentum is {self.momentum}: choose one from 0 to 1")
        if not -1 <= self.target_similarity <= 1:
            raise InputError(f"target_similarity is {self.target_similarity}: a cosine is from -1 to 1")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"jitter is {self.jitter}: choose one from 0 to 1")
        if self.queue < 1:
            raise InputError(f"queue is {self.queue}: it needs at least one key")
