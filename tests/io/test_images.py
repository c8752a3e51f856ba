"""What `read_image` promises, for every kind of file that people really have."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.io import limits
from exprmetric.io.images import IMAGE_SUFFIXES, content_hash, decode_image, read_image


@pytest.fixture(scope="module")
def photo(portrait_photo: Path) -> np.ndarray:
    """Not square and not symmetric, so that no turn or swap of axes can hide. (H, W, 3) = (120, 90, 3)."""
    bgr = cv2.imread(str(portrait_photo))
    return np.ascontiguousarray(cv2.resize(bgr[:240, 100:280], (90, 120), interpolation=cv2.INTER_AREA)[..., ::-1])


def save(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_the_portrait_reads_as_opencv_reads_it(portrait_photo: Path) -> None:
    pixels = read_image(portrait_photo)
    assert pixels.dtype == np.uint8 and pixels.shape == (512, 512, 3) and pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, cv2.imread(str(portrait_photo))[..., ::-1])


def test_a_jpeg_reads_as_opencv_reads_it(group_photo: Path) -> None:
    # two builds of libjpeg-turbo may round differently
    assert difference(read_image(str(group_photo)), cv2.imread(str(group_photo))[..., ::-1]) <= 3


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_that_folders_are_searched_for_can_be_read(suffix: str, photo: np.ndarray, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    grey = Image.fromarray(photo).convert("L")
    source = {".pgm": grey, ".pbm": grey.convert("1")}.get(suffix, Image.fromarray(photo))
    buffer = io.BytesIO()
    formats = Image.registered_extensions()
    source.save(buffer, formats.get(suffix, "JPEG"))
    path = tmp_path / f"face{suffix}"
    path.write_bytes(buffer.getvalue())
    expected = np.array(source.convert("RGB"))
    assert np.abs(read_image(path).astype(int) - expected).mean() < 8
    assert read_image(path).shape == photo.shape


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_files_keep_every_value(suffix: str, photo: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / f"face{suffix}", photo)), photo)


def test_lossless_webp_keeps_every_value(photo: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "face.webp", photo, lossless=True)), photo)


def test_the_format_is_told_by_content_not_by_name(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    save(tmp_path / "face.png", photo).rename(path)
    np.testing.assert_array_equal(read_image(path), photo)


# As a viewer shows it: what must be done to the stored pixels, for each EXIF orientation.
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied_exactly_once(
    orientation: int, suffix: str, photo: np.ndarray, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"face{suffix}", photo, exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), ORIENTATIONS[orientation](photo))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_jpegs_are_turned_as_opencv_turns_them(orientation: int, photo: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "face.jpg", photo, exif=exif, quality=95)
    assert difference(read_image(path), cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]) <= 3


def test_damaged_exif_leaves_the_image_readable(photo: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / "face.png", photo, exif=b"Exif\0\0not TIFF at all")
    with pytest.warns(UserWarning, match=r"face\.png.*EXIF"):
        np.testing.assert_array_equal(read_image(path), photo)


def test_grey_is_repeated_over_three_channels(photo: np.ndarray, tmp_path: Path) -> None:
    grey = photo[..., 1]
    pixels = read_image(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(pixels, np.dstack([grey] * 3))


def test_one_bit_images_are_black_and_white(photo: np.ndarray, tmp_path: Path) -> None:
    bits = photo[..., 0] > 127
    pixels = read_image(
        save(tmp_path / "bits.png", Image.fromarray(photo[..., 0]).point(lambda v: 255 * (v > 127), "1"))
    )
    np.testing.assert_array_equal(pixels, np.dstack([bits * np.uint8(255)] * 3))


def test_palette_images_show_their_colours(tmp_path: Path) -> None:
    colours = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 0]], np.uint8)
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    image = Image.fromarray(indices, "L").convert("P")
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(read_image(save(tmp_path / "palette.png", image)), colours[indices])
    np.testing.assert_array_equal(read_image(save(tmp_path / "palette.gif", image)), colours[indices])


def over_black(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.round(rgb * (alpha[..., None] / 255)).astype(np.uint8)


def test_transparency_is_composited_over_black(photo: np.ndarray, tmp_path: Path) -> None:
    alpha = np.broadcast_to(np.linspace(0, 255, photo.shape[1]).round().astype(np.uint8), photo.shape[:2])
    rgba = np.dstack([photo, alpha])
    expected = over_black(photo, alpha)
    assert difference(read_image(save(tmp_path / "rgba.png", rgba)), expected) <= 1
    assert difference(read_image(save(tmp_path / "rgba.tif", rgba)), expected) <= 1
    assert difference(read_image(rgba), expected) <= 1
    grey_alpha = Image.merge("LA", [Image.fromarray(photo[..., 0]), Image.fromarray(np.ascontiguousarray(alpha))])
    grey = np.dstack([photo[..., 0]] * 3)
    assert difference(read_image(save(tmp_path / "la.png", grey_alpha)), over_black(grey, alpha)) <= 1
    opaque = np.dstack([photo, np.full_like(photo[..., 0], 255)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "opaque.png", opaque)), photo)


def test_a_transparent_colour_is_black(tmp_path: Path) -> None:
    rgb = np.array([[[9, 8, 7], [200, 100, 50]]], np.uint8)
    path = save(tmp_path / "keyed.png", Image.fromarray(rgb), transparency=(200, 100, 50))
    np.testing.assert_array_equal(read_image(path), [[[9, 8, 7], [0, 0, 0]]])
    grey = save(tmp_path / "keyed_grey.png", Image.fromarray(rgb[..., 0]), transparency=9)
    np.testing.assert_array_equal(read_image(grey), [[[0, 0, 0], [200, 200, 200]]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette(rgb.tobytes())
    path = save(tmp_path / "keyed.gif", palette, transparency=1)
    np.testing.assert_array_equal(read_image(path), [[[9, 8, 7], [0, 0, 0]]])


def test_cmyk_survives_the_round_trip(photo: np.ndarray, tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(photo, (0, 0), 2)
    cmyk = Image.fromarray(smooth).convert("CMYK")
    # Pillow writes JPEGs as Adobe does, with inverted inks: read as they stand they would be a negative
    jpeg = save(tmp_path / "cmyk.jpg", cmyk, quality=95)
    assert b"Adobe" in jpeg.read_bytes()
    assert np.abs(read_image(jpeg).astype(int) - smooth).mean() < 2
    assert difference(read_image(save(tmp_path / "cmyk.tif", cmyk)), smooth) <= 1


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_16_bit_grey_is_scaled_not_clipped(suffix: str, tmp_path: Path) -> None:
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    values[-1, -1] = 65535
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), values)
    expected = np.dstack([np.round(values / 257).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_image(values), expected)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_colour_is_the_8_bit_image_within_a_level(suffix: str, photo: np.ndarray, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-100, 100, photo.shape)
    deep = np.clip(photo.astype(int) * 257 + noise, 0, 65535).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), deep[..., ::-1])
    assert difference(read_image(path), photo) <= 1
    assert difference(read_image(deep), photo) <= 1


def test_ambiguous_deep_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="no stated range"):
        read_image(save(tmp_path / "float.tif", np.full((4, 4), 0.5, np.float32)))
    with pytest.raises(UnreadableImageError, match=r"-7\.\.70000"):
        read_image(save(tmp_path / "int.tif", np.array([[-7, 70000]], np.int32)))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame_is_read(suffix: str, tmp_path: Path) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = [Image.new("RGB", (16, 8), colour) for colour in colours]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"moving{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
    np.testing.assert_array_equal(read_image(path), np.array(frames[0]))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(suffix: str, share: float, photo: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / f"half{suffix}", photo)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImageError, match="half"):
        read_image(path)


def test_the_switch_that_accepts_truncated_files_is_not_obeyed(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "face.png", photo)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match="LOAD_TRUNCATED_IMAGES"):
        read_image(path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_decompression_bombs_are_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(UnreadableImageError, match=r"bomb\.png.*pixels"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # other code lifting Pillow's limit lifts not ours
    with pytest.raises(UnreadableImageError, match="20000 x 20000 is more than 178,956,970 pixels"):
        read_image(path)


def test_the_limit_is_inclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "face.png", np.zeros((5, 7, 3), np.uint8))
    monkeypatch.setattr(limits, "MAX_PIXELS", 35)
    assert read_image(path).shape == (5, 7, 3)
    monkeypatch.setattr(limits, "MAX_PIXELS", 34)
    with pytest.raises(UnreadableImageError, match="7 x 5 is more than 34 pixels"):
        read_image(path)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_bomb_warning_made_an_error_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "face.png", np.zeros((5, 7, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UnreadableImageError, match="35 pixels"):
        read_image(path)


def test_refusals_name_the_file_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("this is no image")
    (tmp_path / "notes.txt").write_text("this is no image")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    reasons = {
        "missing.png": "no such file",
        "empty.png": "the file is empty",
        "text.png": "not an image in a format that can be read",
        "notes.txt": r"not an image in a format that can be read \(suffix '.txt'\)",
        "script.eps": "not an image in a format that can be read",
        ".": "a folder",
        "a\0b.png": "null",
        "x" * 300 + ".png": "too long",
    }
    for name, reason in reasons.items():
        for read in (read_image, content_hash) if "format" not in reason and "empty" not in reason else (read_image,):
            with pytest.raises(UnreadableImageError, match=rf"(?s).*{reason}") as caught:
                read(tmp_path / name)
            assert repr(str(tmp_path / name)) in str(caught.value)
            assert caught.value.status == "unreadable"
            assert "0x7f" not in str(caught.value)


def test_the_content_of_a_file_is_read_as_the_file_is(group_photo: Path) -> None:
    np.testing.assert_array_equal(decode_image(group_photo.read_bytes(), "a.zip/b.jpg"), read_image(group_photo))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"....ftypheic....", "it is a HEIF picture"),
        (b"PK\x03\x04....", "it is an archive, not an image: unpack it"),
        (b"\0\0\0\x18ftypmp42", "it is a video"),
        (b"no picture", r"not an image in a format that can be read \(suffix '.txt'\)"),
    ],
)
def test_content_that_is_no_image_is_refused_by_the_name_that_is_given(content: bytes, why: str) -> None:
    with pytest.raises(UnreadableImageError, match=f"a.zip/b.txt.*{why}"):
        decode_image(content, "a.zip/b.txt")


def test_a_name_with_a_line_break_is_read_and_shown_escaped(photo: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / "two\nlines \x1b[31m.png", photo)
    np.testing.assert_array_equal(read_image(path), photo)
    path.write_bytes(b"junk")
    with pytest.raises(UnreadableImageError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_broken_installation_is_not_blamed_on_the_image(
    portrait_photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise ImportError("libjpeg is gone")

    monkeypatch.setattr(Image, "init", init)
    with pytest.raises(ImportError, match="libjpeg is gone"):
        read_image(portrait_photo)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, content_hash):
        with pytest.raises(UnreadableImageError, match="not a regular file"):
            read(tmp_path / "pipe.png")


def test_permission_denied_is_said(photo: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / "secret.png", photo)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    for read in (read_image, content_hash):
        with pytest.raises(UnreadableImageError, match="Permission denied"):
            read(path)


def test_arrays_are_taken_as_they_are(photo: np.ndarray) -> None:
    assert read_image(photo) is photo
    flipped = photo[:, ::-1]
    assert read_image(flipped).flags.c_contiguous
    np.testing.assert_array_equal(read_image(flipped), flipped)
    grey = photo[..., 0]
    np.testing.assert_array_equal(read_image(grey), np.dstack([grey] * 3))
    np.testing.assert_array_equal(read_image(grey[..., None]), np.dstack([grey] * 3))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((8, 8, 3), np.float32, "float32.*scale"),
        ((8, 8, 3), np.float64, "float64"),
        ((8, 8, 3), np.int64, "int64"),
        ((8, 8), bool, "bool"),
        ((8,), np.uint8, r"\(8,\)"),
        ((3, 8, 9), np.uint8, r"\(3, 8, 9\).*channels come last"),
        ((2, 8, 8, 3), np.uint8, r"one image at a time"),
        ((8, 8, 2), np.uint8, r"\(8, 8, 2\)"),
        ((0, 8, 3), np.uint8, r"\(0, 8, 3\)"),
        ((8, 0), np.uint16, r"\(8, 0\)"),
    ],
)
def test_arrays_whose_meaning_is_open_are_refused(shape: tuple[int, ...], dtype: type, message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message):
        read_image(np.zeros(shape, dtype))


def test_nan_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="float"):
        read_image(np.full((8, 8, 3), np.nan))


def test_content_hash_is_the_hash_of_the_bytes(portrait_photo: Path, tmp_path: Path) -> None:
    expected = hashlib.sha256(portrait_photo.read_bytes()).hexdigest()
    assert content_hash(portrait_photo) == content_hash(str(portrait_photo)) == expected
    copy = tmp_path / "other_name.png"
    copy.write_bytes(portrait_photo.read_bytes())
    assert content_hash(copy) == expected


def test_content_hash_tells_arrays_apart_by_value_shape_and_dtype(photo: np.ndarray) -> None:
    assert content_hash(photo) == content_hash(photo.copy()) == content_hash(np.asfortranarray(photo))
    others = [
        photo ^ np.uint8(1),
        photo.reshape(photo.shape[1], photo.shape[0], 3),
        photo[..., 0],
        photo.view(np.int8),
    ]
    hashes = {content_hash(photo), *map(content_hash, others)}
    assert len(hashes) == 1 + len(others)


def read_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        pixels = read_image(path)
    except UnreadableImageError as error:
        assert path.name in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


MAGICS = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"RIFF\x10\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0",
    b"P6 ",
]
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(magic=st.sampled_from(MAGICS), data=st.binary(max_size=400))
@pytest.mark.filterwarnings("ignore")
def test_random_bytes_are_read_or_refused(magic: bytes, data: bytes, tmp_path: Path) -> None:
    read_or_refuse(tmp_path / "fuzz.png", magic + data)


@FUZZ
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".webp"])
def test_mutated_files_are_read_or_refused(suffix: str, data: st.DataObject, photo: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if suffix == ".gif" else {"exif": exif}
    original = tmp_path / f"original{suffix}"
    if not original.exists():
        save(original, photo[:24, :20], **options)
    content = bytearray(original.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        # the first bytes are headers, where most goes wrong
        limit = data.draw(st.sampled_from([40, 200, len(content)]))
        content[data.draw(st.integers(0, min(limit, len(content)) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    read_or_refuse(tmp_path / f"fuzz{suffix}", bytes(content[:end]))


@FUZZ
@given(
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int8, np.float32, bool, np.complex64, object, "U3"]),
)
@example(shape=(), dtype=np.uint8)
def test_any_array_is_read_or_refused(shape: tuple[int, ...], dtype: type) -> None:
    try:
        pixels = read_image(np.zeros(shape, dtype))
    except UnreadableImageError:
        return
    assert pixels.dtype == np.uint8 and pixels.shape == (*shape[:2], 3) and pixels.flags.c_contiguous


@pytest.mark.shared
def test_hard_inputs_read_or_are_refused_by_name(shared_data: Callable[[str], Path]) -> None:
    paths = sorted(shared_data("hard_inputs").iterdir())
    assert len(paths) > 10
    for path in paths:
        if path.suffix in IMAGE_SUFFIXES:
            reference = cv2.imread(str(path), cv2.IMREAD_COLOR)
            assert np.abs(read_image(path).astype(int) - reference[..., ::-1]).mean() < 1
        else:
            with pytest.raises(UnreadableImageError, match=path.name):
                read_image(path)
