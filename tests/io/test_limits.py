"""What one file from outside may cost: pixels, bytes and seconds, counted before the work is done."""

from __future__ import annotations

import io
import re
import tracemalloc
import zipfile
from fractions import Fraction
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from PIL import Image

from exprmetric.datasets.clip_files import find_clips, on_disk
from exprmetric.datasets.layouts import open_dataset
from exprmetric.errors import DamagedVideoError, InputError, UnreadableImageError, VideoError
from exprmetric.faces import alignment
from exprmetric.io import limits
from exprmetric.io.images import decode_image
from exprmetric.io.video import frames

# --- images ---


def jpeg(pixels: np.ndarray, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **how)
    return file.getvalue()


def more_scans(content: bytes, count: int) -> bytes:
    """The last scan of a JPEG once more, so many times."""
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


def test_a_jpeg_whose_scans_would_take_minutes_is_refused_before_it_is_decoded() -> None:
    flat = jpeg(np.full((3000, 3000, 3), 120, np.uint8), progressive=True)
    most = limits.MAX_SCANNED // 3000**2
    bomb = more_scans(flat, 10 * most)
    assert len(bomb) < 200_000
    before = process_time()
    with pytest.raises(UnreadableImageError, match=rf"bomb\.jpg.*3000 x 3000, a JPEG in more than {most} scans"):
        decode_image(bomb, "bomb.jpg")
    assert process_time() - before < 1  # 20 s if it is decoded
    assert decode_image(more_scans(flat, 5), "some more.jpg").shape == (3000, 3000, 3)


