"""Reading images: what a camera, a browser or a face-swap model wrote becomes RGB uint8, or is refused."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import ExprmetricError, InputError, UnreadableImageError
from exprmetric.io import limits
from exprmetric.io.faults import of_machine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

    ImageSource = str | os.PathLike[str] | NDArray[Any]

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".gif"}
    | {".bmp", ".dib", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Lower-case suffixes of the files that folders are searched for."""

PICTURE_SUFFIXES: frozenset[str] = IMAGE_SUFFIXES | {".heic", ".heif", ".hif"}
"""Those and the suffixes of pictures that can't be read: they are rows with a reason, and not passed over."""
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"}
    | {".3gp", ".mxf", ".nut", ".ivf"}
)
"""Lower-case suffixes of video files."""
MOVING_SUFFIXES = VIDEO_SUFFIXES | {".webp", ".gif", ".apng"}
"""Those and the suffixes of animated images: what folders are searched for."""
USE_VIDEO = "`exprmetric video evaluate` measures videos"

# The decoders that may run. The rest of Pillow's are left out because no face arrives in those formats
# and some are dangerous on strangers' files: EPS starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM")
_EXIF_ORIENTATION = 0x0112
_HEAD = 256
_TOO_MANY = "more than any image that is read"
_CHUNK = 1 << 20
_STRIP = 1 << 20  # pixels converted at a time, so that no second copy of a large image stands in memory
# What people take for images, by its first bytes.
_NO_IMAGES = {
    rb"....ftyp(?:heic|heix|heim|heis|hevc|hevx|mif1|msf1)": "a HEIF picture, which is not read; save it as PNG or "
    "JPEG, for instance with the package pillow-heif",
    rb"....ftypavi[fs]": "an AVIF picture that is damaged, or that the installed Pillow can't read",
    rb"....ftyp|\0...(?:moov|mdat|wide|free|skip|pnot)|\x1aE\xdf\xa3|RIFF....AVI |FLV\x01|OggS|\0\0\x01[\xb3\xba]"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11|G.{187}G": f"a video, not an image: {USE_VIDEO}",
    rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf": "an archive, not an image: unpack it and give its folder",
}


@dataclass(frozen=True)
class Pinned:
    """A file, and the SHA-256 (64 hex digits) of what it held when it was first looked at: nothing else is read."""

    path: Path
    sha256: str


def read_image(source: ImageSource | Pinned) -> NDArray[np.uint8]:
    """Decode an image file, or check an array, into RGB uint8 (H, W, 3), values 0..255, C-contiguous.

    Files: PNG, JPEG (grey, colour, CMYK), WebP, AVIF, GIF, TIFF, BMP, JPEG 2000 and PNM, told apart by their
    content. The EXIF orientation is applied. Of several frames the first is taken. 16-bit grey v becomes
    v / 257; 16-bit colour loses its low byte in Pillow, which is at most one level off. Transparent
    pixels are composited over black, because that is also what lies outside the picture once a face crop is
    warped. ICC profiles are not applied: face models are trained on pixels as stored.

    Arrays are RGB, channels last. uint8 (H, W, 3) is returned as it is, without a copy where it is
    contiguous; (H, W), (H, W, 1) and (H, W, 4), and uint16, are converted as files are.

    Raises UnreadableImageError, which names the file and why: missing, no regular file, not permitted, empty,
    no image, truncated, damaged, floating point, whose range nobody states, or beyond a limit of
    `exprmetric.io.limits`; or, of a `Pinned` file, not what it was. While a file is read, its bytes and at most 7 bytes
    a pixel are held.
    Raises InputError if other code switched on Pillow's LOAD_TRUNCATED_IMAGES: half an image is no image.
    """
    import numpy as np

    if isinstance(source, np.ndarray):
        return _from_array(source)
    path = _regular_file(source.path if isinstance(source, Pinned) else source)
    try:
        with path.open("rb") as file:
            # as many as there are, and one more: `read` reserves what it is asked for
            content = file.read(min(os.fstat(file.fileno()).st_size, limits.MAX_BYTES) + 1)
    except OSError as error:
        raise _fault(path, error) from error
    if isinstance(source, Pinned) and hashlib.sha256(content).hexdigest() != source.sha256:
        raise _unreadable(path, "it was changed while it was measured")
    return decode_image(content, path)


