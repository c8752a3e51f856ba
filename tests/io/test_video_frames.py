"""Frames: order, times, orientation, and what becomes of damaged files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from exprmetric.errors import DamagedVideoError, InputError, VideoError
from exprmetric.io import container
from exprmetric.io.container import pictures_at, upright
from exprmetric.io.video import Frame, find_videos, frames, info, read_frames

av = pytest.importorskip("av")

SIZE = (96, 64)  # width, height


def picture(i: int) -> npt.NDArray[np.uint8]:
    """A grey frame that tells its own number, with a bright corner at the upper left."""
    image = np.full((SIZE[1], SIZE[0], 3), 16 + 6 * i, np.uint8)
    image[:16, :16] = 255
    return image


def number(frame: Frame) -> int:
    return round((float(np.median(frame.image)) - 16) / 6)


def write_video(
    path: Path,
    count: int = 30,
    rate: int = 25,
    pts: list[int] | None = None,
    codec: str = "libx264",
    coding: dict[str, str] | None = None,
    **options: str,
) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        base = Fraction(1, rate if codec.startswith("mpeg") else 1000)
        stream.codec_context.time_base = base
        stream.options = {"g": "8", **({"crf": "10"} if codec == "libx264" else {}), **(coding or {})}
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts = pts[i] if pts else round(Fraction(i, rate) / base)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "numbers.mp4")


def test_every_frame_comes_once_in_order_with_its_time(video: Path) -> None:
    found = list(frames(video))
    assert [number(f) for f in found] == [f.index for f in found] == list(range(30))
    assert np.allclose([f.time for f in found], np.arange(30) / 25, atol=1e-3)
    assert found[0].image.shape == (64, 96, 3) and found[0].image.dtype == np.uint8


def test_every_third_frame_keeps_its_index(video: Path) -> None:
    assert [(f.index, number(f)) for f in frames(video, every=3)] == [(i, i) for i in range(0, 30, 3)]


def test_a_few_frames_are_the_frames_of_the_whole(video: Path) -> None:
    whole = {f.index: f for f in frames(video)}
    found = read_frames(video, [17, 3, 17])
    assert sorted(found) == [3, 17]
    for i, frame in found.items():
        assert np.array_equal(frame.image, whole[i].image) and frame.time == whole[i].time
    with pytest.raises(VideoError, match="no frame 30"):
        read_frames(video, [30])


def test_uneven_times_are_the_containers(tmp_path: Path) -> None:
    pts = [0, 40, 50, 200, 1000]
    path = write_video(tmp_path / "uneven.mp4", 5, pts=pts)
    assert np.allclose([f.time for f in frames(path)], np.array(pts) / 1000, atol=1e-3)


def test_info_is_what_the_container_states(video: Path) -> None:
    said = info(video)
    assert (said.width, said.height, said.frames) == (96, 64, 30)
    assert said.rate == pytest.approx(25, rel=0.02) and said.duration == pytest.approx(1.2, abs=0.05)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((0, 1, -1, 0), "upper right"),  # a quarter turn clockwise
        ((0, -1, 1, 0), "lower left"),
        ((-1, 0, 0, -1), "lower right"),
        ((-1, 0, 0, 1), "upper right"),  # mirrored
    ],
)
def test_the_display_matrix_is_honoured(video: Path, tmp_path: Path, matrix: tuple[int, ...], corner: str) -> None:
    data = bytearray(video.read_bytes())
    a, b, c, d = (v * 65536 for v in matrix)
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix stands behind 40 bytes
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    image = next(frames(turned)).image
    assert image.shape == ((96, 64, 3) if matrix[0] == 0 else (64, 96, 3))
    corners = {
        "upper left": image[4, 4],
        "upper right": image[4, -5],
        "lower left": image[-5, 4],
        "lower right": image[-5, -5],
    }
    assert max(corners, key=lambda name: int(corners[name].sum())) == corner


def test_upright_moves_each_pixel_as_the_matrix_says() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    clockwise = upright(image, (0, 65536, -65536, 0))
    assert clockwise[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_pixels_become_square(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        container.mux(stream.encode())
    assert next(frames(path)).image.shape == (64, 128, 3)


@pytest.mark.parametrize(("suffix", "options"), [(".mp4", {"movflags": "faststart"}), (".mkv", {}), (".ts", {})])
def test_a_truncated_video_ends_with_an_error_that_counts(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    whole = write_video(tmp_path / f"whole{suffix}", 40, **options)
    cut = tmp_path / f"cut{suffix}"
    data = whole.read_bytes()
    start = data.find(b"mdat") if suffix == ".mp4" else 0
    cut.write_bytes(data[: start + int((len(data) - start) * 0.6)])
    found: list[Frame] = []
    stream = frames(cut)
    if suffix == ".ts":  # a broadcast states no length: what is there is the video
        found += stream
    else:
        with pytest.raises(DamagedVideoError, match=r"cut\.") as raised:
            found.extend(stream)
        assert raised.value.decoded == len(found)
    assert 5 < len(found) < 40
    # the last frames may need some that are missing; none has another's time
    assert np.allclose([f.time for f in found], [number(f) / 25 for f in found], atol=1e-3)


def test_a_damaged_middle_is_reported_behind_the_last_frame(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "whole.mp4", 30, movflags="faststart").read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = bytes(400)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    seen = []
    with pytest.raises(DamagedVideoError):
        seen.extend(frames(path))
    assert seen[-1].time > 1.0  # the frames behind the damage are there


@pytest.mark.parametrize("content", [b"", b"no video at all", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n"])
def test_what_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        list(frames(path))


def test_names_are_files_and_no_addresses(tmp_path: Path) -> None:
    for name in ("http://127.0.0.1:9/x.mp4", f"concat:{tmp_path}/a.mp4|b.mp4", str(tmp_path / "missing.mp4")):
        with pytest.raises(VideoError, match="no such file"):
            frames(name)


def test_animated_images_are_videos(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(i)) for i in range(5)]
    path = tmp_path / "clip.webp"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=[40, 40, 80, 40, 40], lossless=True)
    found = list(frames(path))
    assert [number(f) for f in found] == list(range(5))
    assert np.allclose([f.time for f in found], [0, 0.04, 0.08, 0.16, 0.20])
    assert np.array_equal(found[3].image, picture(3))
    assert info(path).frames == 5


def test_a_folder_is_a_video_in_the_order_people_count(tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(picture(i)).save(tmp_path / f"frame{i}.png")
    found = list(frames(tmp_path, rate=10))
    assert [number(f) for f in found] == list(range(12))
    assert np.allclose([f.time for f in found], np.arange(12) / 10)
    (tmp_path / "frame4.png").write_bytes(b"damaged")
    with pytest.raises(DamagedVideoError, match=r"frame4\.png") as raised:
        left = []
        left.extend(frames(tmp_path, rate=10))
    assert raised.value.decoded == len(left) == 11
    assert [f.index for f in left] == [number(f) for f in left] == [i for i in range(12) if i != 4]


def test_wrong_numbers_are_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every"):
        frames(video, every=0)
    with pytest.raises(InputError, match="rate"):
        frames(tmp_path, rate=0)
    with pytest.raises(VideoError, match="no image"):
        frames(tmp_path)


def test_folders_are_searched_for_videos(tmp_path: Path, video: Path) -> None:
    for name in ("b.mp4", "sub/a.MOV", "c.txt", "d.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_videos(tmp_path)] == ["b.mp4", "d.webp", "a.MOV"]


# a few frames of a long video


@pytest.fixture
def jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is jumped to."""
    monkeypatch.setattr(container, "_NEAR", 0.0)


