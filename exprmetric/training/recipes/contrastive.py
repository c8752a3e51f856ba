"""Paper 001: contrastive pre-training whose positives share the expression and whose negatives share the person.

The paper at hand is a poster, without equations; the loss is the engine's (`exprmetric.training.engines`: SimCLR or
MoCo v2). Its strategies, each a setting of its own, and what the poster leaves open:

* **TimeAug** (`time_aug`): the positive is another frame of the same clip at most `near` seconds away. On our clips
  the mean lm51 distance between frames grows from 0.08 at 0.1 s to 0.12 at 0.4 s and is level from 1 s on; 0.3 s by
  default. Frames of the batch that could have been drawn as the positive are no negatives either (`Views.ignored`).
  Photographs, which have no other frame, are their own positive by augmentation alone.
* **HardNeg** (`hard_neg`): a frame of the same clip at least `far` seconds away is one more negative: same person,
  another expression. A face without such a frame gets another face of the batch, which is one of its negatives anyway.
* **FaceSwap** (`face_swap=swap`): in a share `swaps` of the positives the face is another person's, put in by a
  classical swapper that keeps the landmarks (`exprmetric.datasets.swapped`); the poster's swapper isn't named. With
  TimeAug, it is the nearby frame that is swapped.
* **CutMix** in the place of FaceSwap (row c; `face_swap=cutmix`): over the same share of the positives a rectangle of
  another face of the batch is pasted, a third to three fifths of the image wide and high, anywhere. The identity is
  mixed as in a swap, by patches, and the expression isn't followed.
* **MaskFN** (`mask_fn`): in each batch, the one other face whose mouth-eye descriptor is the most similar to an
  anchor's is taken for a false negative and left out of its denominator. Descriptors are of the aligned faces, before
  augmentation; the network is named by `descriptor`, see `exprmetric.training.descriptors` (no ResNet18 of ImageNet
  can be had here; ImageNet's EfficientNet-Lite0 stands for it). Faces that are ignored already aren't chosen. Only
  SimCLR has negatives of the batch: with MoCo v2, whose negatives are of earlier batches, MaskFN is refused.

The strategies' table on the poster, with its garbled columns read from the row's letter on, is `ROWS`; its first four
lines only name the columns. `row` sets a row's strategies; settings of one's own come on top of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.datasets.clip_files import Clip, find_clips
from exprmetric.datasets.clips import ClipCounts, annotate_photographs, joined, load_clips
from exprmetric.datasets.layouts import UnknownLayoutError, open_datasets
from exprmetric.datasets.swapped import add_swaps
from exprmetric.encoder import distributed
from exprmetric.errors import InputError
from exprmetric.training.descriptors import IMAGENET, descriptors
from exprmetric.training.engines import USES_IGNORED, Engine, EngineConfig, Views, build_engine
from exprmetric.training.loop import Losses, pick_device
from exprmetric.training.recipes.common import Augmenter, RecipeConfig, Scores, check_known, load_faces
from exprmetric.training.recipes.recipe import Recipe
from exprmetric.training.strategies import Timeline, another, mix_patches, most_similar, near_pairs

ENGINES = ("simclr", "mocov2")
FACE_SWAPS = ("none", "swap", "cutmix")
ROWS: dict[str, dict[str, Any]] = {
    "none": {},
    "a": {"time_aug": True},
    "b": {"time_aug": True, "hard_neg": True},
    "c": {"time_aug": True, "hard_neg": True, "face_swap": "cutmix"},
    "d": {"time_aug": True, "face_swap": "swap", "mask_fn": True},
    "e": {"time_aug": True, "hard_neg": True, "face_swap": "swap"},
    "f": {"time_aug": True, "hard_neg": True, "mask_fn": True},
    "g": {"time_aug": True, "hard_neg": True, "face_swap": "swap", "mask_fn": True},
}
"""The poster's rows, and `none`: the engine by itself."""


