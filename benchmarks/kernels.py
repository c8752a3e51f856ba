"""The bare kernels, with nothing around them: what a pipeline could reach that cost nothing itself.

Every core runs them at once, a process each: cores share caches, memory, often a physical core, and what one core does
alone, two don't do twice. Two ways: each kernel over and over, which then has the caches to itself; and one after the
other for each image, as any order of work has to run them.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ENCODER = "encoder"
BATCHES = (1, 4, 8)


@dataclass(frozen=True)
class Kernels:
    """Milliseconds an image on one core while all cores do the same, by kernel.

    Attributes:
        alone: each kernel over all images before the next.
        in_turn: the kernels of an image after each other, the encoder every so many images.
    """

    alone: dict[str, float]
    in_turn: dict[str, float]


def kernels(paths: Sequence[Path]) -> Kernels:
    """The encoder at its best batch, in both ways."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    barrier = context.Manager().Barrier(cores)
    with context.Pool(cores) as pool:
        found = pool.starmap(_on_one_core, [(list(paths)[i::cores], barrier) for i in range(cores)])
    means = [{n: statistics.mean(f[way][n] for f in found) for n in found[0][way]} for way in (0, 1)]
    return Kernels(*map(_best_batch, means))


def _best_batch(found: dict[str, float]) -> dict[str, float]:
    """Of the measurements `kernel/batch`, those with the batch that makes the sum smallest."""
    by_batch = {n: {k.partition("/")[0]: v for k, v in found.items() if k.endswith(f"/{n}")} for n in BATCHES}
    return min(by_batch.values(), key=lambda x: sum(x.values()))


def _on_one_core(paths: Sequence[Path], barrier: Any) -> tuple[dict[str, float], dict[str, float]]:
    import cv2
    import dlib
    import onnxruntime

    from exprmetric.faces import load_detector
    from exprmetric.faces.alignment import warp
    from exprmetric.faces.face import Face
    from exprmetric.io.images import read_image
    from exprmetric.methods import load_method
    from exprmetric.methods.onnx import OnnxEncoder, preprocess
    from exprmetric.weights import store as weights

    cv2.setNumThreads(1)
    detector = load_detector("scrfd")
    predictor = dlib.shape_predictor(str(weights.find("dlib-68")))
    encoder = load_method("default")
    assert isinstance(encoder, OnnxEncoder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(weights.find("default")), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def detect(image: Any) -> Any:
        return image, detector.detect(image)[0]

    def landmarks(seen: Any) -> Any:
        image, found = seen
        shape = predictor(image, dlib.rectangle(*(round(float(v)) for v in found.landmark_box)))
        return image, found, shape

    def matrix(seen: Any) -> Any:
        image, found, shape = seen
        points = np.array([(p.x, p.y) for p in shape.parts()], np.float64)
        return image, Face(image, found.box, found.score, points).matrix("eyes70")

    def cut(seen: Any) -> Any:
        return warp(*seen, 224)

    steps: list[tuple[str, Callable[[Any], Any]]] = [
        ("decode", read_image),
        ("detect", detect),
        ("landmarks", landmarks),
        ("", matrix),  # no kernel: not counted
        ("warp", cut),
    ]

    def embed(batch: Any) -> Any:
        return session.run(None, {name: batch})

    def run(over: Sequence[Any], batch: int) -> dict[str, float]:
        """Seconds by kernel of some images, image by image."""
        spent = dict.fromkeys([n for n, _ in steps if n] + [ENCODER], 0.0)
        crops = []
        for path in over:
            value: Any = path
            for kernel, work in steps:
                begun = time.perf_counter()
                value = work(value)
                if kernel:
                    spent[kernel] += time.perf_counter() - begun
            crops.append(preprocess(value, encoder.how))
            if len(crops) == batch:
                pixels = np.stack(crops)
                crops.clear()
                begun = time.perf_counter()
                embed(pixels)
                spent[ENCODER] += time.perf_counter() - begun
        return spent

    def alone(batch: int) -> dict[str, float]:
        spent, values = {}, list(paths)
        for kernel, work in steps:
            begun = time.perf_counter()
            values = [work(v) for v in values]
            spent[kernel] = time.perf_counter() - begun
        pixels = np.stack([preprocess(c, encoder.how) for c in values])
        whole = [pixels[i : i + batch] for i in range(0, len(pixels) - batch + 1, batch)]
        begun = time.perf_counter()
        for some in whole:
            embed(some)
        spent[ENCODER] = (time.perf_counter() - begun) * len(paths) / (len(whole) * batch)
        return {k: v for k, v in spent.items() if k}

    run(paths[:4], 1)
    found: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for batch in BATCHES:
        for way, measured in enumerate((alone, lambda b: run(paths[: len(paths) // b * b], b))):
            barrier.wait()
            count = len(paths) if way == 0 else len(paths) // batch * batch
            found[way].update({f"{k}/{batch}": v / count * 1e3 for k, v in measured(batch).items()})
    return found
