"""Paper 003, ContraWarping: a face whose muscles were moved by hand is near itself, but less than its other views.

x1 and x2 are two views of a face, x3 is x1 locally warped (`exprmetric.training.warping`). An engine (SimSiam, BYOL,
MoCo v2; `exprmetric.training.engines`) draws x1 and x2 together and holds x3 off:

    L_cont12 = -sim(1, 2)                          (3)
    L_cont13 = max(sim(1, 3), s_t)                 (4)    MoCo v2 has no s_t: x3 is one more negative
    L_landmark = 1/n Σ MSE(w_i pred_i, w_i pseudo_i)      (5)
    L = L_cont12 + L_cont13 + λ (L_landmark1 + L_landmark3)      (6)

A head of transposed convolutions on the feature maps of x1 and x3 draws a heatmap for each of 68 points. w_i is 1 for a
point that the warp moved and 0.1 for others, in x1 and in x3. It is a factor on the map, as (5) has it: a moved point
counts a hundred times. Choices where the paper is silent:

* **x1** is the aligned face under another gamma and contrast (`tones`): no crop, turn or mirror image, whose points
  would need to go along. **x2** is `augment` of the face, by default `robust`: like the engines' own augmentation it
  moves, mirrors and degrades. x1 is uncropped in every row, with and without landmarks, so that rows differ in nothing
  but what they name; the engines' own baseline, with two augmented views, is the recipe `selfsupervised`.
* **Pseudo-landmarks** are dlib's 68 points, found once with the alignment; the paper's are a network's trained on
  300-W. A face that was not found has the data set's median points: they can be a warp's centre, and are left out of
  (5). Points outside the input have maps that are empty, or nearly so.
* **Moved** is a point that a warp carries by more than 1 px of 224: dlib's own points aren't truer.
* **The head**: three transposed convolutions (4 x 4, stride 2, 128 channels, batch norm, ReLU), as heads on such
  backbones have, then 1 x 1. Maps have a quarter of the input's side; sigma 1.5 is in their px.
* **λ** (`landmark_weight`) is not given. A map is nearly all 0 and (5) a mean over its pixels, so that both terms of a
  head that draws nothing come to 0.003 at 224 px of input and, as the square of the side goes, 0.036 at 64 px. λ makes
  that about 0.3, beside sims of up to 1: 100 at 224 px; set 10 at 64 px.
* **The rows** of table 1 are `warp` and `landmark_head`: none/random/landmarks, and false/true. `warp=none` has no x3.
* Optimiser and batch are SimSiam's: SGD 0.05, batch 256 (weight decay 1e-4 by Chen & He). BYOL has LARS, 4.8 for a
  batch of 4096, in proportion for smaller ones: `engine=byol optimiser=lars learning_rate=0.3` for 256.
* The learning rate falls along a cosine; kept are the weights of the lowest validation loss, which is (6) on views
  and warps drawn with one seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from exprmetric.choices import CHANNELS
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Arrays, Batch
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.training.engines import EngineConfig, Views, build_engine
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.recipes.common import Augmenter, RecipeConfig
from exprmetric.training.recipes.recipe import Recipe
from exprmetric.training.warping import draw_warps, move_points, to_input, warp_images

WARPS = ("random", "landmarks", "none")
POINTS = 68
SIGMA = 1.5
"""Of a heatmap's peak, in its px (section 4.3)."""
UNMOVED = 0.1
"""w_i of a point that no warp moved (section 3.3)."""
MOVED_BY = 1.0
"""Px of the 224 crop above which a point is moved."""


