"""What `ExpressionPreservation` costs in a training loop; prints Markdown.

    python benchmarks/torch_cost.py            # on a GPU where there is one
    python benchmarks/torch_cost.py --quick    # one batch size, few rounds

1. `update` against the bare network on faces that are cut, grey and scaled already: what everything else adds.
2. The network in other memory formats and precisions.
3. `update` as a share of the training steps of a swap generator of real size, once every ten steps.

What is compared is timed in turns, and a ratio is the median over the turns, so that a busy machine slows both. On a
CPU, times are those of the process: what others do on the machine counts little.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.torch import ExpressionEncoder, ExpressionPreservation

SIDE = 224
RANGES = ("uint8", "0..1", "-1..1")
EVERY = 10
"""Training steps between two calls of `update`."""


class AdaIN(nn.Module):
    """Instance norm whose scale and shift come from an identity."""

    def __init__(self, channels: int, identity: int = 512) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.style = nn.Linear(identity, 2 * channels)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        scale, shift = self.style(identity)[:, :, None, None].chunk(2, 1)
        return self.norm(x) * (1 + scale) + shift


class Block(nn.Module):
    """Two convolutions, each followed by AdaIN, around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.styles = nn.ModuleList(AdaIN(channels) for _ in range(2))

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        y = x
        for convolution, style in zip(self.convolutions, self.styles, strict=True):
            y = F.leaky_relu(style(convolution(y), identity), 0.2)
        return x + y


class SwapUNet(nn.Module):
    """(B, 3, 256, 256) target and (B, 512) identity → (B, 3, 256, 256): a U-Net with AdaIN, as swap models have."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512, 512), blocks: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, widths[0], 7, padding=3)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairs)
        self.middle = nn.ModuleList(Block(widths[-1]) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Conv2d(b + a, a, 3, padding=1) for a, b in reversed(pairs))
        self.styles = nn.ModuleList(AdaIN(a) for a, _ in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 3, 7, padding=3)

    def forward(self, target: Tensor, identity: Tensor) -> Tensor:
        x = self.first(target)
        skips = []
        for layer in self.down:
            skips.append(x)
            x = F.leaky_relu(layer(x), 0.2)
        for block in self.middle:
            x = block(x, identity)
        for layer, style in zip(self.up, self.styles, strict=True):
            x = torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], 1)
            x = F.leaky_relu(style(layer(x), identity), 0.2)
        out: Tensor = torch.tanh(self.last(x))
        return out


def in_turns(tasks: dict[str, Callable[[], object]], rounds: int, wait: Callable[[], None]) -> dict[str, list[float]]:
    """Seconds of each task, one after the other in every round."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            wait()
            start = clock()
            task()
            wait()
            seconds[name].append(clock() - start)
    return seconds


