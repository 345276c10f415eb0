"""What a document is, from its bytes."""

import io
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.document_checks import MEDIA_TYPES, DocumentRefused, check_document
from tests.files import JPEG, pdf


def found(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        return check_document(path)
    except DocumentRefused as refused:
        return refused.code if refused.detail.endswith(".") else f"{refused.code} without advice"


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archived:
        archived.writestr("run.sh", "rm")
    return packed.getvalue()


def object_stream(
    objects: bytes, *, inflated: int = 0, type: bytes = b"/Type /ObjStm", filters: bytes = b"/FlateDecode"
) -> bytes:
    return stream(zlib.compress(objects + b" " * inflated), type=type, filters=filters)


def stream(packed: bytes, *, type: bytes = b"/Type /ObjStm", filters: bytes = b"/FlateDecode", times: int = 1) -> bytes:
    head = b"9 0 obj\n<< %s /N 1 /First 4 /Filter %s /Length %d >>\nstream\n" % (type, filters, len(packed))
    return head * times + packed + b"\nendstream\nendobj\n"


SCRIPT = b"4 0 << /S /JavaScript /JS (x) >>"
WRONG_CHECKSUM = zlib.compress(b"4 0 <<>>" + bytes(63_000_000))[:-4] + b"fake"
HEX = zlib.compress(SCRIPT).hex().encode() + b">"
IMAGE = b"/Type /XObject /Subtype /Image /Width 9000 /Height 9000"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (pdf(), "application/pdf"),
        (pdf(version=b"2.0"), "application/pdf"),
        (pdf(end=b"\r\n\x00\x00"), "application/pdf"),
        (pdf(object_stream(b"1 0 << /Type /Page >>")), "application/pdf"),
        (pdf(b"4 0 obj (/JS is a name here) endobj\n"), "application/pdf"),
        (pdf(stream(b"\xff\xd8\xff/J", type=IMAGE, filters=b"/DCTDecode")), "application/pdf"),
        (pdf(stream(zlib.compress(bytes(9) + b"\xff" * 243_000_000), type=IMAGE)), "application/pdf"),
        (pdf(stream(HEX, type=b"", filters=b"[/ASCIIHexDecode /FlateDecode]")), "application/pdf"),
        (pdf(b"<< /Encrypt 5 0 R >>" + stream(b"encrypted")), "application/pdf"),
        (JPEG, "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "image/png"),
        (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(64), "image/webp"),
        (b"GIF89a" + bytes(64), "image/gif"),
        (b"\0\0\0\x1cftypavif" + bytes(64), "image/avif"),
        (b"\0\0\0\x18ftypheic" + bytes(64), "image/heic"),
    ],
)
def test_document_is_what_its_bytes_say(tmp_path: Path, content: bytes, media_type: str) -> None:
    assert found(tmp_path, content) == media_type
    assert media_type in MEDIA_TYPES


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"just text", "unknown-type"),
        (b"MZ\x90\0 a program", "unknown-type"),
        (b"<html><script>alert(1)</script></html>", "unknown-type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown-type"),
        (b"junk" + pdf(), "unknown-type"),
        (archive(), "unknown-type"),
        (b"\0\0\0\x18ftypisom" + bytes(64), "unknown-type"),
        (b"%PDF-x.y", "not-a-pdf"),
        (b"%PDF-1.7\nnothing\nstartxref\n3\n%%EOF", "not-a-pdf"),
        (b"%PDF-1.7\nnothing\nstartxref\n99999\n%%EOF", "not-a-pdf"),
        (b"%PDF-1.7\nnothing\n%%EOF", "not-a-pdf"),
        (pdf()[:-40], "truncated"),
        (pdf() + bytes(5000), "truncated"),
        (pdf(end=b"\nMZ\x90 a program"), "truncated"),
        (pdf(b"4 0 obj << /S /JavaScript /JS (app.alert(1)) >> endobj\n"), "active-content"),
        (pdf(b"4 0 obj << /S /J#61vaScript /JS (app.alert(1)) >> endobj\n"), "active-content"),
        (pdf(b"4 0 obj << /S /Launch /F (cmd.exe) >> endobj\n"), "active-content"),
        (pdf(b"4 0 obj << /Type /EmbeddedFile >> endobj\n"), "active-content"),
        (pdf(object_stream(SCRIPT)), "active-content"),
        (pdf(object_stream(b"4 0 << /S /Java#53cript >>")), "active-content"),
        (pdf(object_stream(SCRIPT, type=b"/Type/Obj#53tm")), "active-content"),
        (pdf(object_stream(SCRIPT, type=b"/Type%x\n/ObjStm")), "active-content"),
        (pdf(object_stream(SCRIPT, type=b"/Type 5 0 R")), "active-content"),
        (pdf(object_stream(b"\n" + bytes(70_000) + SCRIPT, type=b"/Type 5 0 R")), "active-content"),
        (pdf(object_stream(b"% first\n" + SCRIPT, type=b"/Type 5 0 R")), "active-content"),
        (pdf(stream(zlib.compress(SCRIPT)[:-4] + b"fake")), "active-content"),
        (pdf(stream(HEX, filters=b"[/ASCIIHexDecode /FlateDecode]")), "unreadable-objects"),
        (pdf(object_stream(SCRIPT, filters=b"/FlateDecode /DecodeParms << /Predictor 12 >>")), "unreadable-objects"),
        (pdf(stream(b"\x78\x9cnot deflated")), "unreadable-objects"),
        (pdf(object_stream(b"4 0 <<>>", inflated=140_000_000)), "too-large-inside"),
        (pdf(stream(WRONG_CHECKSUM) * 5), "too-large-inside"),
        (pdf(stream(zlib.compress(b"x"), type=b"") * 60_000), "too-large-inside"),
        (pdf(object_stream(b"4 0 " + b"/#" * 5_000_000)), "too-large-inside"),
        # One stream of stored blocks, in each of which another begins.
        (pdf(b"\0\x0a\0\xf5\xff%stream\n\x78\x9c" * 20_000), "too-large-inside"),
        (pdf(b"<!DOCTYPE html><script>alert(1)</script>"), "several-files-in-one"),
        (JPEG[:20] + b"<?php system($_GET[0]); ?>" + JPEG[20:], "several-files-in-one"),
        (JPEG + archive(), "several-files-in-one"),
        (b"GIF89a" + b"/*" + bytes(64) + archive(), "several-files-in-one"),
    ],
)
def test_file_that_is_no_document_is_refused_by_name(tmp_path: Path, content: bytes, code: str) -> None:
    assert found(tmp_path, content) == code


def test_one_stream_is_inflated_once_however_often_it_is_announced(tmp_path: Path) -> None:
    assert found(tmp_path, pdf(b"/Type /ObjStm " * 100_000 + stream(WRONG_CHECKSUM))) == "application/pdf"


@given(content=st.binary(max_size=400), cut=st.integers(0, 600))
def test_whatever_the_bytes_the_answer_is_a_type_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for each in (content, b"%PDF-1.4\n" + content, pdf(content)[:cut], JPEG[:3] + content):
        assert found(folder, each)