KINDS = {
    "B-frames.mp4": {"codec": "libx264", "bf": "3"},
    "open.mkv": {"codec": "libx264", "bf": "3", "x264-params": "open-gop=1:keyint=10"},
    "old.avi": {"codec": "mpeg4", "b": "8M"},
    "broadcast.ts": {"codec": "libx264"},
    "disc.mpg": {"codec": "mpeg2video", "bf": "2", "b": "8M"},
    "web.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"},
    "flash.flv": {"codec": "libx264"},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("jumps")
def test_frames_that_are_jumped_to_are_those_of_the_whole(tmp_path: Path, name: str) -> None:
    how = dict(KINDS[name])
    path = write_video(tmp_path / name, 38, codec=how.pop("codec"), coding={"g": "10", **how})
    whole = {f.index: f for f in frames(path)}
    assert [number(f) for f in whole.values()] == list(range(38))
    jumped = pictures_at(path, [f.time for f in whole.values()])
    assert all(np.array_equal(jumped[f.time], f.image) for f in whole.values() if f.time in jumped)
    if name.endswith(("mp4", "mkv", "avi", "webm")):
        assert len(jumped) == 38
    for wanted in ([37], [29, 4], [9, 10, 11, 35]):
        found = read_frames(path, {i: whole[i].time for i in wanted})
        assert sorted(found) == sorted(wanted)
        assert all(np.array_equal(f.image, whole[i].image) and f.time == whole[i].time for i, f in found.items())