def ratio(over: list[float], under: list[float]) -> float:
    """Median over the turns."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def milliseconds(seconds: list[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f}"


def images(batch: int, kind: str, device: torch.device) -> list[Tensor]:
    """Target, source, swapped."""
    pixels = torch.randint(0, 256, (3, batch, 3, SIDE, SIDE), dtype=torch.uint8, device=device)
    if kind == "uint8":
        return list(pixels)
    values = pixels.float() / 255
    return list(values if kind == "0..1" else 2 * values - 1)


def overhead(batches: list[int], rounds: int, device: torch.device, wait: Callable[[], None]) -> Iterator[str]:
    yield "| triplets | images | bare network, ms | `update`, ms | overhead |"
    yield "| ---: | --- | ---: | ---: | ---: |"
    encoder = ExpressionEncoder(quantise=True).to(device)
    size = encoder.architecture.size
    for batch in batches:
        faces = torch.rand(3 * batch, 1, size, size, device=device)
        for kind in RANGES:
            metric = ExpressionPreservation(encoder=encoder, value_range=(-1.0, 1.0) if kind == "-1..1" else (0.0, 1.0))
            metric = metric.to(device)
            given = images(batch, kind, device)

            def bare(faces: Tensor = faces) -> Tensor:
                with torch.no_grad():
                    return encoder.represent(faces)

            def update(metric: ExpressionPreservation = metric, given: list[Tensor] = given) -> None:
                metric.update(*given)

            found = in_turns({"bare": bare, "update": update}, rounds * max(1, 8 // batch), wait)
            share = f"{100 * (ratio(found['update'], found['bare']) - 1):+.1f} %"
            yield f"| {batch} | {kind} | {milliseconds(found['bare'])} | {milliseconds(found['update'])} | {share} |"


def formats(batches: list[int], rounds: int, device: torch.device, wait: Callable[[], None]) -> Iterator[str]:
    yield "| faces | float32 | channels last (used) | and bfloat16 | gain | gain of bfloat16 |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    plain, used = (ExpressionEncoder().to(device) for _ in range(2))
    plain.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    half = ExpressionEncoder(precision=torch.bfloat16).to(device)
    for batch in batches:
        faces = torch.rand(3 * batch, 1, used.architecture.size, used.architecture.size, device=device)

        def contiguous(faces: Tensor = faces) -> Tensor:
            with torch.no_grad():
                out: Tensor = plain.network(faces)
                return out

        def represented(encoder: ExpressionEncoder, faces: Tensor = faces) -> Tensor:
            with torch.no_grad():
                return encoder.represent(faces)

        tasks: dict[str, Callable[[], object]] = {
            "plain": contiguous,
            "used": lambda f=faces: represented(used, f),  # type: ignore[misc]
            "half": lambda f=faces: represented(half, f),  # type: ignore[misc]
        }
        found = in_turns(tasks, rounds, wait)
        times = " | ".join(f"{milliseconds(found[name])} ms" for name in tasks)
        gains = " | ".join(f"{ratio(found['plain'], found[name]):.2f} x" for name in ("used", "half"))
        yield f"| {3 * batch} | {times} | {gains} |"


def step_share(batch: int, rounds: int, device: torch.device, wait: Callable[[], None]) -> Iterator[str]:
    generator = SwapUNet().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = sum(p.numel() for p in generator.parameters()) / 1e6
    optimizer = torch.optim.Adam(generator.parameters())
    target, source = (torch.rand(batch, 3, 256, 256, device=device) * 2 - 1 for _ in range(2))
    identity = torch.randn(batch, 512, device=device)
    metric = ExpressionPreservation(value_range=(-1, 1), align="center_crop", crop_fraction=0.8).to(device)
    swapped = target.clone()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.l1_loss(generator(target, identity), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    found = in_turns({"step": step, "update": lambda: metric.update(target, source, swapped)}, rounds, wait)
    share = ratio(found["update"], found["step"]) / EVERY
    yield f"| batch | training step, ms | `update`, ms | share at every {EVERY} steps |"
    yield "| ---: | ---: | ---: | ---: |"
    yield f"| {batch} | {milliseconds(found['step'])} | {milliseconds(found['update'])} | {100 * share:.1f} % |"
    yield ""
    yield f"U-Net with AdaIN, 256 px, {parameters:.0f} million parameters, bfloat16 autocast, L1 loss, Adam."


def machine(device: torch.device) -> str:
    """What it ran on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


@contextmanager
def no_syncs(device: torch.device) -> Iterator[None]:
    """On a GPU, whatever makes the host wait raises."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--step-batch", type=int, help="of the generator; 0 leaves it out")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    if options.quick:
        options.batches, options.rounds, options.step_batch = [2], 3, options.step_batch or 0
    if options.step_batch is None:
        options.step_batch = 16 if device.type == "cuda" else 1
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    metric = ExpressionPreservation().to(device)
    given = images(2, "0..1", device)
    metric.update(*given)
    with no_syncs(device):
        metric.update(*given)

    print(f"Measured on {machine(device)}.\n")
    for line in overhead(options.batches, options.rounds, device, wait):
        print(line, flush=True)
    print()
    for line in formats(options.batches, options.rounds, device, wait):
        print(line, flush=True)
    if options.step_batch:
        print()
        for line in step_share(options.step_batch, max(3, options.rounds // 7), device, wait):
            print(line, flush=True)


if __name__ == "__main__":
    main()