@dataclass(frozen=True)
class ContrastiveConfig(RecipeConfig, EngineConfig):
    """Settings of paper 001; those of optimisation, which the poster doesn't give, are ours.

    Attributes:
        limit: photographs to train on; frames of clips are thinned by `stride` instead.
        row: a key of ROWS, whose strategies are set.
        time_aug: a strategy besides the row's.
        hard_neg: a strategy besides the row's.
        mask_fn: a strategy besides the row's.
        face_swap: `none`, `swap` or `cutmix`.
        near: seconds that a positive is away at most. far: seconds that a hard negative is away at least.
        swaps: share of the faces that are swapped, or of the positives that are mixed.
        stride: every how many-th frame of a clip is taken.
        rate: how many of the numbers in the names of a folder of frames are a second; VoxCeleb's count 25, also where
            its published frames step by 25 and so are a second apart (then `near` must be 1 or more, and `stride` 1).
        descriptor: network of the mouth-eye descriptors: `imagenet`, a checkpoint (.pt), or a manifest entry. The
            shipped `default` finds likelier false negatives, and has learnt them from labels.
    """

    backbone: str = "resnet18"
    augment: str = "robust"
    warmup: int = 100
    engine: str = "simclr"
    row: str = "g"
    time_aug: bool = False
    hard_neg: bool = False
    face_swap: str = "none"
    mask_fn: bool = False
    near: float = 0.3
    far: float = 2.0
    swaps: float = 0.5
    stride: int = 3
    rate: float = 25.0
    descriptor: str = IMAGENET

    own_decay: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_engine()
        check_known((self.engine, ENGINES), (self.row, ROWS), (self.face_swap, FACE_SWAPS))
        for name, value in ROWS[self.row].items():
            if getattr(self, name) in (False, "none"):
                object.__setattr__(self, name, value)
        if self.mask_fn and self.engine not in USES_IGNORED:
            raise InputError(
                f"mask_fn leaves out negatives of the batch, and {self.engine} has none: choose another row"
            )
        if not 0 < self.near < self.far:
            raise InputError(f"near is {self.near} s and far is {self.far} s: 0 < near < far")
        if not 0 < self.swaps <= 1:
            raise InputError(f"swaps is {self.swaps}: it is a share, above 0 and at most 1")


class Contrastive(Recipe[ContrastiveConfig, Engine]):
    """The recipe, on clips, photographs or both.

    Scores: `train`: how many faces it has; and of both splits, how many frames with and without a face, damaged clips,
    swaps and failed swaps. `valid`: the losses.

    Args:
        counts: what was counted while the faces were loaded.
    """

    settings = ContrastiveConfig

    def __init__(
        self, faces: dict[str, FaceArrays], config: ContrastiveConfig, out: Path, counts: dict[str, float] | None = None
    ) -> None:
        self.counts, self._pairs = counts or {}, Pairs(config)
        super().__init__(faces, config, out)

    @classmethod
    def open(
        cls, paths: Sequence[str | Path], out: Path, config: ContrastiveConfig, *, device: str = "auto", jobs: int = 2
    ) -> Contrastive:
        """From data sets of photographs as `open_datasets` reads them, labelled or not; and from whatever else holds
        videos: files, folders and zips (see `clip_files`).

        Raises:
            InputError: nothing to train on, or a strategy has nothing to work with. See also `load_clips`.
        """
        faces, counts = load_contrastive_faces(paths, config, out, device=device, jobs=jobs)
        return cls(faces, config, out, counts)

    def build(self) -> Engine:
        return build_engine(self.config.encoder(), self.config)

    def step(self, model: Engine, batch: Batch) -> Losses:
        return model.losses(views_of(batch, self.config, self.augmenter))

    def after_step(self) -> None:
        self.model.after_step()

    def draw(self, faces: FaceArrays, size: int, generator: torch.Generator) -> Iterator[Batch]:
        return self._pairs(faces, size, generator)

    def scores(self) -> Scores:
        return {"train": self.counts, "valid": self.score(self.faces["valid"])}


def sort_paths(paths: Sequence[str | Path]) -> tuple[list[Clip], list[Path]]:
    """The clips, and the paths of photographs: what reads as a data set of these is one, all else holds clips.

    Raises:
        InputError: a path is neither.
    """
    clips: list[Clip] = []
    photographs: list[Path] = []
    for path in map(Path, paths):
        try:
            open_datasets([path])
            photographs.append(path)
        except UnknownLayoutError as error:
            found = find_clips(path)
            if not found:
                raise InputError(f"{error}; and there is no video in it") from error
            clips += found
    return clips, photographs


def load_contrastive_faces(
    paths: Sequence[str | Path], config: ContrastiveConfig, out: Path, *, device: str = "auto", jobs: int = 2
) -> tuple[dict[str, FaceArrays], dict[str, float]]:
    """Faces by split with all that the strategies need in `extra`, and what was counted on the way."""
    clips, photographs = sort_paths(paths)
    where, cache = pick_device(device), out / "alignment"
    parts: dict[str, list[FaceArrays]] = {"train": [], "valid": []}
    counted = ClipCounts(0, 0, 0)
    if clips:
        with distributed.main_first():
            found, counted = load_clips(
                clips,
                crop=config.crop,
                size=config.size,
                stride=config.stride,
                cache=cache,
                device=where,
                jobs=jobs,
                rate=config.rate,
                color=config.color,
            )
        _tell(counted)
        for split, some in found.items():
            parts[split].append(some)
    if photographs:
        still = load_faces(
            photographs,
            config,
            out,
            device=device,
            jobs=jobs,
            unlabelled=True,
            annotate=annotate_photographs(config.crop, config.size),
        )
        for split in parts:
            parts[split].append(still[split])
    if missing := [split for split, some in parts.items() if not some]:
        raise InputError(f"there is no face in the split {missing[0]}: give clips of two persons, or photographs too")
    faces = {split: joined(several) for split, several in parts.items()}
    _check_time(faces["train"], config)
    counts = {"faces": len(faces["train"]), "frames": counted.frames, "faceless_frames": counted.faceless}
    counts |= {"damaged_clips": len(counted.damaged), "swapped": 0, "swaps_failed": 0}
    with distributed.main_first():
        for split, whole in faces.items():
            if config.face_swap == "swap":
                pool = None if split == "train" else joined(parts["train"])
                whole, made = add_swaps(whole, config.swaps, config.seed, cache, pool=pool, jobs=jobs)
                counts["swapped"] += made.wanted - made.failed
                counts["swaps_failed"] += made.failed
            if config.mask_fn:
                described = descriptors(config.descriptor, whole, config.crop, cache)
                whole = replace(whole, extra={**whole.extra, "descriptor": described})
            faces[split] = whole
    return faces, {name: float(value) for name, value in counts.items()}


