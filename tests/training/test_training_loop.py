"""One training loop: in several processes, cut off and resumed, in a chosen precision, with curves."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from several_processes import needs_gloo, spawn
from torch import nn
from torch.nn import functional as F

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.encoder import distributed, precision
from exprmetric.encoder.checkpoint import load_checkpoint, save_checkpoint
from exprmetric.errors import InputError, MissingPackageError, ProviderError
from exprmetric.training.loop import Losses, autocast, pick_device
from exprmetric.training.losses import supervised_contrastive
from exprmetric.training.recipes.common import Augmenter, RecipeConfig, load_faces
from exprmetric.training.recipes.recipe import Recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

CPU = torch.device("cpu")
SIDE = 12
PLAIN = RecipeConfig(
    backbone="resnet18", size=SIDE, batch=16, epochs=3, patience=9, optimiser="sgd", learning_rate=0.2, warmup=3,
    augment="none", average=0.8, precision="float32", seed=5,
)  # fmt: skip
"""No chance but the order of faces: what two processes can have in common with one."""
CHANCE = replace(PLAIN, optimiser="adamw", learning_rate=0.01, augment="robust")


def faces(count: int, seed: int = 0) -> FaceArrays:
    """Noise that is brighter on the left in one class and at the top in the other; (N, 1, 12, 12)."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=chance)
    images = torch.randint(0, 120, (count, 1, SIDE, SIDE), generator=chance)
    images[labels == 0, :, :, :5] += 110
    images[labels == 1, :, :5] += 110
    nan = torch.full((count,), float("nan"))
    return FaceArrays(images.byte(), labels, torch.full((count, 8), float("nan")), nan, nan)


FACES = {"train": faces(75), "valid": faces(37, seed=1)}


class Network(nn.Module):
    """What a recipe's model is like: parts that the step calls one by one. `unused` has no gradient."""

    def __init__(self, *, chance: bool = False) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.encoder = nn.Sequential(nn.Conv2d(1, 6, 5, stride=3), nn.Tanh(), nn.Flatten(), nn.Linear(54, 8))
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(2, 2)
        if chance:
            self.encoder.insert(1, nn.BatchNorm2d(6))
            self.encoder.append(nn.Dropout(0.3))


def losses(model: nn.Module, batch: Batch) -> Losses:
    """A loss of each face, and one that compares the faces of all processes' batches."""
    embedding = model.encoder(batch.images)
    everyone, labels = distributed.gather(embedding), distributed.gather(batch.labels)
    terms = {
        "classes": F.cross_entropy(model.head(embedding), batch.labels),
        "contrastive": supervised_contrastive(everyone, labels, temperature=0.5),
    }
    return {**terms, "total": terms["classes"] + terms["contrastive"]}


def fit(
    model: nn.Module, step: Any, config: RecipeConfig, out: Path, augmenter: Augmenter, after: Any = lambda: None
) -> None:
    """A recipe that is no more than this model and this step."""

    class Plain(Recipe[RecipeConfig, nn.Module]):
        def build(self) -> nn.Module:
            return model

        def step(self, model: nn.Module, batch: Batch) -> Losses:
            return step(model, batch)

        def after_step(self) -> None:
            after()

    plain = Plain(FACES, config, out)
    plain.augmenter = augmenter
    plain.fit()


def train(
    config: RecipeConfig, out: Path, *, chance: bool = False, before: Any = None, validated: Any = None
) -> dict[str, torch.Tensor]:
    """The final weights. Called in each step: `before(step number)` in training, `validated(model)` in validation."""
    model, augmenter, count = Network(chance=chance), Augmenter(config, CPU), 0

    def step(model: nn.Module, batch: Batch) -> Losses:
        nonlocal count
        if model.training:
            count += 1
            if before is not None:
                before(count)
            batch = replace(batch, images=augmenter(batch.images))
        elif validated is not None:
            validated(model)
        return losses(model, batch)

    fit(model, step, config, out, augmenter)
    return {name: value.clone() for name, value in model.state_dict().items()}


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# --- several processes ---


