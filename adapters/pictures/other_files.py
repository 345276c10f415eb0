"""Files that are a picture and something else: an archive, a web page, a document, a program.

What follows the end of a picture is never shown to anybody. It is refused because the original is kept, and a program
that reads only the end of a file, as that of an archive does, sees something else than a picture. Cameras and phones
append data of their own, which are allowed: further JPEGs (Multi-Picture Format: gain maps, depth), the video of a
motion photo, and makers' trailers, of which https://exiftool.org/TagNames/Trailer.html lists some.
"""

import re
import struct

from adapters.pictures.containers import Container
from adapters.pictures.picture import PictureRefused

_PADDING = b"\0\xff\r\n\t \x1a"
_WEB_PAGE = re.compile(rb"<(?:script|iframe|html|!doctype html|\?php)[\s>/]", re.IGNORECASE)
_SIGNATURES = (
    b"%PDF-1.",
    b"%PDF-2.",
    b"Rar!\x1a\x07",
    b"7z\xbc\xaf\x27\x1c",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",  # documents of old versions of Office
    b"This program cannot be run in DOS mode",
    b"SQLite format 3\0",
)
"""Long enough that no compressed video contains one by chance: 6 bytes do once in 28 million files of 10 MB."""
_PROGRAMS = (b"\x7fELF", b"MZ", b"#!", b"\xca\xfe\xba\xbe", b"\x1f\x8b\x08", b"\xfd7zXZ", b"PK")
"""Too short to be searched for: only where the picture ends."""
_SCRIPT_BEGINS = re.compile(rb"GIF8[79]a(?:/\*|=.{0,2}/[*/])|\xff\xd8\xff.(?:/\*)", re.DOTALL)
"""The first bytes of a picture that are JavaScript too: its size, or that of its first segment, opens a comment."""
_SCRIPT_GOES_ON = re.compile(rb"\*/[\t\n\r -~]{8}")
_PNG_END = b"IEND\xaeB`\x82"


def refuse_other_files(data: bytes, container: Container, *, from_camera: bool) -> None:
    """Raise PictureRefused if a file that is complete is more than a picture.

    `from_camera` is whether its metadata name the maker of a camera.
    """
    assert container.end is not None
    rest = data[container.end :].strip(_PADDING)
    if (
        _WEB_PAGE.search(data)
        or any(signature in data for signature in _SIGNATURES)
        or rest.startswith(_PROGRAMS)
        or _has_archive(data)
        or (_SCRIPT_BEGINS.match(data) and _SCRIPT_GOES_ON.search(data))
        or (rest and not _may_follow(rest, container, from_camera))
    ):
        raise PictureRefused("several-files-in-one")


def _may_follow(rest: bytes, container: Container, from_camera: bool) -> bool:
    if _is_samsung_trailer(rest):
        return True
    if container.media_type == "image/png":
        # Editors of screenshots on phones left the end of the larger file in place (CVE-2023-21036).
        return rest.endswith(_PNG_END)
    return container.media_type == "image/jpeg" and (from_camera or container.several_pictures)


def _is_samsung_trailer(rest: bytes) -> bool:
    """Whether it ends with a directory (SEFH), the size of that, and SEFT."""
    size = int.from_bytes(rest[-8:-4], "little")
    return rest.endswith(b"SEFT") and rest[-8 - size :].startswith(b"SEFH")


def _has_archive(data: bytes) -> bool:
    """Whether there is the end of a ZIP with its directory before it, wherever the archive begins."""
    at = data.find(b"PK\x05\x06")
    while at >= 0:
        if at + 22 <= len(data):
            size = struct.unpack_from("<I", data, at + 12)[0]
            if size and size <= at and data.startswith(b"PK\x01\x02", at - size):
                return True
        at = data.find(b"PK\x05\x06", at + 4)
    return False
