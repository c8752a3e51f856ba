"""`docs/images/report.jpg` and `docs/images/video-report.jpg`, taken of today's pages by a headless Chromium.

    exprmetric demo --out demo
    python examples/video_clip.py --out clip   # prints the command that measures it into a folder
    PYTHONPATH=tests python benchmarks/pictures.py demo/result/report.html video/report.html docs/images

`report.jpg` shows the top of its page, `video-report.jpg` the signals and the worst second of the first clip. Take only
pages whose faces may be shown. A picture is 1,100 px wide and has at most 150 KB.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from browser import Browser
from PIL import Image

WIDTH = 1100
"""Of the window, px."""
MOST_BYTES = 150_000
PARTS = {"report.jpg": ("main", ".figures"), "video-report.jpg": (".clip .legend", ".clip .strip")}
"""Of each picture the element with whose top it begins, and the one with whose bottom it ends."""
ROOM = 8
"""Above and below them, px."""


def picture(page: Path, first: str, last: str) -> bytes:
    """A part of a page in light colours, as a JPEG of the best quality that is small enough."""
    with tempfile.TemporaryDirectory() as folder:
        with Browser(Path(folder), width=WIDTH) as browser:
            browser.call("Emulation.setScrollbarsHidden", hidden=True)  # the screenshot has none: lay out as it does
            browser.open(page)
            top = browser.run(f"document.querySelector('{first}').getBoundingClientRect().top")
            bottom = browser.run(f"document.querySelector('{last}').getBoundingClientRect().bottom")
            browser.screenshot(Path(folder) / "page.png")
        with Image.open(Path(folder) / "page.png") as whole:
            box = (0, max(0, int(top) - ROOM), whole.width, min(whole.height, int(bottom) + ROOM))
            shown = whole.convert("RGB").crop(box)
    for quality in range(90, 0, -5):
        file = io.BytesIO()
        shown.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.html of `exprmetric demo`")
    parser.add_argument("video", type=Path, help="report.html of `exprmetric video evaluate`")
    parser.add_argument("out", type=Path, help="folder of both pictures")
    given = parser.parse_args()
    for (name, part), page in zip(PARTS.items(), (given.report, given.video), strict=True):
        (given.out / name).write_bytes(picture(page, *part))
        print(given.out / name)


if __name__ == "__main__":
    main()