def changes_below(folder: Path) -> list[str]:
    """A list that grows by each file that this process opens to write, makes, moves or removes in the folder."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in {"os.mkdir", "os.rename", "os.remove"} or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes and str(arguments[0]).startswith(str(folder)):
            seen.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)
    return seen


def _half_each(folder: Path) -> dict[str, Any]:
    out = folder / "two"
    written = changes_below(out)
    config = replace(PLAIN, batch=PLAIN.batch // 2, tensorboard=find_spec("tensorboard") is not None)
    return {"weights": train(config, out), "written": written, "steps": load_checkpoint(out / "last.pt")["scheduler"]}


def _broken_and_whole(folder: Path) -> dict[str, Any]:
    norms: list[torch.Tensor] = []
    whole = train(
        CHANCE,
        folder / "whole",
        chance=True,
        validated=lambda model: norms.append(model.encoder[1].running_mean.clone()),
    )
    for _ in range(3):
        broken = train(replace(CHANCE, minutes=1e-9), folder / "broken", chance=True)
    chance = Augmenter(CHANCE, CPU)
    chance.start(0)
    same = FACES["train"].images[:1].float() / 255
    order = torch.rand(3, generator=chance.order)
    return {"whole": whole, "broken": broken, "norms": norms, "view": chance(same), "order": order}


def _averages(folder: Path) -> dict[str, Any]:
    rank = distributed.rank()
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("both", "one", "none")})
    model["norm"] = nn.BatchNorm1d(2)
    model["norm"].running_mean.fill_(float(rank))
    model["frozen"] = nn.Linear(1, 1).requires_grad_(False)
    model["frozen"].bias.fill_(float(rank))
    model.both.weight.grad = torch.full((1, 1), 2.0 + rank)
    if rank:
        model.one.weight.grad = torch.ones(1, 1)
    distributed.average_gradients(model.parameters())
    distributed.synchronise(model)
    cached = folder / "cache"
    with distributed.main_first():
        found = cached.exists()
        time.sleep(0.3 * (rank == 0))
        cached.touch()
    rows = (torch.arange(2.0) + 2 * rank).requires_grad_()
    (distributed.gather(rows) ** 2 * torch.arange(4.0)).sum().backward()
    return {
        "gradients": [None if p.grad is None else float(p.grad) for p in (model[n].weight for n in ("both", "one"))],
        "none": model.none.weight.grad is None,
        "running": model["norm"].running_mean.tolist(),
        "frozen": float(model["frozen"].bias.detach()),
        "mean": distributed.mean({"a": float(rank), "b": 4.0}),
        "main": distributed.from_main(7 + rank),
        "found": found,
        "rows": rows.grad,
    }


def _all(folder: Path) -> dict[str, Any]:
    works = {"half": _half_each, "resumed": _broken_and_whole, "exchanged": _averages}
    return {name: work(folder) for name, work in works.items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    """What two processes found, which are started once for all tests, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    return spawn(_all, folder), folder


@pytest.mark.slow
@needs_gloo
def test_two_processes_give_the_weights_of_one_with_the_doubled_batch(two, tmp_path: Path):
    results, out = [result["half"] for result in two[0]], two[1] / "two"
    weights = train(PLAIN, tmp_path)
    start = Network().state_dict()
    assert not torch.allclose(weights["encoder.0.weight"], start["encoder.0.weight"], atol=0.02)  # something is learned
    for rank in (0, 1):
        for name, value in weights.items():
            torch.testing.assert_close(results[rank]["weights"][name], value, atol=2e-5, rtol=1e-4, msg=name)
    assert all(torch.equal(v, results[1]["weights"][k]) for k, v in results[0]["weights"].items())
    assert results[0]["steps"]["last_epoch"] == 3 * (75 // 16)
    for ours, theirs in zip(log(out), log(tmp_path), strict=True):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-4)
        assert ours["learning_rate"] == theirs["learning_rate"]


@needs_gloo
def test_only_the_first_process_writes(two):
    first, second = (result["half"] for result in two[0])
    assert any("last.pt" in line for line in first["written"]) and any("log.jsonl" in line for line in first["written"])
    assert second["written"] == []
    assert len(log(two[1] / "two")) == 3


@needs_gloo
def test_two_processes_that_go_on_end_where_unbroken_ones_do(two):
    first, second = (result["resumed"] for result in two[0])
    assert len(log(two[1] / "broken")) == 3
    for name, value in first["whole"].items():
        for other in (first["broken"], second["whole"], second["broken"]):
            assert torch.equal(other[name], value), name
    assert torch.equal(torch.stack(first["norms"]), torch.stack(second["norms"]))  # one model is validated
    assert torch.equal(first["order"], second["order"])  # of the same batches …
    assert not torch.equal(first["view"], second["view"])  # … each process has other views


