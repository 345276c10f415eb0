"""Files of pictures, good and hostile ones, and what is in a file that was made."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from PIL import Image

REAL_FILES = "../shared/data/images"


def drawing(width: int = 400, height: int = 300) -> Image.Image:
    """A picture with details that looks different in each orientation."""
    grey = Image.effect_mandelbrot((width, height), (-2.2, -1.4, 0.9, 0.7), 60)
    shade = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (grey, shade, Image.blend(grey, shade, 0.3)))


def encoded(image: Image.Image, kind: str = "JPEG", **settings: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def exif(**tags: Any) -> Image.Exif:
    """EXIF with a maker, an orientation, or where a photo was taken (`gps`)."""
    made = Image.Exif()
    if "make" in tags:
        made[0x010F] = tags["make"]
    if "orientation" in tags:
        made[0x0112] = tags["orientation"]
    if "gps" in tags:
        made.get_ifd(0x8825).update({1: "N", 2: (17.0, 26.0, 30.0), 3: "E", 4: (78.0, 22.0, 15.0)})
    return made


def archive() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("index.html", "<script>alert(1)</script>")
    return out.getvalue()


def samsung_trailer() -> bytes:
    """A block of data, the directory of the trailer, and its end."""
    name, value = b"Image_UTC_Data", b"1700000000000"
    block = struct.pack("<HHI", 0, 0x0A01, len(name)) + name + value
    directory = b"SEFH" + struct.pack("<II", 101, 1) + struct.pack("<HHII", 0, 0x0A01, len(block), len(block))
    return block + directory + struct.pack("<I", len(directory)) + b"SEFT"


def video() -> bytes:
    """As it follows the picture of a motion photo."""
    return (
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"mp42", 0, b"isom")
        + struct.pack(">I4s", 5008, b"mdat")
        + bytes(n * 37 % 251 for n in range(5000))
    )


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment, its first."""
    return jpeg[:2] + segment(marker, content) + jpeg[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk, after its header."""
    return png[:33] + chunk(name, content) + png[33:]


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    jpeg = encoded(Image.new("RGB", (side, side), "teal"), progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    repeated = jpeg[last:-2]
    return jpeg[:-2] + repeated * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


def jpeg_segments(data: bytes) -> list[int]:
    """The markers before the compressed data."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        found.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return found


def webp_chunks(data: bytes) -> list[bytes]:
    found, at = [], 12
    while at < len(data):
        found.append(data[at : at + 4])
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return found


def avif_boxes(data: bytes) -> Iterator[bytes]:
    """The types of all boxes, of items (as `infe av01`), and of colour information (as `colr nclx`)."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        if name in (b"infe", b"colr"):
            name += b" " + (body[8:12] if name == b"infe" else body[:4])
        yield name
        # Before the boxes in a box: version and flags, and for `iinf` a count.
        skipped = {b"meta": 4, b"iinf": 6, b"iprp": 0, b"ipco": 0, b"iref": 4}.get(name)
        if skipped is not None and name != b"iref":
            yield from avif_boxes(body[skipped:])
        at += size
