"""How fast `exprmetric evaluate` is, measured beside what it is compared with.

    python benchmarks/speed.py                # (a) against a plain loop, (b) against the bare kernels; some minutes
    python benchmarks/speed.py --growth       # (c) 1,000, 10,000 and 100,000 triplets; half an hour

Prints a Markdown table. SCRFD's weights must be there (`exprmetric weights pull scrfd-500m`). Leave the machine alone
while it runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import material
import numpy as np
from kernels import kernels

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from exprmetric_cli.main import main; main(prog_name='exprmetric')", "evaluate"]
LIKE_THE_LOOP = ["--detector", "scrfd", "--no-identity", "--no-cache", "--quiet", "--format", "csv"]


def machine() -> str:
    """Processor, cores that may be used, Python and ONNX Runtime."""
    import onnxruntime

    names = [x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    cores = len(os.sched_getaffinity(0))
    name = names[0] if names else platform.processor()
    return f"{name}, {cores} cores; Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}"


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall-clock seconds of a program from its start to its end, and the peak memory of all its processes in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.1)
    spent = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return spent, peak


def memory(pid: int) -> float:
    """MB of a process and those that it began; what several share is counted once."""
    try:
        shares = re.findall(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        born = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return 0.0
    return sum(map(int, shares)) / 1024 + sum(map(memory, born))


def against_the_loop(manifest: Path, triplets: int, rounds: int) -> tuple[float, float]:
    """Triplets a second of the plain loop and of exprmetric, start-up included; medians of rounds side by side."""
    loop, ours = [], []
    for _ in range(rounds):
        loop.append(seconds([sys.executable, str(HERE / "plain_loop.py"), str(manifest)])[0])
        ours.append(seconds([*COMMAND, str(manifest), *LIKE_THE_LOOP])[0])
    return triplets / statistics.median(loop), triplets / statistics.median(ours)


def pipeline(manifest: Path, images: int) -> float:
    """Milliseconds an image of a whole evaluation in this process, without loading the models."""
    from exprmetric import evaluate

    throughput = evaluate(manifest, detector="scrfd", identity=False).summary["throughput"]
    return (throughput["seconds"] - throughput["thread_seconds_by_stage"]["load models"]) / images * 1e3


def speed(rounds: int, targets: int, sources: int, swaps_each: int, folder: Path) -> None:
    """Tables (a) and (b)."""
    triplets = targets * swaps_each
    images = targets + sources + triplets
    print(f"{machine()}. {sources} sources into {targets} targets, {triplets} triplets, {images} distinct images.\n")
    print("| images | plain loop, triplets/s | exprmetric, triplets/s | ratio | ms an image | kernels' limit | share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    details = []
    for kind in material.KINDS:
        manifest = material.swaps(
            folder / kind.split()[0], kind, targets=targets, sources=sources, swaps_each=swaps_each
        )
        loop, ours = against_the_loop(manifest, triplets, rounds)
        some = sorted((manifest.parent / "target").iterdir())[:100]
        limits, spent = [], []
        for _ in range(rounds):
            limits.append(kernels(some))
            spent.append(pipeline(manifest, images))
        limit = statistics.median(sum(x.in_turn.values()) for x in limits) / len(os.sched_getaffinity(0))
        own = statistics.median(spent)
        print(f"| {kind} | {loop:.1f} | {ours:.1f} | {ours / loop:.1f} | {own:.2f} | {limit:.2f} | {limit / own:.0%} |")
        for way in ("in_turn", "alone"):
            each = [getattr(x, way) for x in limits]
            parts = ", ".join(f"{n} {statistics.median(x[n] for x in each):.2f}" for n in each[0])
            details.append(f"{kind}, kernels {way.replace('_', ' ')}, ms an image on one of the busy cores: {parts}")
    print("\n" + "\n".join(details))


def growth(counts: Sequence[int], folder: Path) -> None:
    """Table (c): every triplet needs one look that no other needs, however many there are."""
    import csv

    files, some = 1000, 50
    pool = folder / "growth"
    generator = np.random.default_rng(0)
    people = material.faces()
    for role, number in (("target", files), ("source", some), ("swapped", files)):
        (pool / role).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            face = material.moved(people[i % len(people)], generator, 160)
            material.Image.fromarray(face).save(pool / role / f"{i}.jpg", quality=92)
    print(
        f"{machine()}.\n\n| triplets | seconds | ms a triplet, start-up off | peak memory, MB |\n"
        "| --- | --- | --- | --- |"
    )
    start = 0.0
    for count in (1, *counts):
        manifest = folder / f"{count}.csv"
        targets = max(1, count // 100)
        with manifest.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "target", "source", "swapped"])
            for i in range(count):
                t = i % targets
                writer.writerow(
                    [i, pool / f"target/{t}.jpg", pool / f"source/{i % some}.jpg", pool / f"swapped/{i // targets}.jpg"]
                )
        out = folder / f"out-{count}"
        spent, peak = seconds([*COMMAND, str(manifest), *LIKE_THE_LOOP, "--out", str(out)])
        start = start or spent
        per_triplet = (spent - start) / count * 1e3 if count > 1 else 0.0
        print(f"| {count:,} | {spent:.1f} | {per_triplet:.2f} | {peak:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=500)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--swaps-each", type=int, default=4, help="sources that each target is swapped with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.growth:
            growth(given.counts, Path(folder))
        else:
            speed(given.rounds, given.targets, given.sources, given.swaps_each, Path(folder))


if __name__ == "__main__":
    main()