@needs_gloo
def test_what_processes_exchange(two):
    results = [result["exchanged"] for result in two[0]]
    for rank, result in enumerate(results):
        assert result["gradients"] == [2.5, 0.5]  # one that a process doesn't have is zero …
        assert result["none"]  # … and what no process has stays without
        assert result["running"] == [0.5, 0.5] and result["frozen"] == 0.0
        assert result["mean"] == {"a": 0.5, "b": 4.0} and result["main"] == 7
        assert result["found"] is (rank == 1)
    # sum of k·x², once for each of two processes: 2 · 2kx
    assert torch.cat([r["rows"] for r in results]).tolist() == [0.0, 4.0, 16.0, 36.0]


@pytest.mark.parametrize(("count", "few"), [(7, False), (6, True), (2, True), (2, False), (0, True)])
def test_every_batch_is_of_one_process_and_all_get_as_many(count: int, few: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(list(distributed.share(range(count), few=few)))
    if count < 3:
        assert shares == [list(range(count)) if few else []] * 3
    else:
        assert shares == [list(range(rank, count // 3 * 3, 3)) for rank in range(3)]


def test_a_gpu_for_each_process_or_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert pick_device("cuda:1") == torch.device("cuda:1") and pick_device("auto") == torch.device("cuda")
    for name, value in {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="cuda:1 is one GPU"):
        pick_device("cuda:1")
    with pytest.raises(ProviderError, match="process 2 of this machine has no GPU: it sees 2"):
        pick_device("auto")


# --- cut off and resumed ---


def _killed(_: int, out: str) -> None:
    torch.set_num_threads(1)
    train(CHANCE, Path(out), chance=True, before=lambda step: step == 10 and os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_that_was_killed_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path):
    with pytest.raises(mp.ProcessExitedException) as killed:
        mp.start_processes(_killed, (str(tmp_path / "killed"),), 1, start_method="spawn")
    assert killed.value.signal_name == "SIGKILL"
    assert load_checkpoint(tmp_path / "killed" / "last.pt")["epoch"] == 2  # four steps an epoch: in the third
    steps: list[int] = []
    resumed = train(CHANCE, tmp_path / "killed", chance=True, before=steps.append)
    assert len(steps) == 4
    whole = train(CHANCE, tmp_path / "whole", chance=True)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    other = train(replace(CHANCE, seed=6), tmp_path / "other", chance=True)
    assert not torch.equal(other["head.weight"], whole["head.weight"])  # chance does matter
    assert [line["valid"] for line in log(tmp_path / "killed")] == [line["valid"] for line in log(tmp_path / "whole")]


def test_a_run_goes_on_with_as_many_processes_as_before(tmp_path: Path):
    train(replace(PLAIN, epochs=1), tmp_path)
    last = load_checkpoint(tmp_path / "last.pt")
    save_checkpoint(tmp_path / "last.pt", {**last, "processes": 2})
    with pytest.raises(InputError, match="processes was 2, is 1"):
        train(PLAIN, tmp_path)
    del last["processes"]  # a checkpoint of before there could be several
    save_checkpoint(tmp_path / "last.pt", last)
    train(replace(PLAIN, tensorboard=find_spec("tensorboard") is not None), tmp_path)
    assert [line["epoch"] for line in log(tmp_path)] == [1, 2, 3]


# --- precision, curves, hooks ---


@pytest.mark.parametrize(
    ("chosen", "fast", "dtype"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("float32", True, torch.float32),
    ],
)
def test_layers_compute_in_the_precision_that_the_run_says(
    chosen: str, fast: bool, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: fast)
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    model = Network()

    def step(model: nn.Module, batch: Batch) -> Losses:
        with autocast(batch.images.device):
            out = model.head(model.encoder(batch.images))
        with autocast(batch.images.device, enabled=False):
            assert model.head(out.float().repeat(1, 4)).dtype == torch.float32
        seen[model.training].add(out.dtype)
        return {"total": out.float().square().mean()}

    config = replace(PLAIN, epochs=1, average=0.0, precision=chosen)
    fit(model, step, config, tmp_path, Augmenter(config, CPU))
    assert seen == {True: {dtype}, False: {dtype}}
    name = str(dtype).removeprefix("torch.")
    said = " ".join(capsys.readouterr().err.split())
    assert f"layers compute in {name} (cpu)" in said
    assert ("only emulates bfloat16" in said) is (chosen == "bfloat16")
    assert [line["precision"] for line in log(tmp_path)] == [name]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with autocast(CPU):  # the setting ends with the run
        assert model.head(torch.ones(1, 8)).dtype == (torch.bfloat16 if fast else torch.float32)
    with autocast(CPU, precision="float32"):
        assert model.head(torch.ones(1, 8)).dtype == torch.float32


@pytest.mark.parametrize(("capability", "half"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_leaves_bfloat16_to_gpus_that_have_it(
    capability: tuple[int, int], half: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(precision, "_has_bfloat16", precision._has_bfloat16.__wrapped__)
    assert precision._has_bfloat16(torch.device("cuda:0")) is half


def test_auto_is_never_the_much_slower_precision_on_this_cpu():
    """Measured on a MobileNet's block, forwards and backwards."""
    block = nn.Sequential(nn.Conv2d(8, 48, 1), nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.Conv2d(48, 8, 1))
    images = torch.rand(4, 8, 28, 28)

    def seconds(chosen: str) -> float:
        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            with autocast(CPU, precision=chosen):
                out = block(images)
            out.float().sum().backward()
            taken.append(time.perf_counter() - begun)
        return min(taken)

    assert seconds("auto") < 3 * seconds("float32")


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512", "amx", "half"),
    [
        ("x86_64", False, False, False, False),  # AVX2 alone
        ("x86_64", True, False, False, False),  # AVX-512 without bfloat16: oneDNN emulates it
        ("AMD64", True, True, False, True),
        ("x86_64", True, False, True, True),
        ("x86_64", False, True, True, False),  # held back by ONEDNN_MAX_CPU_ISA
        ("aarch64", True, False, False, True),
        ("aarch64", False, False, False, False),
    ],
)
def test_auto_asks_the_backend_whether_the_cpu_has_bfloat16(
    machine: str, onednn: bool, avx512: bool, amx: bool, half: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(precision, "_has_bfloat16", precision._has_bfloat16.__wrapped__)
    assert precision.computed_in(CPU, "auto") == ("bfloat16" if half else "float32")


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="'float8'; known: auto, float32, bfloat16"):
        replace(PLAIN, precision="float8")
    with pytest.raises(InputError, match="'half'"):
        autocast(CPU, precision="half")


def test_curves_for_tensorboard_are_those_of_the_log(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(PLAIN, tensorboard=True)
    train(replace(config, epochs=2), tmp_path)
    train(config, tmp_path)  # a resumed run adds to the curves
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    lines = log(tmp_path)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for part in ("train", "valid"):
        assert set(lines[0][part]) == {"classes", "contrastive", "total"}
        for name in lines[0][part]:
            curve = {e.step: e.value for e in events.Scalars(f"{part}/{name}")}
            assert curve == pytest.approx({line["epoch"]: line[part][name] for line in lines}, rel=1e-6)
    assert [e.value for e in events.Scalars("learning_rate")] == pytest.approx([x["learning_rate"] for x in lines])


def test_without_tensorboard_a_run_that_wants_it_ends_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = replace(PLAIN, tensorboard=True)
    with pytest.raises(MissingPackageError, match=r"exprmetric\[recipes\]"):
        load_faces([tmp_path / "no such data set"], config, tmp_path / "out")
    with pytest.raises(MissingPackageError, match=r"exprmetric\[recipes\]"):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    train(PLAIN, tmp_path / "out")
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_the_hook_follows_each_step_of_the_optimiser(tmp_path: Path):
    model, seen = Network(), []
    config = replace(PLAIN, epochs=2, average=0.0)

    def step(model: nn.Module, batch: Batch) -> Losses:
        if model.training:
            seen.append(("step", model.head.weight.detach().clone()))
        return losses(model, batch)

    def after() -> None:
        seen.append(("after", model.head.weight.detach().clone()))

    fit(model, step, config, tmp_path, Augmenter(config, CPU), after=after)
    assert [name for name, _ in seen] == ["step", "after"] * (2 * (75 // 16))
    for (_, before), (_, then) in zip(seen[::2], seen[1::2], strict=True):
        assert not torch.equal(before, then)  # the weights have moved when it is called
    for (_, then), (_, before) in zip(seen[1:-1:2], seen[2::2], strict=True):
        assert torch.equal(then, before)
