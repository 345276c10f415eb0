"""Files that are refused, each by name, and files that look like them and are not."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapters.pictures import PictureRefused
from adapters.pictures.containers import read_container
from adapters.pictures.decoding import decode
from adapters.pictures.other_files import refuse_other_files
from adapters.pictures.picture import REFUSALS
from tests.adapters.pictures.files import (
    archive,
    chunk,
    drawing,
    encoded,
    exif,
    many_scans,
    samsung_trailer,
    segment,
    video,
    with_chunk,
    with_segment,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
"""Of Pillow, about metadata that are damaged; processes ignore them too."""

JPEG = encoded(drawing())
PHOTO = encoded(drawing(), exif=exif(make="Jolla").tobytes())
PNG = encoded(drawing(), "PNG")
GIF = encoded(drawing(), "GIF")
WEBP = encoded(drawing(), "WEBP")
AVIF = encoded(drawing(), "AVIF", speed=9)
EACH = {"jpeg": JPEG, "png": PNG, "gif": GIF, "webp": WEBP, "avif": AVIF}
ZEROS = zlib.compress(bytes(2_000_000))
SCRIPT_AS_GIF = b"GIF89a/*" + GIF[8:-1] + b";*/=1;alert(document.cookie);//"
SCRIPT_AS_JPEG = (
    b"\xff\xd8\xff\xe0/*"
    + b"JFIF\0\1\1\0\0\1\0\1\0\0".ljust(0x2F2A - 2, b"\0")
    + with_segment(JPEG[:2] + JPEG[20:], 0xFE, b"*/=alert(document.cookie);/*")[2:]
)


def outcome(data: bytes, folder: Path) -> str:
    """The code of a refusal, or the type of the picture; names and headers are never looked at."""
    source = folder / "image.txt"
    source.write_bytes(data)
    try:
        return decode(source, lambda _: None).media_type
    except PictureRefused as refused:
        return refused.code if refused.detail == REFUSALS[refused.code] else refused.detail


@pytest.mark.parametrize("kind", EACH)
def test_type_is_found_from_the_bytes(kind: str, tmp_path: Path) -> None:
    assert outcome(EACH[kind], tmp_path) == f"image/{kind}"


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", archive(), b"%PDF-1.7\n", video()],
    ids=["empty", "two bytes", "text", "svg", "zip", "pdf", "video"],
)
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    assert outcome(data, tmp_path) == "not-an-image"


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("part", [0.1, 0.6, 0.97])
def test_truncated_file_is_refused(kind: str, part: float, tmp_path: Path) -> None:
    data = EACH[kind]
    assert outcome(data[: int(len(data) * part)], tmp_path) == "truncated"


def replaced(data: bytes, at: int, by: bytes) -> bytes:
    return data[:at] + by + data[at + len(by) :]


@pytest.mark.parametrize(
    "data",
    [
        JPEG.replace(b"\xff\xdb", b"\xff\xef"),  # without quantization tables
        replaced(PNG, len(PNG) // 2, bytes(400)),
        replaced(WEBP, 23, bytes(3)),
        AVIF.replace(b"av1C", b"av1X"),
        replaced(GIF, GIF.index(b",", 781) + 10, b"\x0e"),  # a code size that LZW does not have
    ],
    ids=["jpeg", "png", "webp", "avif", "gif"],
)
def test_damaged_file_is_refused(data: bytes, tmp_path: Path) -> None:
    assert outcome(data, tmp_path) == "damaged"


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    png_header = struct.pack(">IIBBBBB", 8000, 7000, 8, 2, 0, 0, 0)
    png = PNG[:8] + chunk(b"IHDR", png_header) + PNG[33:]
    at = JPEG.index(b"\xff\xc0")
    jpeg = JPEG[: at + 5] + struct.pack(">HH", 7000, 8000) + JPEG[at + 9 :]
    gif = GIF[:6] + struct.pack("<HH", 8000, 7000) + GIF[10:]
    frame = WEBP[12:]
    webp_header = b"VP8X" + struct.pack("<II", 10, 0) + (7999).to_bytes(3, "little") + (6999).to_bytes(3, "little")
    webp = b"RIFF" + struct.pack("<I", 4 + len(webp_header) + len(frame)) + b"WEBP" + webp_header + frame
    at = AVIF.index(b"ispe") + 8
    avif = AVIF[:at] + struct.pack(">II", 8000, 7000) + AVIF[at + 8 :]
    for data in (png, jpeg, gif, webp, avif):
        assert outcome(data, tmp_path) == "too-many-pixels"


def test_too_long_sides_are_refused(tmp_path: Path) -> None:
    assert outcome(encoded(Image.new("L", (16_384, 8)), "PNG"), tmp_path) == "too-long-side"
    assert outcome(encoded(Image.new("L", (8, 16_383)), "PNG"), tmp_path) == "image/png"


def test_49_megapixels_in_3001_scans_are_refused(tmp_path: Path) -> None:
    bomb = many_scans(7000, 3001)
    assert len(bomb) < 10_000_000
    assert outcome(bomb, tmp_path) == "too-many-scans"


def test_as_many_scans_as_optimizers_make_are_read(tmp_path: Path) -> None:
    assert outcome(many_scans(100, 50), tmp_path) == "image/jpeg"
    assert outcome(many_scans(100, 51), tmp_path) == "too-many-scans"


@pytest.mark.parametrize(
    "bomb",
    [
        with_chunk(PNG, b"zTXt", b"Comment\0\0" + ZEROS),
        with_chunk(PNG, b"iTXt", b"Comment\0\1\0en\0\0" + ZEROS),
        with_chunk(PNG, b"iCCP", b"sRGB\0\0" + ZEROS),
        PNG[:-12] + chunk(b"zTXt", b"Comment\0\0" + ZEROS) + PNG[-12:],
        PNG[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000))) * 20 + PNG[33:],
    ],
    ids=["zTXt", "iTXt", "iCCP", "after the pixels", "twenty of them"],
)
def test_texts_that_inflate_are_refused(bomb: bytes, tmp_path: Path) -> None:
    assert outcome(bomb, tmp_path) == "decompression-bomb"


@pytest.mark.parametrize(
    "appended",
    [
        archive(),
        b"\0\0" + archive() + b"\0\0",
        b"%PDF-1.7\n1 0 obj",
        b"<html><body>",
        b"\n<!DOCTYPE html>",
        b"<?php system($_GET[0]);",
        b"<script src=//x.example></script>",
        b"Rar!\x1a\x07\x01\0",
        b"7z\xbc\xaf\x27\x1c\0\x04",
        b"\x7fELF\x02\x01\x01",
        b"MZ\x90\0\x03",
        b"#!/bin/sh\nid\n",
        b"SQLite format 3\0",
    ],
    ids=["zip", "zip in zeros", "pdf", "html", "doctype", "php", "script", "rar", "7z", "elf", "exe", "sh", "sqlite"],
)
@pytest.mark.parametrize("kind", [*EACH, "photo"])
def test_other_files_behind_a_picture_are_refused(appended: bytes, kind: str, tmp_path: Path) -> None:
    assert outcome((EACH | {"photo": PHOTO})[kind] + appended, tmp_path) == "several-files-in-one"


@pytest.mark.parametrize(
    "data",
    [
        SCRIPT_AS_GIF,
        SCRIPT_AS_JPEG,
        with_segment(JPEG, 0xFE, archive()) + b"PK\x05\x06" + bytes(18),
        with_segment(JPEG, 0xFE, b"%PDF-1.7\n1 0 obj"),
        with_segment(PHOTO, 0xFE, b"<?php system($_GET[0]); ?>"),
        with_chunk(PNG, b"tEXt", b"Comment\0<script>alert(1)</script>"),
        JPEG + b"some text that nobody expects here",
        JPEG + JPEG,
        PNG + GIF,
        GIF + JPEG,
        WEBP + PNG,
        AVIF + JPEG,
    ],
    ids=[
        "javascript as gif",
        "javascript as jpeg",
        "zip in a comment",
        "pdf in a comment",
        "php in a comment",
        "html in a text",
        "text",
        "two jpegs",
        "gif behind png",
        "jpeg behind gif",
        "png behind webp",
        "jpeg behind avif",
    ],
)
def test_files_that_are_several_are_refused(data: bytes, tmp_path: Path) -> None:
    assert outcome(data, tmp_path) == "several-files-in-one"


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("padding", [bytes(1000), b"\r\n", b"\xff" * 7])
def test_padding_is_harmless(kind: str, padding: bytes, tmp_path: Path) -> None:
    assert outcome(EACH[kind] + padding, tmp_path) == f"image/{kind}"


@pytest.mark.parametrize(
    "photo",
    [
        PHOTO + samsung_trailer(),
        JPEG + samsung_trailer(),
        PNG + samsung_trailer(),
        AVIF + samsung_trailer(),
        PHOTO + video(),
        PHOTO + JPEG + video() + samsung_trailer(),
        PHOTO + b'{"watermark":1}vivo\0\0\x01\x02',
        encoded(drawing(3000, 2000), "MPO", save_all=True, append_images=[drawing()]),
        with_segment(JPEG, 0xE2, b"MPF\0II*\0\x08\0\0\0") + JPEG,
        AVIF + struct.pack(">I4s", 8 + len(video()), b"mpvd") + video(),
        PNG + PNG[len(PNG) // 2 :],
        GIF[:-1],
        JPEG[:2] + segment(0xFE, b"a */ comment") + JPEG[2:],
    ],
    ids=[
        "samsung",
        "samsung without maker",
        "samsung screenshot",
        "samsung avif",
        "motion photo",
        "gain map, video and samsung",
        "vivo",
        "multi-picture format",
        "multi-picture format with a damaged index",
        "video in a box",
        "cropped screenshot",
        "gif without end marker",
        "comment",
    ],
)
def test_what_phones_and_editors_write_is_read(photo: bytes, tmp_path: Path) -> None:
    assert outcome(photo, tmp_path).startswith("image/")


@given(
    kind=st.sampled_from(sorted(EACH)),
    end=st.integers(0, 3000),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=6)), max_size=8),
)
def test_structure_of_any_bytes_is_read(kind: str, end: int, changes: list[tuple[int, bytes]]) -> None:
    data = EACH[kind][:end]
    for at, by in changes:
        data = replaced(data, at, by)
    container = read_container(data)
    if container and container.end is not None:
        assert container.end <= len(data)
        with suppress(PictureRefused):
            refuse_other_files(data, container, from_camera=False)
