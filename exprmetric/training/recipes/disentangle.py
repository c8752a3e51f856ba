"""Paper 002 (Halawa et al., 2020): expressions apart from all else, by an adversary.

A shared encoder En_base has two branches, B_exp and B_non-exp, each four convolutions with leaky ReLU. Linear
classifiers stand on both: C_exp has to know the expression, and C_adv, on the other branch, is asked in vain. With y
the label, N the number of expressions and ⊕ one code beside the other:

    L_r   = ‖x - De(code_exp ⊕ code_non-exp)‖²                      moves En_base, both branches, the decoder
    L_exp = - Σ_i y_i log C_exp(code_exp)_i                         (1) moves En_base, B_exp, C_exp
    L_adv_exp = - Σ_i y_i log C_adv(code_non-exp)_i                 (2) moves C_adv alone
    L_adv_En  = - 1/N Σ_i log C_adv(code_non-exp)_i                 (2) moves En_base, B_non-exp
    L = β1 L_r + β2 L_exp + β3 (L_adv_exp + L_adv_En)               (3)

On each batch C_adv takes one step down L_adv_exp with an optimiser of its own while all else is constant; then L_r,
L_exp and L_adv_En are optimised jointly while C_adv is. The exported encoder is En_base and B_exp.

The paper's β are 0, 1, 1 (no decoder is made then); `beta1=0.001` and `beta1=1` are its ablation (table 2); `beta3=0`
is its baseline (table 1), without the other branch, adversary and decoder.

Choices where the paper is silent:

* L_r is read as printed, a sum over the pixels. The mean over them would be some thousands of times smaller, and
  β1 = 0.001 could not have done what table 2 says it did. So what a β1 does depends on the size of the images.
* x in L_r is what the encoder sees: the face at one brightness and contrast (`Disentangler.seen`).
* A code is the mean over the last convolution's map. Batch norm in the branches and the decoder; D = 256.
* β3 doesn't reach L_adv_exp: a factor on the loss changes no step of Adam. C_adv's learning rate is `adversary_rate`
  and takes the way of all others, up and down: were it to learn on while the branch stands still, it would win.
* The epoch that is kept has the lowest β1 L_r + β2 L_exp on the validation faces. L_adv_En is least at the start,
  before a C_adv that knows nothing, and rises as that learns.
* L_adv_En asks for equal probabilities, also where the faces aren't as many of each expression; a C_adv that learns no
  more than their shares already keeps it above log N.
* En_base starts from random weights, unless `init` names those trained on VGGFace2: no package brings them.
* No class weights. AffectNet's validation faces, on which the paper reports, have as many of each class; FER+ and LFW
  don't, so mean accuracies over the classes are reported too. Knowing nothing gives 1 / N there.

Scores: see `disentanglement_scores`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Arrays, Batch, FaceArrays
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import InputError
from exprmetric.metrics.classification import accuracy, balanced_accuracy, confusion
from exprmetric.training.disentangling import STRIDE, Adversary, Disentangler
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.recipes.common import RecipeConfig, Scores
from exprmetric.training.recipes.recipe import Recipe

CLASSES = len(EXPRESSIONS)
REFIT = 5000
"""Training faces that the fresh classifier learns from."""


@dataclass(frozen=True)
class DisentangleConfig(RecipeConfig):
    """Settings; the defaults are the paper's where it gives one.

    Attributes:
        beta1: weight of the reconstruction; 0: no decoder. With one, `size` is a multiple of 32.
        beta2: weight of the classification.
        beta3: weight of the uncertainty that the other branch is to give the adversary. beta1 = beta3 = 0: baseline.
        adversary_rate: learning rate of the adversary.
    """

    backbone: str = "inception_resnet_v1"
    neck: str = "four_convolutions"
    dimension: int = 256
    size: int = 160
    beta1: float = 0.0
    beta2: float = 1.0
    beta3: float = 1.0
    adversary_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= b < float("inf") for b in self.betas):
            raise InputError(f"beta1, beta2 and beta3 must be 0 or more, got {self.betas}")
        if self.beta1 and self.size % STRIDE:
            raise InputError(f"with a decoder (beta1 > 0) size must be a multiple of {STRIDE}, got {self.size}")

    @property
    def betas(self) -> tuple[float, float, float]:
        return self.beta1, self.beta2, self.beta3

    def model(self, steps: int = 0) -> Disentangler:
        """A new model, to be trained in so many steps."""
        encoder = self.encoder()
        adversary = None
        if self.beta1 or self.beta3:
            adversary = Adversary(
                encoder.dimension, self.classes_told, self.adversary_rate, warmup=self.warmup, steps=steps
            )
        return Disentangler(encoder, self.classes_told, adversary=adversary, decoded=self.size if self.beta1 else 0)


def accuracies(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy, and the mean over the classes that occur of the accuracy on each: (N, C), (N,) → two numbers 0..1."""
    matrix = confusion(labels.cpu(), logits.argmax(1).cpu(), logits.shape[1])
    return accuracy(matrix), balanced_accuracy(matrix)