def _tell(counted: ClipCounts) -> None:
    from rich.console import Console

    console = Console(stderr=True, quiet=not distributed.is_main())
    for name, problem in counted.damaged:
        console.print(f"{name!r}: {problem}", markup=False, highlight=False)


def _check_time(faces: FaceArrays, config: ContrastiveConfig) -> None:
    """InputError where a strategy of time would silently do nothing."""
    timeline, every = Timeline(faces.extra["clip"], faces.extra["time"]), torch.arange(len(faces))
    every, generator = every.to(faces.images.device), torch.Generator(faces.images.device)
    if config.time_aug and bool((timeline.near(every, config.near, generator) == every).all()):
        raise InputError(f"time_aug: no face has another frame at most {config.near} s away; give clips, or row=none")
    if config.hard_neg and bool((timeline.far(every, config.far, generator) < 0).all()):
        raise InputError(f"hard_neg: no face has a frame at least {config.far} s away; give longer clips, or row=none")


class Pairs:
    """Batches of anchors in random order; `extra` then has `positive` (B, 1, S, S) uint8, `far` likewise with
    `has_far` (B,) bool, and `clip`, `time`, `descriptor`."""

    def __init__(self, config: ContrastiveConfig) -> None:
        self._config = config

    def __call__(self, faces: FaceArrays, size: int, generator: torch.Generator) -> Iterator[Batch]:
        config = self._config
        timeline = Timeline(faces.extra["clip"], faces.extra["time"])
        light = replace(faces, extra={n: v for n, v in faces.extra.items() if n in ("clip", "time", "descriptor")})
        order = torch.randperm(len(faces), generator=generator, device=faces.images.device)
        for start in range(0, len(order) - size + 1, size):
            anchors = order[start : start + size]
            batch = light.batch(anchors)
            positives = timeline.near(anchors, config.near, generator) if config.time_aug else anchors
            batch.extra["positive"] = _pixels(faces, positives, swapped=config.face_swap == "swap")
            if config.hard_neg:
                far = timeline.far(anchors, config.far, generator)
                batch.extra["far"] = faces.pixels(far.clamp(min=0))
                batch.extra["has_far"] = far >= 0
            yield batch


def _pixels(faces: FaceArrays, indices: Tensor, *, swapped: bool) -> Tensor:
    """(B, 1, S, S) uint8; the swapped face where there is one and it is asked for."""
    images = faces.pixels(indices)
    if not swapped:
        return images
    return torch.where(faces.extra["has_swap"][indices, None, None, None], faces.extra["swapped"][indices], images)


def views_of(batch: Batch, config: ContrastiveConfig, augmenter: Augmenter) -> Views:
    """What the engine sees of a batch of `Pairs`; everything is augmented."""
    generator, size = augmenter.generator, len(batch.images)
    positive = batch.extra["positive"].float() / 255
    if config.face_swap == "cutmix":
        mixed = torch.rand(size, generator=generator, device=positive.device) < config.swaps
        positive = torch.where(mixed[:, None, None, None], mix_patches(positive, generator), positive)
    ignored = torch.zeros(size, size, dtype=torch.bool, device=positive.device)
    if config.time_aug:
        ignored = near_pairs(batch.extra["clip"], batch.extra["time"], config.near)
    if config.mask_fn:
        ignored = ignored | most_similar(batch.extra["descriptor"], ignored)
    negatives: tuple[Tensor, ...] = ()
    if config.hard_neg:
        instead = batch.images[another(ignored, generator)]
        far = torch.where(batch.extra["has_far"][:, None, None, None], batch.extra["far"].float() / 255, instead)
        negatives = (augmenter(far),)
    return Views(augmenter(batch.images), augmenter(positive), negatives, ignored)
