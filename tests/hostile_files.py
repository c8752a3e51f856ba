"""Files that a run must survive: damaged, mislabelled, enormous, hostile by their name or by what they are."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, features

MUTANTS = 80
"""Of each of the originals."""


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    data = io.BytesIO()
    first, *others = (i.copy() for i in (image, *options.pop("append_images", ())))  # JPEG leaves traces in them
    first.save(data, form, append_images=others, **options)
    return data.getvalue()


def clip(folder: Path, face: np.ndarray[Any, Any]) -> bytes:
    """A second of MP4."""
    path = folder / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, face.shape[1::-1])
    for shift in range(10):
        writer.write(np.roll(face[..., ::-1], shift, axis=1))
    writer.release()
    data = path.read_bytes()
    path.unlink()
    return data


def originals(folder: Path, portrait: Path, group: Path) -> dict[str, bytes]:
    """Two faces in every kind of file that a camera, a browser, a scanner or a model writes, by name."""
    one = Image.open(portrait).convert("RGB").crop((130, 0, 330, 250)).resize((96, 120))
    two = Image.open(group).convert("RGB").crop((540, 60, 760, 340)).resize((96, 122))
    alpha = one.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(one.size))
    grey, frames = one.convert("L"), [two.rotate(5 * i) for i in range(3)]
    deep = np.asarray(grey).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a <b>description</b>"
    moving = {"save_all": True, "append_images": frames[1:], "duration": 40}
    made = {
        "plain.jpg": encoded(one, "JPEG", exif=exif),
        "progressive.jpg": encoded(two, "JPEG", progressive=True, quality=95, subsampling=0),
        "grey.jpeg": encoded(grey, "JPEG", optimize=True, restart_marker_blocks=4),
        "cmyk.jpg": encoded(two.convert("CMYK"), "JPEG"),
        "several.mpo": encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]),
        "plain.png": encoded(one, "PNG", dpi=(72, 72)),
        "alpha.png": encoded(alpha, "PNG"),
        "palette.png": encoded(two.quantize(64), "PNG", transparency=3),
        "deep.png": encoded(Image.fromarray(deep), "PNG"),
        "bits.png": encoded(grey.convert("1"), "PNG"),
        "moving.png": encoded(frames[0], "PNG", **moving),
        "lossy.webp": encoded(two, "WEBP", exif=exif),
        "lossless.webp": encoded(alpha, "WEBP", lossless=True, method=0),
        "moving.webp": encoded(frames[0], "WEBP", **moving),
        "plain.gif": encoded(one, "GIF"),
        "moving.gif": encoded(frames[0], "GIF", **moving),
        "raw.tif": encoded(one, "TIFF", exif=exif),
        "lzw.tiff": encoded(alpha, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(two, "TIFF", compression="jpeg"),
        "deep.tif": encoded(Image.fromarray(deep), "TIFF", compression="tiff_adobe_deflate"),
        "cmyk.tif": encoded(one.convert("CMYK"), "TIFF", compression="packbits"),
        "pages.tif": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "plain.bmp": encoded(one, "BMP"),
        "plain.jp2": encoded(two, "JPEG2000", quality_layers=[20]),
        "plain.ppm": encoded(one, "PPM"),
        "clip.mp4": clip(folder, np.asarray(one)),
    }
    made["clip.jpg"] = made["clip.mp4"]
    try:
        Image.open(io.BytesIO(made["several.mpo"])).load()
    except OSError:  # older Pillows break what they write
        del made["several.mpo"]
    if features.check("avif"):
        made["plain.avif"] = encoded(one, "AVIF", speed=10)
    return made


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.choice([chance.randrange(64), chance.randrange(len(data))]) :]


def flip(data: bytearray, chance: random.Random) -> None:
    end = chance.choice([24, 200, len(data)])  # the first bytes are headers, where most goes wrong
    for _ in range(chance.choice([1, 1, 4, 40])):
        data[chance.randrange(min(end, len(data)))] ^= 1 << chance.randrange(8)


def number(data: bytearray, chance: random.Random) -> None:
    """A length, an offset or a size that is not true."""
    value = chance.choice([0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    at = chance.randrange(min(len(data), chance.choice([64, 400, len(data)])))
    form = chance.choice(["<I", ">I", "<H", ">H"])
    value &= (1 << 8 * struct.calcsize(form)) - 1
    data[at : at + struct.calcsize(form)] = struct.pack(form, value)


def move(data: bytearray, chance: random.Random) -> None:
    """A piece is lost, stands twice, or is zeros."""
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 300)]
    data[start : start + len(piece)] = chance.choice([b"", piece * 2, bytes(len(piece)), b"\xff" * len(piece)])


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (cut, flip, flip, number, move)


def mutants(made: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The same for the same originals: each damaged in MUTANTS ways, and each under other suffixes."""
    chance = random.Random(0)
    suffixes = sorted({Path(name).suffix for name in made})
    for name, data in made.items():
        stem, suffix = name.split(".")
        yield f"{stem}-as-{suffix}.{suffix}", data
        for i in range(MUTANTS):
            damaged = bytearray(data)
            damage = DAMAGES[i % len(DAMAGES)]
            damage(damaged, chance)
            yield f"{stem}-{suffix}-{damage.__name__}-{i}.{suffix}", bytes(damaged)
        for wrong in chance.sample(suffixes, 3):
            yield f"{stem}-{suffix}-in{wrong}", data


