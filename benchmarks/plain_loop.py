"""What a user would write today: one image after the other, for each triplet, with the libraries' defaults.

    python benchmarks/plain_loop.py triplets.csv

Detection by insightface's FaceAnalysis, 68 points by dlib in its box, eyes 70 px apart in a crop of 224 px, the shipped
encoder in ONNX Runtime with a batch of one, L2 distances.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import onnxruntime
from insightface.app import FaceAnalysis

from exprmetric.weights import store as weights

EYES = np.array([[76.5, 76.5], [146.5, 76.5]], np.float32)


def main(manifest: str, root: str) -> None:
    pack = Path(root, "models", "pack")
    pack.mkdir(parents=True)
    (pack / "det_500m.onnx").symlink_to(weights.find("scrfd-500m"))
    app = FaceAnalysis("pack", root=root, allowed_modules=["detection"], providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1, det_size=(640, 640))
    predictor = dlib.shape_predictor(str(weights.find("dlib-68")))
    session = onnxruntime.InferenceSession(str(weights.find("default")), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def vectors(path: str) -> list[Any] | None:
        image = cv2.imread(path)
        found = app.get(image)
        if not found:
            return None
        face = max(found, key=lambda f: (f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        shape = predictor(rgb, dlib.rectangle(*(int(v) for v in face.bbox)))
        points = np.array([(p.x, p.y) for p in shape.parts()], np.float32)
        eyes = np.stack([points[36:42].mean(0), points[42:48].mean(0)])
        matrix, _ = cv2.estimateAffinePartial2D(eyes, EYES)
        crop = cv2.warpAffine(rgb, matrix, (224, 224))
        grey = cv2.cvtColor(crop[24:200, 24:200], cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (112, 112), interpolation=cv2.INTER_AREA)[None, None].astype(np.float32)
        how = weights.entry("default").preprocessing
        pixels = (small * np.float32(how.scale) - np.float32(how.mean[0])) / np.float32(how.std[0])
        (embedding,) = session.run(None, {name: pixels})
        aligned = (points @ matrix[:, :2].T + matrix[:, 2]) / 224
        return [embedding[0], aligned.ravel(), aligned[17:].ravel()]

    errors: list[list[float]] = []
    with Path(manifest).open(newline="") as file:
        for row in csv.DictReader(file):
            seen = [vectors(row[role]) for role in ("target", "source", "swapped")]
            if None not in seen:
                target, source, swapped = seen
                errors.append(
                    [
                        abs(np.linalg.norm(s - t) - np.linalg.norm(s - c))
                        for t, s, c in zip(target, source, swapped, strict=True)
                    ]
                )
    print(f"{len(errors)} triplets, L2 errors", np.mean(errors, 0))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1], folder)
