"""Reading images: what a camera, a browser or a face-swap model wrote becomes RGB uint8, or is refused."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, UnreadableImageError

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

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused as decompression bombs; Pillow's own limit, about 13,000 x 13,000."""

# The decoders that may run. The rest of Pillow's are left out because no face arrives in those formats
# and some are dangerous on strangers' files: EPS starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM")
_EXIF_ORIENTATION = 0x0112
_CHUNK = 1 << 20


def read_image(source: ImageSource) -> NDArray[np.uint8]:
    """Decode an image file, or check an array, into RGB uint8 (H, W, 3), values 0..255, C-contiguous.

    Files: PNG, JPEG (grey, colour, CMYK), WebP, AVIF, GIF, TIFF, BMP, JPEG 2000 and PNM, told apart by their
    content. The EXIF orientation is applied. Of several frames the first is taken. 16-bit grey v becomes
    v / 257; 16-bit colour loses its low byte in Pillow, which is at most one level off. Transparent
    pixels are composited over black, because that is also what lies outside the picture once a face crop is
    warped. ICC profiles are not applied: face models are trained on pixels as stored.

    Arrays are RGB, channels last. uint8 (H, W, 3) is returned as it is, without a copy where it is
    contiguous; (H, W), (H, W, 1) and (H, W, 4), and uint16, are converted as files are.

    Raises UnreadableImageError, which names the file and why: missing, no regular file, not permitted, empty,
    no image, truncated, damaged, more than MAX_PIXELS pixels, or floating point, whose range nobody states.
    Raises InputError if other code switched on Pillow's LOAD_TRUNCATED_IMAGES: half an image is no image.
    """
    import numpy as np

    if isinstance(source, np.ndarray):
        return _from_array(source)
    path = _regular_file(source)
    try:
        return _decode(path)
    except (UnreadableImageError, InputError, ImportError):  # ImportError: the installation is at fault
        raise
    except Exception as error:  # on damaged bytes decoders raise anything from struct.error to MemoryError
        raise _unreadable(path, _reason(path, error)) from error


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
        raise _unreadable(path, _reason(path, error)) from error
    return digest.hexdigest()


def _regular_file(source: str | os.PathLike[str]) -> Path:
    """The path, if it is a regular file: opening a named pipe would wait for ever."""
    path = Path(os.fsdecode(source))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in the name
        raise _unreadable(path, _reason(path, error)) from error
    if stat.S_ISDIR(mode):
        raise _unreadable(path, "it is a folder, not an image file")
    if not stat.S_ISREG(mode):
        raise _unreadable(path, "it is not a regular file")
    return path


def _decode(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is switched on in this process, so a truncated image would "
            "be measured with its missing part grey; set it to False before measuring"
        )
    if path.stat().st_size == 0:
        raise _unreadable(path, "the file is empty")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # older Pillows know no AVIF
    with path.open("rb") as file, Image.open(file, formats=formats) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _unreadable(path, f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
        image.load()  # before the orientation is asked for: TIFF files turn themselves while loading
        return _to_rgb(path, _upright(path, image))


def _upright(path: Path, image: PILImage) -> PILImage:
    """The image turned as its EXIF orientation says."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception as error:  # the pixels are fine; every viewer shows such a file as it is stored
        warnings.warn(f"{str(path)!r}: EXIF data can't be read, taken as upright ({error})", stacklevel=2)
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(path: Path, image: PILImage) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise _unreadable(path, "floating-point pixels have no stated range; save them with 8 or 16 bits")
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
    return np.array(image.convert("RGB"), dtype=np.uint8, order="C")


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
    return f"can't be decoded: {error or type(error).__name__}"