def png(width: int, height: int, rows: bytes, colour: int = 2, more: tuple[bytes, bytes] | None = None) -> bytes:
    """A PNG of 8 bits, with its size as it is stated and not as the rows are."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *([more] if more else []), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def extremes() -> Iterator[tuple[str, bytes]]:
    """Smallest, widest, and those that are small on disk alone."""
    yield "one-pixel.png", encoded(Image.new("RGB", (1, 1)), "PNG")
    yield "one-pixel.gif", encoded(Image.new("P", (1, 1)), "GIF")
    yield "wide.png", encoded(Image.new("RGB", (20_000, 3), "red"), "PNG")
    yield "wide.jpg", encoded(Image.new("L", (20_000, 40)), "JPEG")
    yield "high.png", encoded(Image.new("RGBA", (2, 20_000)), "PNG")
    yield "large.png", png(8_000, 8_000, bytes(8_000 * (1 + 2 * 8_000)), colour=4)  # 64 million pixels in 0.1 MB
    yield "bomb.png", png(20_000, 20_000, b"\0")
    yield "bomb-at-the-limit.png", png(13_000, 13_000, b"\0")
    yield "bomb.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, -30_000, -30_000, 1, 24, *[0] * 6)
    yield "bomb.gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6) + b"," + bytes(20)
    yield "bomb.ppm", b"P6 60000 60000 255 "
    yield "bomb-of-text.png", png(4, 4, bytes(52), more=(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 26))))
    yield "empty.png", b""
    yield "page.jpg", b"<!doctype html><title>404</title><script>alert(1)</script>"


NAMES = (
    "two\nlines.png",
    "return\r.png",
    "tab\t.png",
    "\x1b[31mred\x1b[0m\x07.png",
    "'single' \"double\" `back`.png",
    "comma, semicolon; pipe|.png",
    "<script>document.title='owned'<script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "&lt;b&gt; &amp; &#0;.png",
    "javascript:alert(1).png",
    "{{ 7 * 7 }} {% raw %}.png",
    "%s %(x)s %00 $HOME $(id) `id`.png",
    '=HYPERLINK("http:").png',
    "@SUM(1+1)*cmd|' ' !A0.png",
    "-rf.png",
    " spaces .png",
    "back\\slash.png",
    "..png",
    "[bold red]rich[ bold].png",
    "right-to-left \u202egnp.png",
    "zero\u200bwidth.png",
    "é表😀.png",
    "e" * 251 + ".png",
    "é" * 125 + "..png",
    os.fsdecode(b"caf\xe9.png"),
    os.fsdecode(b"\xff\xfe\x80.png"),
)
"""Names of good pictures. None has a slash, which no name can have."""


def odd_places(folder: Path) -> None:
    """Things that have a picture's name and are none, or none that can be had."""
    (folder / "folder.png").mkdir()
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "there.png").symlink_to("back.png")
    (folder / "back.png").symlink_to("there.png")
    (folder / "nowhere.png").symlink_to("not/here.png")
    (folder / "through-itself.png").symlink_to("itself.png/x.png")
    for name, device in (("zeros", "/dev/zero"), ("memory", "/proc/self/mem"), ("log", "/proc/kmsg")):
        if Path(device).exists():
            (folder / f"{name}.png").symlink_to(device)
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(folder / "socket.png"))  # such names have 100 bytes at most
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(1 << 42)  # 4 TiB, none of them on the disk
    (folder / "locked.png").write_bytes(b"none of your business")
    (folder / "locked.png").chmod(0)


def write_all(folder: Path, portrait: Path, group: Path) -> None:
    """More than a thousand files, the same ones each time."""
    folder.mkdir()
    made = originals(folder, portrait, group)
    for name, data in [*mutants(made), *extremes(), *((name, made["plain.png"]) for name in NAMES)]:
        assert not (folder / name).exists(), name
        (folder / name).write_bytes(data)
    odd_places(folder)
