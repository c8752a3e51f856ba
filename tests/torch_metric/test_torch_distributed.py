"""Two ranks give the scores of one process on all the data: uneven batches, and a rank that has none."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from several_processes import needs_gloo, wait
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch_faces import batch, encoder, triplets

from exprmetric.torch import ExpressionLoss, ExpressionPreservation

pytestmark = [
    pytest.mark.torch,
    needs_gloo,
]

RANKS = 2
SECONDS = 120
"""After which a deadlock is a failure."""
SHARES = {"uneven": ([3, 3, 1], [4]), "an empty rank": ([5, 6], []), "empty batches": ([0, 4], [7, 0])}
"""How many triplets are in each batch of each rank; eleven together."""


def spawn(work: Any, folder: Path, *arguments: Any) -> list[dict[str, Any]]:
    """What each of two gloo processes returned; fails when they don't end in time."""
    context = mp.start_processes(_rank, (work, str(folder), arguments), RANKS, join=False, start_method="spawn")
    wait(context, SECONDS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def _rank(rank: int, work: Any, folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=timedelta(seconds=SECONDS)
    )
    torch.save(work(rank, *arguments), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def _parts(rank: int, share: str) -> list[list[torch.Tensor]]:
    """This rank's batches."""
    sizes = [size for ranks in SHARES[share] for size in ranks]
    cuts = list(zip(*(batch(i).split(sizes) for i in triplets()), strict=True))
    first = len(SHARES[share][0])
    return [list(c) for c in (cuts[:first] if rank == 0 else cuts[first:])]


def synced(rank: int, share: str, intervals: bool) -> dict[str, Any]:
    metric = ExpressionPreservation(encoder=encoder(quantise=True), intervals=intervals)
    for part in _parts(rank, share):
        metric.update(*part)
    broken = [torch.full((1, 3, 224, 224), float("nan"))] * 3
    if rank == 1:
        metric.update(*broken)  # is left out and changes nothing
    with metric.sync_context():
        left_out = int(metric.left_out)
    scores = metric.compute()
    local = int(metric.count)  # unsynced again
    metric.update(*(batch(i)[:1] for i in triplets()))
    return {"left_out": left_out, "scores": scores, "local": local, "after": int(metric.count)}


@pytest.mark.parametrize("intervals", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["sums", "intervals"])
@pytest.mark.parametrize("share", [s if s == "uneven" else pytest.param(s, marks=pytest.mark.slow) for s in SHARES])
def test_two_ranks_are_one(share: str, intervals: bool, tmp_path: Path, one_thread: None) -> None:
    found = spawn(synced, tmp_path, share, intervals)
    alone = ExpressionPreservation(encoder=encoder(quantise=True), intervals=intervals)
    alone.update(*(batch(i) for i in triplets()))
    expected = {k: v.item() for k, v in alone.compute().items()}
    assert len(expected) == (8 + 2 * 4 if intervals else 8)  # four scores have an interval
    for rank, result in enumerate(found):
        assert {k: v.item() for k, v in result["scores"].items()} == pytest.approx(expected, abs=1e-6)
        assert result["left_out"] == 1
        assert result["local"] == sum(SHARES[share][rank])
        assert result["after"] == result["local"] + 1


def without_source(rank: int) -> dict[str, Any]:
    """The first rank's faces have no source; the second's have none either, and in the end some have."""
    target, source, swapped = (batch(i) for i in triplets())
    own = slice(0, 6) if rank == 0 else slice(6, 11)
    metric, mixed = (ExpressionPreservation(encoder=encoder(quantise=True)) for _ in range(2))
    for one in (metric, mixed):
        one.update(target[own], None, swapped[own])
    if rank == 1:
        mixed.update(target[:3], source[:3], swapped[:3])
    return {"alone": metric.compute(), "mixed": mixed.compute()}


def test_two_ranks_without_a_source_have_no_score_that_needs_one(tmp_path: Path, one_thread: None) -> None:
    found = spawn(without_source, tmp_path)
    target, source, swapped = (batch(i) for i in triplets())
    whole, three = (ExpressionPreservation(encoder=encoder(quantise=True)) for _ in range(2))
    whole.update(target, source, swapped)
    three.update(target[:3], source[:3], swapped[:3])
    expected, of_three = whole.compute(), three.compute()
    for result in found:
        assert result["alone"].keys() == {"mean_t2c", "kept", "kept_nothing_swapped"}
        assert torch.isclose(result["alone"]["mean_t2c"], expected["mean_t2c"], atol=1e-6)
        for name in ("l2_error", "ratio", "mean_s2c", "mean_s2t"):
            assert torch.isclose(result["mixed"][name], of_three[name], atol=1e-6)


class Model(nn.Module):
    """A generator that carries its loss and its metric, as models of trainers do."""

    def __init__(self) -> None:
        super().__init__()
        self.shade = nn.Conv2d(3, 3, 1)
        self.loss = ExpressionLoss(encoder=encoder())
        self.metric = ExpressionPreservation(encoder=encoder(quantise=True))

    def forward(self, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        swapped = torch.sigmoid(self.shade(source))
        loss: torch.Tensor = self.loss(target, swapped)
        return loss


def stepped(rank: int) -> dict[str, Any]:
    """One training step of a replicated model, and the loss that a batch of all ranks' data would have."""
    torch.manual_seed(0)
    model = Model()
    replicated = DistributedDataParallel(model)
    target, source, _ = (batch(i)[2 * rank : 2 * rank + 2] / 255 for i in triplets())
    replicated(target, source).backward()
    gradient = model.shade.weight.grad
    assert gradient is not None
    return {"gradient": gradient, "keys": sorted(model.state_dict())}


@pytest.mark.slow
def test_a_replicated_model_trains_on_the_mean_of_the_ranks(tmp_path: Path, one_thread: None) -> None:
    found = spawn(stepped, tmp_path)
    torch.manual_seed(0)
    model = Model()
    target, source, _ = (batch(i)[:4] / 255 for i in triplets())
    model(target, source).backward()
    for result in found:
        assert result["keys"] == ["shade.bias", "shade.weight"]
        assert torch.allclose(result["gradient"], model.shade.weight.grad, rtol=1e-3, atol=1e-6)