def test_scans_are_counted_as_a_decoder_meets_them(portrait_photo: Path) -> None:
    with Image.open(portrait_photo) as image:
        photo = np.asarray(image.convert("RGB"))
    plain, progressive = jpeg(photo), jpeg(photo, progressive=True)
    thumbnail = b"\xff\xe1" + (2 + 4 * 90).to_bytes(2, "big") + b"\xff\xda\0\2" * 90  # not the picture's own
    within, behind = plain[:2] + thumbnail + plain[2:], plain + progressive * 20
    for content, scans in ((plain, 1), (progressive, 10), (within, 1), (behind, 1), (more_scans(progressive, 7), 17)):
        assert not limits.costly_jpeg(content, limits.MAX_SCANNED // scans)
        assert limits.costly_jpeg(content, limits.MAX_SCANNED // scans + 1)
    assert np.array_equal(decode_image(within, "face.jpg"), decode_image(plain, "face.jpg"))


@pytest.mark.parametrize("shape", [(100, 120_000), (120_000, 100), (5000, 5000)])
def test_the_crop_of_a_picture_of_any_shape_takes_bounded_time(shape: tuple[int, int]) -> None:
    height, width = shape
    across = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    matrix = np.array([[224 / width, 0, 112 / width - 0.5], [0, 224 / height, 112 / height - 0.5]])
    before = process_time()
    crop = alignment.warp(np.ascontiguousarray(across), matrix)
    assert process_time() - before < 2  # 60 Mpx took 8.5 s
    assert np.abs(crop[5:-5, 8:-8, 0].astype(float) - np.linspace(0, 255, 224)[8:-8]).max() < 2.5


def test_a_face_gives_the_same_crop_at_whatever_size_it_was_photographed(portrait_photo: Path) -> None:
    with Image.open(portrait_photo) as image:
        photo = np.asarray(image.convert("RGB").crop((120, 0, 344, 224)))
    near = alignment.warp(photo, np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    for times in (12, 20):  # below MOST_SHRINK, and beyond it
        large = np.repeat(np.repeat(photo, times, 0), times, 1)
        matrix = np.array([[1 / times, 0, 0.5 / times - 0.5], [0, 1 / times, 0.5 / times - 0.5]])
        crop = alignment.warp(large, matrix)
        assert np.abs(crop.astype(float) - near)[4:-4, 4:-4].mean() < 2.5


def test_a_face_in_a_picture_wider_than_a_warp_takes_is_cropped() -> None:
    face = np.random.default_rng(0).integers(0, 255, (150, 150, 3)).astype(np.uint8)
    wide = np.zeros((200, 40_000, 3), np.uint8)
    wide[20:170, 39_000:39_150] = face
    scale = 1.4
    alone = alignment.warp(
        np.pad(face, ((20, 30), (30, 30), (0, 0))), np.array([[scale, 0, -scale * 30], [0, scale, 0]])
    )
    crop = alignment.warp(wide, np.array([[scale, 0, -scale * 39_000.0], [0, scale, 0]]))
    assert np.array_equal(crop, alone)


# --- zips of data sets ---


def a_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def test_a_member_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    face, zeros = jpeg(np.zeros((50, 50, 3), np.uint8)), bytes(limits.SMALL + 1)
    rows = b"image,person,emotion\nface.jpg,Ann,happy\nlarge.jpg,Ann,sad\n"
    dataset = open_dataset(a_zip(tmp_path / "set.zip", labels__csv=rows, face__jpg=face, large__jpg=zeros))
    assert dataset.image(0).shape == (50, 50, 3)
    tracemalloc.start()
    with pytest.raises(UnreadableImageError, match=r"large\.jpg.*bytes of the zip would become 67,108,865"):
        dataset.image(1)
    with pytest.raises(InputError, match=r"labels\.csv' is not unpacked"):
        open_dataset(a_zip(tmp_path / "table.zip", labels__csv=rows + zeros))
    assert tracemalloc.get_traced_memory()[1] < 200_000_000  # the content, while it is packed by this test
    tracemalloc.stop()


def test_a_table_with_rows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROWS", 3)
    rows = [b"image,person,emotion"] + [b"face.jpg,Ann,happy"] * 4
    with pytest.raises(InputError, match=r"'labels\.csv' has more than the 3 rows that are read"):
        open_dataset(a_zip(tmp_path / "set.zip", labels__csv=b"\n".join(rows)))
    assert len(open_dataset(a_zip(tmp_path / "set.zip", labels__csv=b"\n".join(rows[:-1]))).samples) == 3


def test_a_video_that_a_few_bytes_stand_for_is_not_unpacked(tmp_path: Path) -> None:
    (clip,) = find_clips(a_zip(tmp_path / "clips.zip", clip__mp4=bytes(limits.SMALL + 1)))
    with pytest.raises(VideoError, match=r"clip\.mp4' is not unpacked"), on_disk(clip):
        pytest.fail("it was unpacked")


# --- frames of videos ---


def video_of_jpegs(path: Path, sides: list[int]) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width = stream.height = sides[0]
        stream.pix_fmt = "yuvj420p"
        for number, side in enumerate(sides):
            packet = av.Packet(jpeg(np.full((side, side, 3), 90, np.uint8), quality=20))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    return path


def test_a_packet_whose_frame_is_huge_is_a_damaged_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FRAME_PIXELS", 500 * 500)
    seen = []
    with pytest.raises(DamagedVideoError, match="1 of its parts can't be decoded"):
        seen += [f.image.shape for f in frames(video_of_jpegs(tmp_path / "big.mov", [256, 600, 256]))]
    assert len(list(frames(video_of_jpegs(tmp_path / "good.mov", [256, 400, 256])))) == 3
    with pytest.raises(VideoError, match="600 x 600 is too large"):
        list(frames(video_of_jpegs(tmp_path / "whole.mov", [600, 600])))


def test_a_damaged_last_frame_is_noticed(tmp_path: Path, portrait_photo: Path) -> None:
    av = pytest.importorskip("av")
    with Image.open(portrait_photo) as image:
        photo = np.asarray(image.convert("RGB"))
    whole, spoilt = tmp_path / "whole.mp4", tmp_path / "spoilt.mp4"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 160
        stream.pix_fmt = "yuv420p"
        for i in range(10):
            picture = np.ascontiguousarray(photo[4 * i : 4 * i + 160, 130:290])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(whole)) as source, av.open(str(spoilt), "w") as container:
        (stream,) = source.streams.video
        copy = container.add_stream_from_template(stream)
        packets = [p for p in source.demux(stream) if p.size]
        for packet in packets:
            new = av.Packet(bytes(packet.size) if packet is packets[-1] else bytes(packet))
            new.stream, new.pts, new.dts, new.time_base = copy, packet.pts, packet.dts, packet.time_base
            container.mux(new)
    assert len(list(frames(whole))) == 10
    with pytest.raises(DamagedVideoError, match="9 frames could be decoded"):
        list(frames(spoilt))


# --- told in one place ---


def test_each_limit_stands_in_the_table() -> None:
    names = [name for name in vars(limits) if re.fullmatch(r"MAX_\w+", name)]
    assert len(names) >= 6
    for name in names:
        assert f"`{name}`" in (limits.__doc__ or "")
