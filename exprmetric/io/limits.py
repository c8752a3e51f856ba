"""How much one file from outside may cost: the one policy of pixels, bytes and seconds.

| what | limit | else |
| --- | --- | --- |
| an image: file, array, member of a zip | `MAX_PIXELS`, `MAX_BYTES` | its row is `unreadable` |
| a JPEG in several scans | `MAX_SCANNED` pixels over all scans | its row is `unreadable` |
| a frame of a video | `MAX_FRAME_PIXELS`, also where its size changes on the way | the video is damaged there |
| a member of a zip | `MAX_BYTES` (videos: none), `MAX_RATIO` | `InputError`, `VideoError` |
| a table of a data set | `MAX_ROWS` | `InputError` |
| what a crop is low-passed from | `alignment.MOST_SHRINK` times its side, each way | larger ones are reduced first |

All are counted before the work is done, so that they don't depend on the machine or its load; no clock stops anything.
An image at its limits takes a core some seconds to decode.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipfile import ZipInfo

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused as decompression bombs; Pillow's own limit, about 13,000 x 13,000."""
MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are refused unread: more than the largest image takes uncompressed, with 16 bits and alpha."""
MAX_SCANNED = 12 * MAX_PIXELS
"""Pixels of a JPEG times its scans. Cameras and programs write ten scans; one more of no use takes a few bytes, and a
decoder up to a nanosecond a pixel."""
MAX_FRAME_PIXELS = 1 << 26
"""Of a video's frame, of which a decoder holds some twenty: twice what 8K has."""
MAX_RATIO = 100
"""Bytes of a zip's member by those that it takes in the zip. Text shrinks to a tenth, images and videos not at all."""
SMALL = 1 << 26
"""Members of fewer bytes may shrink as much as they like."""
MAX_ROWS = 5_000_000
"""Rows of a data set's table, of which each is kept."""

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_END, _SCAN = 0xD9, 0xDA


def costly_jpeg(content: bytes, pixels: int) -> str:
    """Why a JPEG of so many pixels is not decoded; '' where it may be.

    The bytes are walked from marker to marker, as a decoder does, and not decoded.
    """
    most = MAX_SCANNED // max(1, pixels)
    scans, place = 0, 2
    while scans <= most and (marker := _MARKER.search(content, place)) and marker[1][0] != _END:
        scans += marker[1][0] == _SCAN
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return f"a JPEG in more than {most:,} scans, which would take minutes to decode" if scans > most else ""


def costly_member(member: ZipInfo, most: int | None = MAX_BYTES) -> str:
    """Why a member of a zip is not unpacked; '' where it may be. What it states is all that zipfile will unpack.

    Args:
        most: bytes; None: any number.
    """
    size, packed = member.file_size, member.compress_size
    if most is not None and size > most:
        return f"it has {size:,} bytes, more than the {most:,} that are read"
    if size > SMALL and size > MAX_RATIO * packed:
        return f"{packed:,} bytes of the zip would become {size:,}"
    return ""
