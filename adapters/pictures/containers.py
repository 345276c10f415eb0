"""What the bytes of a file say that it is, and where its picture ends; nothing is decoded."""

import re
import zlib
from dataclasses import dataclass

from adapters.pictures.picture import MOST_SCANS

_MOST_TEXT = 1024 * 1024
"""Bytes of one text or colour profile of a PNG when it is inflated; Pillow has the same limit."""
_MOST_TEXTS = 16 * _MOST_TEXT
"""Bytes of all of them."""
_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""Without stuffed zeros and restart markers, which are part of the compressed data."""
_BOXES = frozenset((b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"mfra", b"sidx", b"styp", b"free", b"skip", b"uuid"))
_SAMSUNG_BOXES = frozenset((b"sefd", b"mpvd"))
"""Data of its own, and the video of a motion photo."""
_AVIF = frozenset((b"avif", b"avis"))
_HEIF = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))


@dataclass(frozen=True)
class Container:
    """The structure of a file of a known type."""

    media_type: str
    end: int | None
    """Bytes from the beginning of the file to the end of its picture; None where the file ends earlier."""
    scans: int = 0
    """Of a JPEG; counted until there are too many."""
    several_pictures: bool = False
    """A JPEG with an index of further ones behind it (Multi-Picture Format), as phones write it."""
    damaged: bool = False
    """A PNG whose checksums say so, which Pillow does not look at for pixels."""
    inflates: bool = False
    """A PNG whose texts or colour profile are compressed and larger than any in use."""
    size: tuple[int, int] | None = None
    """Width and height of a WebP in pixels: Pillow allocates them when it opens the file."""


def read_container(data: bytes) -> Container | None:
    """The structure of a file; None if it is no picture."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return _boxes(data) if data[4:8] == b"ftyp" else None


def _jpeg(data: bytes) -> Container:
    at, scans, several = 2, 0, False
    end = None
    while scans <= MOST_SCANS and (found := _JPEG_MARKER.search(data, at)):
        at, marker = found.end(), found[1][0]
        if marker == 0xD9:
            end = at
            break
        if marker in (0x01, 0xD8):
            continue
        several = several or (marker == 0xE2 and data[at + 2 : at + 6] == b"MPF\0")
        scans += marker == 0xDA
        at += max(2, int.from_bytes(data[at : at + 2]))
    return Container("image/jpeg", end, scans=scans, several_pictures=several)


def _png(data: bytes) -> Container:
    view = memoryview(data)
    at, end, inflated, damaged = 8, None, 0, False
    while at + 12 <= len(data) and end is None and inflated <= _MOST_TEXTS:
        name, begin = data[at + 4 : at + 8], at + 8
        at = begin + int.from_bytes(data[at : at + 4]) + 4
        if name in (b"IHDR", b"PLTE", b"IDAT"):
            damaged = damaged or (zlib.crc32(view[begin - 4 : at - 4]) != int.from_bytes(view[at - 4 : at]))
        if name in (b"zTXt", b"iTXt", b"iCCP"):
            size = _inflated_size(name, data[begin : at - 4])
            inflated += size if size <= _MOST_TEXT else _MOST_TEXTS + 1
        if name == b"IEND" and at <= len(data):
            end = at
    return Container("image/png", end, damaged=damaged, inflates=inflated > _MOST_TEXTS)


def _inflated_size(name: bytes, chunk: bytes) -> int:
    """Bytes of what is compressed in a chunk, at most one more than a text may have."""
    _, _, rest = chunk.partition(b"\0")
    if name == b"iTXt":
        if rest[:1] != b"\1":
            return 0
        _, _, rest = rest[2:].partition(b"\0")  # the language, after the method
        _, _, compressed = rest.partition(b"\0")  # the translated keyword
    else:
        compressed = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(compressed, _MOST_TEXT + 1))
    except zlib.error:
        return 0


def _gif(data: bytes) -> Container:
    at: int | None = 13 + _colours(data[10:11])
    end = None
    while at is not None and at < len(data):
        match data[at]:
            case 0x21:
                at = _after_blocks(data, at + 2)
            case 0x2C:
                at = _after_blocks(data, at + 11 + _colours(data[at + 9 : at + 10]))
                # Some encoders forget the end marker; only the first frame is used.
                end = at
            case 0x3B:
                return Container("image/gif", at + 1)
            case _:
                break
    return Container("image/gif", end)


def _colours(flags: bytes) -> int:
    """Bytes of a colour table."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int | None:
    """Where a list of blocks ends; None where the file ends earlier."""
    while at < len(data):
        size = data[at]
        at += 1 + size
        if not size:
            return at
    return None


def _webp(data: bytes) -> Container:
    end = 8 + int.from_bytes(data[4:8], "little")
    end += end % 2
    # Some encoders leave out the byte that makes the size even.
    return Container("image/webp", min(end, len(data)) if end <= len(data) + 1 else None, size=_webp_size(data))


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _boxes(data: bytes) -> Container | None:
    """The boxes of ISO/IEC 14496-12, of which AVIF and HEIC consist."""
    first = int.from_bytes(data[:4])
    brands = {data[at : at + 4] for at in (8, *range(16, min(first, 1024), 4))}
    if not brands & (_AVIF | _HEIF):
        return None
    media_type = "image/avif" if brands & _AVIF else "image/heic"
    at = 0
    while at + 8 <= len(data) and data[at + 4 : at + 8] in _BOXES | _SAMSUNG_BOXES:
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        at = at + max(8, size) if size else len(data)
    return Container(media_type, at if at <= len(data) else None)