@dataclass(frozen=True)
class ContraWarpingConfig(RecipeConfig, EngineConfig):
    """Settings of the recipe; the defaults are the paper's best row with SimSiam.

    Attributes:
        warp: where warps have their centres: anywhere (`random`), at one of the face's `landmarks`, or `none`: no x3.
        warps: n, warps of one face.
        landmark_head: learn the landmarks of x1 and x3 too.
        landmark_weight: λ of equation (6).
        tones: spread of x1's gamma, as a logarithm, and of its contrast; 0: x1 is the face as it is.
        unlabelled: learn from faces without a label too.
    """

    backbone: str = "resnet18"
    augment: str = "robust"
    optimiser: str = "sgd"
    learning_rate: float = 0.05
    batch: int = 256
    patience: int = 50
    warp: str = "landmarks"
    warps: int = 2
    landmark_head: bool = True
    landmark_weight: float = 100.0
    tones: float = 0.4
    unlabelled: bool = True

    own_decay: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_engine()
        if self.warp not in WARPS:
            raise InputError(f"unknown warp {self.warp!r}; known: {', '.join(WARPS)}")
        if self.warps < 1:
            raise InputError(f"warps is {self.warps}: choose 1 or more, or warp=none")
        if not 0 <= self.tones < 1:
            raise InputError(f"tones is {self.tones}: choose one from 0 to below 1")
        if self.landmark_weight < 0:
            raise InputError(f"landmark_weight is {self.landmark_weight}: it can't be negative")
        if self.average and self.engine == "mocov2":
            raise InputError("average can't be set with mocov2: keys of its queue have no average")

    def network(self) -> SharedMaps:
        """A new encoder, untrained."""
        channels = CHANNELS[self.color]
        return SharedMaps(self.backbone, dimension=self.dimension, neck=self.neck, channels=channels)


class SharedMaps(Encoder):
    """An encoder that works out each view's feature map once for all that ask, while `shared()` is open.

    Engines call the encoder on the very tensors of their `Views`: so the landmark head's question is answered already,
    but for x3 under MoCo v2, which x3 reaches through the momentum encoder alone.
    """

    _kept: list[tuple[Tensor, Tensor]] | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Feature maps are kept by the tensor they are of."""
        self._kept = []
        try:
            yield
        finally:
            self._kept = None

    def feature_map(self, images: Tensor) -> Tensor:
        """See `Encoder.feature_map`."""
        for seen, features in self._kept or ():
            if seen is images:
                return features
        features = super().feature_map(images)
        if self._kept is not None:
            self._kept.append((images, features))
        return features


class LandmarkHead(nn.Sequential):
    """(B, features, h, w) → (B, 68, 8 h, 8 w) heatmaps."""

    def __init__(self, features: int, *, deconvolutions: int = 3, channels: int = 128) -> None:
        layers: list[nn.Module] = []
        for i in range(deconvolutions):
            before = channels if i else features
            up = nn.ConvTranspose2d(before, channels, 4, stride=2, padding=1, bias=False)
            layers += [up, nn.BatchNorm2d(channels), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(channels, POINTS, 1))


@dataclass(frozen=True)
class Drawn:
    """The views of a batch, and where the landmarks are in them.

    Attributes:
        views: x1, x2 and, where there is a warp, x3.
        before: (B, 68, 2) points in x1, px of the input.
        after: (B, 68, 2) points in x3, px of the input.
        found: (B,) bool; where False the points are a median's.
    """

    views: Views
    before: Tensor
    after: Tensor
    found: Tensor


def tones(images: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """(B, 1, S, S) 0..1 → the same under another gamma (e^±spread) and contrast (1 ± spread); no pixel moves."""
    chance = 2 * torch.rand(2, len(images), 1, 1, 1, generator=generator, device=images.device) - 1
    gamma, contrast = (spread * chance[0]).exp(), 1 + spread * chance[1]
    return ((images.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5).clamp(0, 1)


def draw(batch: Batch, config: ContraWarpingConfig, augmenter: Augmenter) -> Drawn:
    """x1, x2 and x3 of each face, by the augmenter's generator."""
    generator = augmenter.generator
    x1 = tones(batch.images, config.tones, generator) if config.tones else batch.images
    x2 = augmenter(batch.images)
    before = after = to_input(batch.extra["landmarks"], size=config.size, crop=config.crop)
    negatives: tuple[Tensor, ...] = ()
    if config.warp != "none":
        centres = before if config.warp == "landmarks" else None
        warps = draw_warps(len(x1), generator, n=config.warps, size=config.size, crop=config.crop, landmarks=centres)
        negatives, after = (warp_images(x1, warps),), move_points(before, warps)
    return Drawn(Views(x1, x2, negatives), before, after, batch.extra["found"])