def decode_image(content: bytes, name: str | Path) -> NDArray[np.uint8]:
    """`read_image` for the content of a file, as of a member of a zip; `name` says in errors whose it is."""
    import numpy as np

    path = Path(name)
    if not content:
        raise _unreadable(path, "the file is empty")
    if len(content) > limits.MAX_BYTES:
        raise _unreadable(path, f"the file has {len(content):,} bytes, {_TOO_MANY}")
    try:
        pixels, turn = _decode(path, content)
        return np.ascontiguousarray(turn(pixels))
    except UnreadableImageError:
        raise
    except Exception as error:  # on damaged bytes decoders raise anything from struct.error to MemoryError
        raise _fault(path, error) from error


def pillow_pixels(image: PILImage) -> NDArray[np.uint8]:
    """A Pillow image as `read_image` reads the file of it: RGB uint8 (H, W, 3), upright, and over black where it is
    transparent. Raises UnreadableImageError."""
    import numpy as np

    name = Path(str(getattr(image, "filename", "") or "a Pillow image"))
    try:
        image.load()  # before the orientation is asked for: TIFF files turn themselves while loading
        return np.ascontiguousarray(_upright(name, image)(_to_rgb(name, image)))
    except UnreadableImageError:
        raise
    except Exception as error:
        raise _fault(name, error) from error


def content_hash(source: ImageSource) -> str:
    """SHA-256, as 64 hex digits, of a file's bytes; of dtype, shape and values for an array.

    Two files of the same bytes share a hash under any name. Raises UnreadableImageError.
    """
    import numpy as np

    digest = hashlib.sha256()
    if isinstance(source, np.ndarray):
        digest.update(f"array {source.dtype.str} {source.shape}\n".encode())
        digest.update(np.ascontiguousarray(source).tobytes())
        return digest.hexdigest()
    path = _regular_file(source)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _fault(path, error) from error
    return digest.hexdigest()


def _regular_file(source: str | os.PathLike[str]) -> Path:
    """The path, if it is a regular file with content: opening a named pipe or the kernel's log would wait for ever."""
    path = Path(os.fsdecode(source))
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in the name
        raise _unreadable(path, _reason(path, error)) from error
    if stat.S_ISDIR(found.st_mode):
        raise _unreadable(path, "it is a folder, not an image file")
    if not stat.S_ISREG(found.st_mode):
        raise _unreadable(path, "it is not a regular file")
    if not found.st_size:
        raise _unreadable(path, "the file is empty")
    if found.st_size > limits.MAX_BYTES:
        try:
            with path.open("rb") as file:
                what = _no_image(file.read(_HEAD))
        except OSError:
            what = ""
        what = what or _TOO_MANY
        raise _unreadable(path, f"the file has {found.st_size:,} bytes, {what}")
    return path


def _decode(path: Path, content: bytes) -> tuple[NDArray[np.uint8], _Turn]:
    """The pixels as stored, and what turns them upright."""
    from PIL import Image, ImageFile, UnidentifiedImageError

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is switched on in this process, so a truncated image would "
            "be measured with its missing part grey; set it to False before measuring"
        )
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # older Pillows know no AVIF
    try:
        opened = Image.open(io.BytesIO(content), formats=formats)
    except UnidentifiedImageError as error:
        if what := _no_image(content[:_HEAD]):
            raise _unreadable(path, f"it is {what}") from error
        raise
    with opened as image:
        width, height = image.size
        if width * height > limits.MAX_PIXELS:
            raise _unreadable(path, f"{width} x {height} is more than {limits.MAX_PIXELS:,} pixels")
        if image.format in ("JPEG", "MPO") and (why := limits.costly_jpeg(content, width * height)):
            raise _unreadable(path, f"{width} x {height}, {why}")
        image.load()  # before the orientation is asked for: TIFF files turn themselves while loading
        return _to_rgb(path, image), _upright(path, image)


