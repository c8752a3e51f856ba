"""Clips made for tests: a photograph that moves and changes its expression, written with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.faces import FaceFinder, load_detector
from exprmetric.io.images import read_image
from exprmetric.probes.warp import WARPS

Image = npt.NDArray[np.uint8]
RATE = 25


def write(path: Path, images: Iterable[Image], rate: Fraction | int = RATE) -> Path:
    """An H.264 clip of RGB images of one size."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.options = {"crf": "12"}
        stream.pix_fmt = "yuv420p"
        for i, image in enumerate(images):
            if i == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


class Actor:
    """The portrait photograph, cut around its face to 256 x 256 px, playing a part."""

    def __init__(self, photo: Path) -> None:
        self.image = np.ascontiguousarray(read_image(photo)[:256, 96:352])
        self.landmarks = FaceFinder(load_detector("dlib")).find(self.image).landmarks

    def play(self, grin: Sequence[float], sway: float = 4.0) -> list[Image]:
        """Frames of a slowly swaying head; grin 1 = as photographed, 0 = lips closed and corners down."""
        import cv2

        frames = []
        for i, share in enumerate(grin):
            image = self.image
            for _ in range(2):
                image = WARPS["mouth corners down"](image, self.landmarks, 12.0 * (1 - float(share)))
            shift = np.array([[1, 0, sway * np.sin(i / 6)], [0, 1, 0.5 * sway * np.cos(i / 9)]])
            frames.append(cv2.warpAffine(image, shift, (256, 256), borderMode=cv2.BORDER_REPLICATE))
        return frames