def fresh_classifier(codes: Tensor, labels: Tensor, *, decay: float = 1e-3) -> Callable[[Tensor], Tensor]:
    """A linear classifier fitted to (N, D) codes to its end, as a function (M, D) → (M, CLASSES) logits."""
    mean, deviation = codes.mean(0), codes.std(0) + 1e-6
    weight = torch.zeros(CLASSES, codes.shape[1], device=codes.device, requires_grad=True)
    bias = torch.zeros(CLASSES, device=codes.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def logits(codes: Tensor) -> Tensor:
        return F.linear((codes - mean) / deviation, weight, bias)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(codes), labels) + decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return lambda codes: logits(codes).detach()


def pair_similarities(codes: Tensor, labels: Tensor, persons: Tensor) -> tuple[float, float]:
    """Table 3: mean cosine similarity over pairs of one expression, and over pairs of two; NaN where there is no pair.

    Args:
        codes: (N, D). labels: (N,).
        persons: (N,) numbers, -1 unknown. Two faces of one person are no pair; unknown people are different ones.
    """
    z = F.normalize(codes.float(), dim=1)
    sums, counts = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for i in range(len(z) - 1):
        cosines = (z[i + 1 :] @ z[i]).double()
        other = (persons[i + 1 :] != persons[i]) | (persons[i] < 0)
        for kind, same in enumerate((labels[i + 1 :] == labels[i], labels[i + 1 :] != labels[i])):
            sums[kind] += cosines[other & same].sum().cpu()
            counts[kind] += (other & same).sum().cpu()
    same_mean, different_mean = (sums / counts).tolist()
    return same_mean, different_mean


@torch.no_grad()
def all_codes(model: Disentangler, faces: FaceArrays, *, batch: int = 256) -> tuple[Tensor, Tensor | None]:
    """(N, D) float32 expression codes and those of the other branch, without augmentation."""
    model.eval()
    found = []
    for b in faces.ordered(batch):
        with autocast(b.images.device, enabled=b.images.device.type == "cuda"):
            found.append(model.codes(b.images.contiguous(memory_format=torch.channels_last)))
    expression = torch.cat([e.float() for e, _ in found])
    rest = [r.float() for _, r in found if r is not None]
    return expression, torch.cat(rest) if rest else None


def disentanglement_scores(
    model: Disentangler, faces: FaceArrays, refit: Callable[[Tensor], Tensor] | None
) -> dict[str, float]:
    """What tables 1 to 3 show, of one split.

    `expression_accuracy` of C_exp and `adversary_accuracy` of C_adv (0..1); with `_mean_class`, the mean over the
    classes. `refit_…`: of a fresh linear classifier, fitted on the other branch's codes of training faces after
    training: C_adv can be at a loss before a code that a better judge still reads. `majority`: share of the commonest
    class, the accuracy of always guessing it. `cosine_same`, `cosine_different`: see `pair_similarities`.
    `pixel_error`: mean squared error of the decoder, a pixel.
    """
    expression, rest = all_codes(model, faces)
    labels = faces.labels
    persons = faces.extra.get("person", torch.full_like(labels, -1))
    scores = {"majority": float(torch.bincount(labels).max()) / len(labels)}
    judges = {
        "expression": (model.expression, expression),
        "adversary": (model.adversary, rest),
        "refit": (refit, rest),
    }
    for name, (judge, codes) in judges.items():
        if judge is not None and codes is not None:
            with torch.no_grad():
                share, mean_class = accuracies(judge(codes), labels)
            scores |= {f"{name}_accuracy": share, f"{name}_mean_class": mean_class}
    same, different = pair_similarities(expression, labels, persons)
    scores |= {"cosine_same": same, "cosine_different": different}
    if model.decoder is not None and rest is not None:
        scores["pixel_error"] = _pixel_error(model, faces, expression, rest)
    return scores


@torch.no_grad()
def _pixel_error(model: Disentangler, faces: FaceArrays, expression: Tensor, rest: Tensor, batch: int = 256) -> float:
    total, pixels = 0.0, 0
    for b, e, r in zip(faces.ordered(batch), torch.split(expression, batch), torch.split(rest, batch), strict=True):
        total += float((model.decode(e, r) - model.seen(b.images)).square().sum())
        pixels += b.images.numel()
    return total / pixels


class Disentangle(Recipe[DisentangleConfig, Disentangler]):
    """The recipe; its `best.pt` holds all of the model for `exprmetric probe exchange`.

    Scores: see `disentanglement_scores`.
    """

    settings = DisentangleConfig

    @staticmethod
    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> Arrays:
        """`person` (N,); see `FaceDataset.persons`."""
        return {"person": dataset.persons(keep)}

    def build(self) -> Disentangler:
        return self.config.model(self.config.epochs * self.batches)

    def step(self, model: Disentangler, batch: Batch) -> Losses:
        return model.losses(self.seen(model, batch), batch.labels, self.config.betas)

    def scores(self) -> Scores:
        whole = self.faces["train"]
        some = torch.randperm(len(whole), generator=torch.Generator().manual_seed(self.config.seed))[:REFIT]
        train = whole.subset(some.to(self.device))
        _, rest = all_codes(self.model, train)
        refit = fresh_classifier(rest, train.labels) if rest is not None else None
        return {split: dict(disentanglement_scores(self.model, faces, refit)) for split, faces in self.tested()}
