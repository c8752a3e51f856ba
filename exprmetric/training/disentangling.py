"""Paper 002's model: an expression branch, a branch for all else, an adversary that looks for expressions in it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.encoder.distributed import average_gradients
from exprmetric.encoder.models import Encoder
from exprmetric.encoder.necks import four_convolutions
from exprmetric.errors import InputError
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.optimisers import OPTIMISERS, warm_cosine

STRIDE = 32
"""The decoder's first layer makes a map of S / 32, the five others double its side."""
DEVIATION = 0.25
"""Of the pixels that the decoder learns to give back; their mean is 0.5."""


def reconstruction(decoded: Tensor, images: Tensor) -> Tensor:
    """L_r = ‖x - x'‖²: squared differences of two (B, 1, S, S), summed over the pixels; the mean over the faces."""
    return (decoded.float() - images.float()).square().flatten(1).sum(1).mean()


def uncertainty(logits: Tensor) -> Tensor:
    """L_En^adv of equation (2): minus the mean of (B, N) log-probabilities; least, log N, where all are equal."""
    return -F.log_softmax(logits.float(), dim=1).mean()


class Decoder(nn.Module):
    """(B, 2 D) both codes → (B, C, S, S) pixels 0..1, by six deconvolutions.

    Between them batch norm, as in the branches, and leaky ReLU; a sigmoid at the end.

    Args:
        codes: 2 D.
        size: S, a multiple of 32.
        channels: C.
    """

    def __init__(self, codes: int, size: int, channels: int = 1) -> None:
        super().__init__()
        if size % STRIDE:
            raise InputError(f"the decoder makes images whose side is a multiple of {STRIDE} px, not {size}")
        widths = [codes, 256, 256, 128, 64, 32, channels]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            side, stride, padding = (size // STRIDE, 1, 0) if i == 0 else (4, 2, 1)
            layers.append(nn.ConvTranspose2d(before, after, side, stride, padding, bias=after == channels))
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(0.2)] if after > channels else [nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)

    def forward(self, codes: Tensor) -> Tensor:
        decoded: Tensor = self.layers(codes[:, :, None, None])
        return decoded


class Adversary(nn.Module):
    """C_exp^adv: a linear classifier that is constant for everything but its own step.

    Its weights ask for no gradient, so that no optimiser around it takes them and L_En^adv passes through them; `learn`
    moves them with an optimiser that is theirs alone. That one's state goes with the weights into every checkpoint.

    Args:
        rate: learning rate. warmup, steps: of its way up and down, see `warm_cosine`; 0 steps: it stays.
    """

    def __init__(self, dimension: int, classes: int, rate: float, *, warmup: int = 0, steps: int = 0) -> None:
        super().__init__()
        self.classifier = nn.Linear(dimension, classes).requires_grad_(False)
        self.optimizer = OPTIMISERS["adamw"](self.classifier.parameters(), rate, 0.0)
        self.schedule = warm_cosine(self.optimizer, warmup, steps) if steps else None

    def forward(self, codes: Tensor) -> Tensor:
        """(B, D) → (B, classes) logits."""
        logits: Tensor = self.classifier(codes)
        return logits

    def learn(self, codes: Tensor, labels: Tensor) -> Tensor:
        """One step down L_exp^adv of equation (2), with everything else constant; the loss before it."""
        self.classifier.requires_grad_(True)
        loss = F.cross_entropy(self(codes.detach()), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.classifier.parameters())
        self.classifier.requires_grad_(False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()
        return loss.detach()

    def get_extra_state(self) -> dict[str, Any]:
        schedule = self.schedule.state_dict() if self.schedule is not None else {}
        return {"optimizer": self.optimizer.state_dict(), "schedule": schedule}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


class Disentangler(nn.Module):
    """Figure 1.

    Args:
        encoder: En_base and, as its neck, B_exp.
        classes: expressions.
        adversary: for the codes of B_non-exp; None: without it, that branch and a decoder this is the paper's baseline.
        decoded: side of the images that a decoder gives back, px; 0: no decoder.

    Attributes:
        expression: C_exp, linear.
    """

    def __init__(self, encoder: Encoder, classes: int, *, adversary: Adversary | None, decoded: int = 0) -> None:
        super().__init__()
        if decoded and adversary is None:
            raise InputError("a decoder needs the branch for what is no expression, and its adversary")
        width = encoder.dimension
        self.encoder = encoder
        self.expression = nn.Linear(width, classes)
        self.rest = four_convolutions(encoder.features, width) if adversary is not None else None
        self.adversary = adversary
        self.decoder = Decoder(2 * width, decoded, encoder.channels) if decoded else None

    def codes(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 1, S, S) luma 0..1 → code_exp (B, D) and code_non-exp (B, D), or None without that branch."""
        features = self.encoder.feature_map(images)
        return self.encoder.embed_map(features), self.rest(features) if self.rest is not None else None

    def decode(self, expression: Tensor, rest: Tensor) -> Tensor:
        """Both codes (B, D) → (B, 1, S, S), in the brightness and contrast of `seen`.

        Raises:
            InputError: there is no decoder.
        """
        if self.decoder is None:
            raise InputError("the model was trained without a decoder")
        decoded: Tensor = self.decoder(torch.cat([expression, rest], 1))
        return decoded

    def seen(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) luma 0..1 → the same at mean 0.5 and deviation DEVIATION, cut off at 0 and 1.

        The encoder takes no brightness and no contrast in, so that no code of its can give them back.
        """
        standard: Tensor = self.encoder.standardise(images)
        return (0.5 + DEVIATION * standard).clamp(0, 1)

    def losses(self, images: Tensor, labels: Tensor, betas: tuple[float, float, float]) -> Losses:
        """Equation (3): terms with their weights, `total` of those that are optimised jointly, and the adversary's own.

        In training mode this is a step of the adversary, before the others are computed. Outside, `total` is without
        the uncertainty: it is least before an adversary that knows nothing, and tells no good epoch from a bad one.
        """
        with autocast(images.device):
            expression, rest = self.codes(images)
            decoded = self.decode(expression, rest) if self.decoder is not None and rest is not None else None
        terms: Losses = {"expression": betas[1] * F.cross_entropy(self.expression(expression.float()), labels)}
        if decoded is not None:
            terms["reconstruction"] = betas[0] * reconstruction(decoded, self.seen(images))
        game: Losses = {}
        if self.adversary is not None and rest is not None:
            rest = rest.float()
            if self.training:
                game["adversary"] = self.adversary.learn(rest, labels)
            else:
                game["adversary"] = F.cross_entropy(self.adversary(rest), labels)
            game["uncertainty"] = betas[2] * uncertainty(self.adversary(rest))
        total = torch.stack(list(terms.values())).sum()
        if self.training and game:
            total = total + game["uncertainty"]
        return {**terms, **game, "total": total}