def heatmaps(points: Tensor, *, size: int, height: int, width: int) -> Tensor:
    """(B, K, 2) px of an input of side `size` → (B, K, height, width): 1 at the point, and a Gaussian's fall around."""
    at = [(points[..., i, None] + 0.5) * side / size - 0.5 for i, side in enumerate((width, height))]
    steps = [torch.arange(side, dtype=points.dtype, device=points.device) for side in (width, height)]
    across, down = (torch.exp(-((step - x) ** 2) / (2 * SIGMA**2)) for step, x in zip(steps, at, strict=True))
    return down[..., :, None] * across[..., None, :]


def point_weights(before: Tensor, after: Tensor, *, size: int, crop: int) -> Tensor:
    """w_i: (B, K), 1 for a point that is more than MOVED_BY elsewhere and UNMOVED for the others."""
    moved = (after - before).norm(dim=-1) > MOVED_BY * size / crop
    return torch.where(moved, 1.0, UNMOVED)


def landmark_loss(drawn: Tensor, truth: Tensor, weights: Tensor, found: Tensor) -> Tensor:
    """Equation (5), mean over the faces that were found; 0 (with a gradient of 0) when none was.

    Args:
        drawn: (B, K, h, w) heatmaps.
        truth: (B, K, h, w) heatmaps.
        weights: (B, K), w_i.
        found: (B,) bool.
    """
    faces = ((weights[..., None, None] * (drawn.float() - truth)) ** 2).mean((1, 2, 3))
    return torch.where(found, faces, torch.zeros_like(faces)).sum() / found.sum().clamp(min=1)


class ContraWarping(nn.Module):
    """Engine and landmark head.

    Attributes:
        encoder: what is kept; the engine's.
        head: None when no landmarks are learnt.
    """

    def __init__(self, config: ContraWarpingConfig) -> None:
        super().__init__()
        self.encoder = cast(SharedMaps, config.encoder())
        self.engine = build_engine(self.encoder, config)
        self.head = LandmarkHead(self.encoder.features) if config.landmark_head else None
        self.config = config

    def losses(self, drawn: Drawn) -> Losses:
        """Equation (6): the engine's terms, `landmark1` and `landmark3`, and `total`."""
        with self.encoder.shared():
            terms = dict(self.engine.losses(drawn.views))
            if self.head is not None:
                terms |= self._landmarks(drawn)
        points = [terms[name] for name in ("landmark1", "landmark3") if name in terms]
        terms["total"] = terms["total"] + self.config.landmark_weight * sum(points)
        return terms

    def _landmarks(self, drawn: Drawn) -> Losses:
        size, views = self.config.size, drawn.views
        weights = point_weights(drawn.before, drawn.after, size=size, crop=self.config.crop)
        shown = {"landmark1": (views.anchor, drawn.before)}
        if views.negatives:
            shown["landmark3"] = (views.negatives[0], drawn.after)
        terms: Losses = {}
        for name, (images, points) in shown.items():
            with autocast(images.device):
                maps = cast(LandmarkHead, self.head)(self.encoder.feature_map(images))
            truth = heatmaps(points, size=size, height=maps.shape[2], width=maps.shape[3])
            terms[name] = landmark_loss(maps, truth, weights, drawn.found)
        return terms


class ContraWarpingRecipe(Recipe[ContraWarpingConfig, ContraWarping]):
    """The recipe. Scores: the terms of the loss on fixed draws of held-out faces."""

    settings = ContraWarpingConfig

    @staticmethod
    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> Arrays:
        """`landmarks` (N, 68, 2) float32, px of the 224 crop, and `found` (N,) bool."""
        return {"landmarks": alignment.landmarks[keep], "found": alignment.found[keep]}

    def build(self) -> ContraWarping:
        self.label = f"{self.config.engine}, warp {self.config.warp}"
        return ContraWarping(self.config.over(self.config.epochs * self.batches))

    def step(self, model: ContraWarping, batch: Batch) -> Losses:
        return model.losses(draw(batch, self.config, self.augmenter))

    def after_step(self) -> None:
        self.model.engine.after_step()