_Turn = Callable[["NDArray[np.uint8]"], "NDArray[np.uint8]"]
# By EXIF orientation. All are views: rows and columns are exchanged and reversed.
_TURNS: dict[int, _Turn] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}


def _upright(path: Path, image: PILImage) -> _Turn:
    """What turns the image as its EXIF orientation says."""

    def as_stored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels

    try:
        return _TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1), as_stored)
    except Exception as error:  # the pixels are fine; every viewer shows such a file as it is stored
        warnings.warn(f"{str(path)!r}: EXIF data can't be read, taken as upright ({error})", stacklevel=2)
        return as_stored


def _to_rgb(path: Path, image: PILImage) -> NDArray[np.uint8]:
    import numpy as np

    if image.mode == "F":
        raise _unreadable(path, "floating-point pixels have no stated range; save them with 8 or 16 bits")
    width, height = image.size
    if image.mode == "RGB" and "transparency" not in image.info and hasattr(image, "__arrow_c_array__"):
        try:
            return _shared_rgb(image)
        except ValueError:  # so large that Pillow keeps it in several pieces
            pass
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        pixels[top:bottom] = _strip_to_rgb(path, strip)
    return pixels


def _shared_rgb(image: PILImage) -> NDArray[np.uint8]:
    """Copied once, from Pillow's memory, where a pixel takes four bytes; by way of bytes it would be thrice."""
    import cv2
    import numpy as np
    import pyarrow as pa

    width, height = image.size
    stored = np.frombuffer(pa.array(image).values.buffers()[1], np.uint8).reshape(height, width, 4)
    return np.asarray(cv2.cvtColor(stored, cv2.COLOR_RGBA2RGB), np.uint8)


def _strip_to_rgb(path: Path, image: PILImage) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise _unreadable(path, f"32-bit pixels in {values.min()}..{values.max()}; expected 0..65535")
        return _grey_to_rgb(_to_8_bits(values))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode == "La":  # premultiplied grey has one way out
            image = image.convert("LA")
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # convert copies in any case


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    import numpy as np

    if array.dtype not in (np.uint8, np.uint16):
        hint = "; scale it to 0..255 and convert it first" if array.dtype.kind == "f" else ""
        raise UnreadableImageError(f"array of dtype {array.dtype}: expected uint8 (or uint16){hint}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise UnreadableImageError(
            f"array of shape {array.shape}: expected (H, W, 3), or (H, W) grey, or (H, W, 4) with alpha; "
            "channels come last, one image at a time"
        )
    if array.shape[0] * array.shape[1] > limits.MAX_PIXELS:
        raise UnreadableImageError(f"array of shape {array.shape}: more than {limits.MAX_PIXELS:,} pixels")
    pixels = _to_8_bits(array) if array.dtype == np.uint16 else array
    if channels == 1:
        return _grey_to_rgb(pixels.reshape(array.shape[:2]))
    if channels == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)  # over black
    return np.ascontiguousarray(pixels)


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0..65535 to 0..255, rounded: 257 = 65535 / 255."""
    import numpy as np

    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import numpy as np

    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


def _fault(path: Path, error: Exception) -> ExprmetricError:
    """What is wrong: with the file, or with this machine and so with every file."""
    return of_machine(error) or _unreadable(path, _reason(path, error))


def _unreadable(path: Path, reason: str) -> UnreadableImageError:
    return UnreadableImageError(f"{str(path)!r}: {reason}")  # repr: names may hold line breaks, escape codes


def _reason(path: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # its own message holds a memory address
        known = "" if path.suffix.lower() in IMAGE_SUFFIXES else f" (suffix {path.suffix!r})"
        return f"not an image in a format that can be read{known}"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Pillow quotes what stands in a PNM file, in bytes: the file may be somebody's secret and no image at all
    quoted = any(isinstance(argument, bytes) for argument in error.args)
    return f"can't be decoded: {str(error) if str(error) and not quoted else type(error).__name__}"


def _no_image(head: bytes) -> str:
    """What a file is by its first `_HEAD` bytes, if that is known and no image."""
    return next((what for pattern, what in _NO_IMAGES.items() if re.match(pattern, head, re.DOTALL)), "")
