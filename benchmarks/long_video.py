"""Whether a video's length shows in memory, and how many frames a second are measured.

    python benchmarks/long_video.py clip.mp4                  # 30 minutes of it, to and fro; some twenty minutes

The clip is repeated forwards and backwards at 25 frames/s and evaluated against itself, every second frame detected; as
target and swap it is read once.
Prints the memory of the process over time. SCRFD's weights must be there (`exprmetric weights pull scrfd-500m`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import chain, cycle, islice
from pathlib import Path

from speed import COMMAND, machine, memory

RATE = 25


def repeated(clip: Path, count: int, folder: Path) -> tuple[Path, Path]:
    """A video of `count` frames of a clip, to and fro, and the clip's first frame."""
    import av

    from exprmetric.io.video import frames

    images = [frame.image for frame in frames(clip)]
    video, first = folder / "long.mp4", folder / "first.png"
    with av.open(str(video), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in islice(cycle(chain(images, images[-2:0:-1])), count):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    av.VideoFrame.from_ndarray(images[0], format="rgb24").to_image().save(first)
    return video, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--detect-every", type=int, default=2)
    given = parser.parse_args()
    count = round(given.minutes * 60 * RATE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, first = repeated(given.clip, count, folder)
        how = ["-m", "default", "-m", "lm68", "--no-identity", "--detector", "scrfd", "--quiet"]
        how += ["--detect-every", str(given.detect_every), "--out", str(folder / "out")]
        command = [*COMMAND[:-1], "video", "evaluate", str(video), str(first), str(video), *how]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=sys.stderr)
        seen: list[tuple[float, float]] = []
        while process.poll() is None:
            seen.append((time.perf_counter() - begun, memory(process.pid)))
            time.sleep(1)
        spent = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    print(
        f"{machine()}. {count:,} frames in {spent:.0f} s, {count / spent:.0f} frames/s, start-up and report included.\n"
    )
    print("| share of the time | memory, MB |\n| ---: | ---: |")
    for part in range(1, 10):
        print(f"| {part / 10:.0%} | {seen[len(seen) * part // 10][1]:.0f} |")
    print(f"| most | {max(m for _, m in seen):.0f} |")


if __name__ == "__main__":
    main()