@pytest.mark.usefixtures("jumps")
def test_uneven_times_and_a_turned_picture_are_jumped_to(tmp_path: Path) -> None:
    pts = np.random.default_rng(3).integers(5, 90, 38).cumsum().tolist()
    data = bytearray(write_video(tmp_path / "uneven.mp4", 38, pts=pts, coding={"bf": "3", "g": "9"}).read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    whole = {f.time: f.image for f in frames(path)}
    assert whole[0.0].shape == (96, 64, 3) and len(set(np.diff(list(whole)).round(4))) > 10
    jumped = pictures_at(path, whole)
    assert jumped.keys() == whole.keys() and all(np.array_equal(jumped[t], whole[t]) for t in whole)


def test_far_frames_are_not_decoded_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "long.mp4", 36, rate=1)  # with a key frame every 8 s
    seen = []
    stated = container._stated
    monkeypatch.setattr(container, "_stated", lambda frame, stream: seen.append(frame) or stated(frame, stream))
    found = read_frames(path, {3: 3.0, 30: 30.0, 31: 31.0})
    assert {i: number(f) for i, f in found.items()} == {3: 3, 30: 30, 31: 31}
    assert len(seen) < 16  # 0 to 3, and 24 to 31


@pytest.mark.usefixtures("jumps")
def test_where_no_jump_lands_all_is_decoded(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {f.index: f for f in frames(video)}

    def right(found: dict[int, Frame]) -> bool:
        return all(np.array_equal(f.image, whole[i].image) for i, f in found.items()) and sorted(found) == [3, 17]

    assert right(read_frames(video, {3: whole[3].time, 17: 99.0}))  # a time that no frame has
    # an index that knows the first key frame alone
    data = bytearray(video.read_bytes())
    at = data.index(b"stss") + 8
    assert struct.unpack_from(">I", data, at)[0] > 1
    data[at - 12 : at - 4] = struct.pack(">I4s", struct.unpack_from(">I", data, at - 12)[0], b"free")
    unmarked = tmp_path / "unmarked.mp4"  # every frame is said to be a key frame
    unmarked.write_bytes(data)
    assert right(read_frames(unmarked, {3: whole[3].time, 17: whole[17].time}))
    cut = tmp_path / "cut.mkv"  # the index stands at the end
    data = write_video(tmp_path / "whole.mkv", 30).read_bytes()
    cut.write_bytes(data[: int(len(data) * 0.8)])
    there = []
    with pytest.raises(DamagedVideoError):
        there.extend(frames(cut))
    found = read_frames(cut, {f.index: f.time for f in there[::5]})
    assert all(np.array_equal(found[f.index].image, f.image) for f in there[::5])

    class Refusing:
        """A container that can't be jumped in."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def __enter__(self) -> Refusing:
            return self

        def __exit__(self, *_: object) -> None:
            self._inner.close()

        def seek(self, *_: object, **__: object) -> None:
            raise av.FFmpegError(1, "no way")

    opened = container._open
    monkeypatch.setattr(container, "_open", lambda path: (lambda c, s: (Refusing(c), s))(*opened(path)))
    assert pictures_at(video, [0.4]) == {}
    assert right(read_frames(video, {3: whole[3].time, 17: whole[17].time}))


@pytest.mark.shared
@pytest.mark.usefixtures("jumps")
@pytest.mark.parametrize("name", ["d10.mp4", "d20.mp4"])
def test_published_clips_are_jumped_in(shared_data: Callable[[str], Path], name: str) -> None:
    path = next(shared_data("videos").rglob(name))
    wanted = {f.index: f for f in frames(path) if f.index % 37 == 5}
    jumped = pictures_at(path, [f.time for f in wanted.values()])
    assert len(jumped) == len(wanted)
    assert all(np.array_equal(jumped[f.time], f.image) for f in wanted.values())
