"""A network that a training run uses and must never touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def only_device(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of what `.to()`, `.half()`, `.to_empty()` would do to a tensor, the move to another device alone."""
    return lambda tensor: tensor.to(fn(tensor).device)


class Frozen(nn.Module):
    """Holds a network without owning it: not in `parameters()`, `buffers()` or `state_dict()`, always in eval mode.

    So no optimizer sees it, no checkpoint grows by it, DDP broadcasts no buffers of it and FSDP leaves it whole on
    every rank. It follows `.to(device)`, and keeps its precision when the model around it is turned to half.

    Args:
        network: put in eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._held = [network.eval()]  # in a list, so that torch doesn't register it

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self._held[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.network._apply(only_device(fn))  # type: ignore[no-untyped-call]
        return self

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.network(images)
        return out
