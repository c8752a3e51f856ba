"""The bare kernels, with nothing around them: what a pipeline could reach that cost nothing itself.

Each kernel runs on all cores at once, a process each: cores share caches, memory, often a physical core, and what
one core does alone, two don't do twice.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENCODER = "encoder, best batch"
BATCHES = (1, 2, 4, 8, 16, 32)


def kernels(paths: Sequence[Path]) -> dict[str, float]:
    """Milliseconds an image of each kernel on one core while all cores do the same."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    barrier = context.Manager().Barrier(cores)
    with context.Pool(cores) as pool:
        found = pool.starmap(_on_one_core, [(list(paths)[i::cores], barrier) for i in range(cores)])
    return {name: statistics.mean(f[name] for f in found) for name in found[0]}


def _on_one_core(paths: Sequence[Path], barrier: Any) -> dict[str, float]:
    import cv2
    import dlib
    import onnxruntime

    from exprmetric import weights
    from exprmetric.faces import load_detector
    from exprmetric.faces.alignment import warp
    from exprmetric.faces.face import Face
    from exprmetric.images import read_image
    from exprmetric.methods import load_method
    from exprmetric.methods.onnx import OnnxEncoder, preprocess

    cv2.setNumThreads(1)
    detector = load_detector("scrfd")
    predictor = dlib.shape_predictor(str(weights.find("dlib-68")))
    encoder = load_method("default")
    assert isinstance(encoder, OnnxEncoder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(weights.find("default")), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found: dict[str, float] = {}

    def timed(kernel: str, work: Callable[[Any], Any], over: Sequence[Any], each: int = 1) -> list[Any]:
        work(over[0])
        barrier.wait()
        begun = time.perf_counter()
        results = [work(x) for x in over]
        found[kernel] = (time.perf_counter() - begun) / len(over) / each * 1e3
        return results

    images = timed("decode", read_image, paths)
    boxes = [detections[0] for detections in timed("detect", detector.detect, images)]
    rectangles = [dlib.rectangle(*(round(float(v)) for v in b.landmark_box)) for b in boxes]
    shapes = timed("landmarks", lambda p: predictor(*p), list(zip(images, rectangles, strict=True)))
    points = [np.array([(p.x, p.y) for p in s.parts()], np.float64) for s in shapes]
    faces = [Face(i, b.box, b.score, p) for i, b, p in zip(images, boxes, points, strict=True)]
    crops = timed("warp", lambda x: warp(*x), [(f.image, f.matrix("eyes70")) for f in faces])
    pixels = np.stack([preprocess(c, encoder.how) for c in crops])
    for size in BATCHES:
        batch = np.resize(pixels, (size, *pixels.shape[1:]))
        timed(f"encoder {size}", lambda b: session.run(None, {name: b}), [batch] * max(2, 64 // size), size)
    found[ENCODER] = min(found.pop(f"encoder {size}") for size in BATCHES)
    return found
