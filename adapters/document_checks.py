"""What a document is, found from its bytes: a PDF or an image. Whatever is something else as well is refused.

Documents are served as attachments that no browser shows or runs (`api/files.py`), and opened by the programs of
whoever downloads them. So a PDF must not start programs or scripts, or contain other files, as far as that can be seen:
an encrypted one hides it. This is no scanner of viruses.
"""

import mmap
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

PDF = "application/pdf"
MEDIA_TYPES = (PDF, "image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/heic")
"""Of documents."""

_HEAD = 1024
"""Bytes in which readers of PDF look for the end marker, and browsers for HTML."""
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_ZIP_COMMENT = 65_535
_MARKUP = re.compile(rb"<(?:!doctype|html|script|svg|head|body|iframe|\?php)", re.IGNORECASE)
_START_XREF = re.compile(rb"startxref[ \r\n\t]+([0-9]{1,12})[ \r\n\t]+%%EOF")
_XREF_STREAM = re.compile(rb"[0-9]{1,10}[ \r\n\t]+[0-9]{1,5}[ \r\n\t]+obj\b")
_OBJECT_STREAM = re.compile(rb"/Type\s*/ObjStm\b")
_STREAM = re.compile(rb"stream\r?\n")
_STREAM_HEAD = 4096
"""Bytes after `/ObjStm` in which its stream begins: the rest of a dictionary."""
_MOST_INFLATED = 64 * 1024 * 1024
"""Bytes of all object streams of a PDF; those of a file of 20 MB have a few."""
_ESCAPED = re.compile(rb"#([0-9A-Fa-f]{2})")
_ACTIVE = {
    b"/Launch": "starts a program",
    b"/JavaScript": "has a script",
    b"/EmbeddedFile": "contains another file",
    b"/RichMedia": "contains a program or a film",
}
_ISO_BRANDS = {b"avif": "image/avif", b"avis": "image/avif"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "image/heic"
)


class DocumentRefused(Exception):
    """A file is no document that is kept: `code` is a name, `detail` a sentence for its owner."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def check_document(path: Path) -> str:
    """The media type of a document. Raises DocumentRefused.

    It takes memory only for what it inflates, and a second at most.
    """
    if not path.stat().st_size:
        raise DocumentRefused("empty", "The file is empty. Choose another one.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        media_type = _type_of(data[:64])
        if media_type is None:
            raise DocumentRefused(
                "unknown-type",
                "The file is neither a PDF nor an image. Send PDF, JPEG, PNG, WebP, GIF, AVIF or HEIC.",
            )
        _check_only_one(data)
        if media_type == PDF:
            _check_pdf(data)
        return media_type


def _type_of(head: bytes) -> str | None:
    if head.startswith(b"%PDF-"):
        return PDF
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return _ISO_BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None


def _check_only_one(data: mmap.mmap) -> None:
    """Refuse a file that is an archive or a web page as well."""
    refused = DocumentRefused("several-files-in-one", "The file is of two types at once. Save it as one of them.")
    if _MARKUP.search(data[:_HEAD]):
        raise refused
    end = data.rfind(_ZIP_END, max(0, len(data) - _ZIP_COMMENT - _ZIP_END_BYTES))
    if 0 <= end <= len(data) - _ZIP_END_BYTES:
        comment = int.from_bytes(data[end + 20 : end + 22], "little")
        if end + _ZIP_END_BYTES + comment <= len(data):
            raise refused


def _check_pdf(data: mmap.mmap) -> None:
    if not re.match(rb"%PDF-[12]\.[0-9]", data[:8]):
        raise DocumentRefused("not-a-pdf", "The file begins like a PDF and has no version of one. Save it again.")
    end = data.rfind(b"%%EOF")
    if end < max(0, len(data) - _HEAD) or data[end + 5 :].strip(b"\x00 \t\r\n\x1a"):
        raise DocumentRefused("truncated", "The end of the PDF is missing, or is not its end. Save or send it again.")
    found = _START_XREF.match(data, data.rfind(b"startxref", 0, end))
    at = int(found[1]) if found else len(data)
    table = data[at : at + 40].lstrip()  # many are off by the end of a line
    if not (table.startswith(b"xref") or _XREF_STREAM.match(table)):
        raise DocumentRefused("not-a-pdf", "The PDF has no table of its contents. Save it again with another program.")
    for part in (data[:], *_object_streams(data)):
        names = _ESCAPED.sub(lambda code: bytes([int(code[1], 16)]), part) if b"#" in part else part
        for name, what in _ACTIVE.items():
            if name in names:
                detail = f"The PDF {what}, which may harm who opens it. Print it to a new PDF, and send that."
                raise DocumentRefused("active-content", detail)


def _object_streams(data: mmap.mmap) -> Iterator[bytes]:
    """The compressed objects of a PDF, inflated. Raises DocumentRefused when they are too large."""
    left = _MOST_INFLATED
    for stream in _OBJECT_STREAM.finditer(data):
        begins = _STREAM.search(data, stream.end(), stream.end() + _STREAM_HEAD)
        if begins is None:
            continue
        ends = data.find(b"endstream", begins.end())
        inflating = zlib.decompressobj()
        try:
            inflated = inflating.decompress(data[begins.end() : ends if ends >= 0 else len(data)], left)
        except zlib.error:
            continue  # encrypted, or of another filter
        if inflating.unconsumed_tail:
            raise DocumentRefused("too-large-inside", "The PDF is too large once it is unpacked. Save it in parts.")
        left -= len(inflated)
        yield inflated
        if left <= 0:
            raise DocumentRefused("too-large-inside", "The PDF is too large once it is unpacked. Save it in parts.")
