"""A short clip and its swap, from which one blink and one smile are left out: the README's picture of a video report.

    python examples/video_clip.py --out clip                # about a minute; prints the command that makes the report
    python examples/video_clip.py --out clip --seconds 3    # the same part, played faster

NASA's portrait of Eileen Collins (in scikit-image) is warped into three smiles, three blinks and a lift of the brows.
The swap is made as `exprmetric demo` makes its own, of frames in which the second blink and the third smile never
happened: what a report should find is known. Needs PyAV: pip install "exprmetric[video]".
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from exprmetric.demo.make import SIZE, DemoFace, demo_faces
from exprmetric.errors import InputError, MissingPackageError
from exprmetric.faces import load_detector
from exprmetric.faces.swap import Image, Points, swap_face, warp, with_forehead

Signal = NDArray[np.float64]

TARGET, SOURCE = "astronaut-0", "t1-3"  # as `demo_faces` names them
METHODS = ("default", "lm68", "blendshapes")

RATE = 25  # frames a second
SIDE = 384  # of the videos, in pixels
LENGTH = 8.0  # seconds in which the part is played as follows
SMILES, BLINKS, BROWS = (1.2, 3.4, 5.6), (2.3, 4.5, 6.9), (3.0,)  # when each is at its height
SMILE_WIDTH, BLINK_WIDTH, BROWS_WIDTH = 0.35, 0.1, 0.3  # seconds from there to 1/e, however fast the part is played
LEFT_OUT_SMILE, LEFT_OUT_BLINK = SMILES[2], BLINKS[1]

# dlib's 68 points
BROW, MOUTH, CORNERS = slice(17, 27), slice(48, 68), [48, 54, 60, 64]
UPPER_LIP, LOWER_LIP = [49, 50, 51, 52, 53], [55, 56, 57, 58, 59]
INNER_UPPER, INNER_LOWER = [61, 62, 63], [67, 66, 65]
UPPER_LID, LOWER_LID = [37, 38, 43, 44], [41, 40, 47, 46]

_SIDES, _ALONG = (0, SIZE - 1), (64, 128, 192)
FRAME = np.array(
    [(x, y) for x in (0, *_ALONG, SIZE - 1) for y in _SIDES] + [(x, y) for x in _SIDES for y in _ALONG], np.float64
)
"""Points on the picture's border, which stay where they are while the face moves."""


@dataclass(frozen=True, eq=False)
class Part:
    """What a face does, each (N,) over the frames: 0 at rest, 1 at its height.

    Attributes:
        smile: 1 is the smile of the photograph; at 0 the lips are nearly closed and the corners hang.
        blink: 1 is closed.
        brows: 1 is lifted.
    """

    smile: Signal
    blink: Signal
    brows: Signal

    def __iter__(self) -> Iterator[tuple[float, float, float]]:
        """Smile, blink and brows of each frame."""
        return zip(self.smile.tolist(), self.blink.tolist(), self.brows.tolist(), strict=True)


def part(seconds: float, *, without: Sequence[float] = ()) -> Part:
    """The part played within `seconds`, but for what is at its height at one of the times `without` (of `LENGTH`).

    Raises:
        InputError: there is less than a second for it.
    """
    if not seconds >= 1:
        raise InputError(f"a clip needs a second or more, got {seconds}")
    time = np.arange(round(seconds * RATE)) / RATE

    def pulses(at: Sequence[float], width: float) -> Signal:
        heights = np.array([a for a in at if a not in without]) * seconds / LENGTH
        bells: Signal = np.exp(-(((time[:, None] - heights) / width) ** 2))
        return bells.max(axis=1, initial=0)

    return Part(pulses(SMILES, SMILE_WIDTH), pulses(BLINKS, BLINK_WIDTH), pulses(BROWS, BROWS_WIDTH))


def expression(points: Points, smile: float, blink: float, brows: float) -> Points:
    """(68, 2) points of the smiling face `points` with another expression; numbers as in `Part`."""
    moved = points.copy()
    less = 1 - smile
    centre = points[MOUTH, 0].mean()
    moved[MOUTH, 0] = centre + (points[MOUTH, 0] - centre) * (1 - 0.2 * less)
    between = (points[INNER_UPPER, 1] + points[INNER_LOWER, 1]) / 2
    for lip in (INNER_UPPER, INNER_LOWER):
        moved[lip, 1] += (between - points[lip, 1]) * 0.8 * less
    moved[UPPER_LIP, 1] += 1.5 * less
    moved[LOWER_LIP, 1] -= 4 * less
    moved[CORNERS, 1] += 5 * less
    moved[UPPER_LID] += (points[LOWER_LID] - points[UPPER_LID]) * 0.85 * blink
    moved[BROW, 1] -= 6 * brows
    return moved


def play(face: DemoFace, played: Part) -> Iterator[tuple[Image, Points]]:
    """Frames of a slowly swaying head, RGB uint8 (256, 256, 3), and the face's (68, 2) points in them."""
    before = np.concatenate([with_forehead(face.points), FRAME])
    for i, moment in enumerate(played):
        points = expression(face.points, *moment)
        after = np.concatenate([with_forehead(points), FRAME])
        image, _ = warp(face.image, before, after, (SIZE, SIZE))
        shift = np.array([3 * np.sin(i / 11), 2 * np.cos(i / 17)])
        matrix = np.column_stack([np.eye(2), shift])
        swayed = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
        yield np.asarray(swayed, np.uint8), points + shift


def write_video(path: Path, images: Iterable[Image]) -> None:
    """An H.264 clip of square RGB images, scaled to `SIDE` px.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("writing videos needs PyAV: pip install 'exprmetric[video]'") from error
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12"}
        for image in images:
            scaled = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scaled, format="rgb24")))
        container.mux(stream.encode())


def make_clip(out: Path, seconds: float = LENGTH) -> tuple[Path, Path, Path]:
    """Write `target.mp4`, `source.png` and `swapped.mp4` into `out`, which is made; their paths.

    Raises:
        InputError: `seconds` is less than 1. MissingPackageError: PyAV is not installed.
    """
    whole, lacking = part(seconds), part(seconds, without=(LEFT_OUT_SMILE, LEFT_OUT_BLINK))
    faces = {face.name: face for face in demo_faces(load_detector("dlib"))}
    actor, other = faces[TARGET], faces[SOURCE]
    out.mkdir(parents=True, exist_ok=True)
    target, source, swapped = out / "target.mp4", out / "source.png", out / "swapped.mp4"
    write_video(target, (image for image, _ in play(actor, whole)))
    PILImage.fromarray(other.image).save(source)
    write_video(
        swapped, (swap_face(image, points, other.image, other.points) for image, points in play(actor, lacking))
    )
    return target, source, swapped


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the clip and print the command that measures it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("clip"), help="folder for the clip (default: clip)")
    parser.add_argument("--seconds", type=float, default=LENGTH, help=f"length of the clip (default: {LENGTH:g})")
    options = parser.parse_args(arguments)
    clip = make_clip(options.out, options.seconds)
    methods = [word for method in METHODS for word in ("-m", method)]
    report = options.out / "report"
    print(shlex.join(["exprmetric", "video", "evaluate", *map(str, clip), *methods, "--out", str(report)]))


if __name__ == "__main__":
    main()
