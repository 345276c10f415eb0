"""What a document is, found from its bytes: a PDF or an image. Whatever is something else as well is refused.

Documents are served as attachments that no browser shows or runs (`api/files.py`), and opened by the programs of
whoever downloads them. So a PDF must not start programs or scripts, or contain other files, as far as that can be seen:
an encrypted one hides it. This is no scanner of viruses.
"""

import mmap
import re
import zlib
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
_STREAM = re.compile(rb"(?<!end)stream(?:\r\n|[\n\r])")
_WHITESPACE = b"\0\t\n\f\r "
_OBJECTS_BEGIN = re.compile(rb"[\0\t\n\f\r ]*[0-9%]")
"""Of an object stream: numbers, before which there may be comments."""
_ENCRYPTED = b"/Encrypt"
_MOST_READ = 128 * 1024 * 1024
"""Bytes of compressed objects, in and out, which take a second; those of an ordinary file of 20 MB are some tens of
megabytes, for its pictures are not unpacked."""
_MOST_STREAMS = 50_000
"""Of a PDF: those of a book of thousands of pages, each of which takes some microseconds."""
_READ, _INFLATED = 512, 64 * 1024
"""Bytes that are inflated at once, and that may come of them: little is read of a stream that is of no interest."""
_ACTIVE = {
    b"/Launch": "starts a program",
    b"/JavaScript": "has a script",
    b"/EmbeddedFile": "contains another file",
    b"/RichMedia": "contains a program or a film",
}
_NAME, _LONGEST = 40, 64
"""Bytes for which a name counts, and of one, however it is spelled."""
_ISO_BRANDS = {b"avif": "image/avif", b"avis": "image/avif"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "image/heic"
)


def _spelled(*names: bytes) -> re.Pattern[bytes]:
    """Finds names, each character of which may be written as its code (ISO 32000-1, 7.3.5)."""
    spelled = [b"".join(b"(?:%c|#(?i:%02x))" % (one, one) for one in name[1:]) for name in names]
    return re.compile(b"/(?:" + b"|".join(spelled) + b")")


_SPELLED = _spelled(*_ACTIVE)
_OBJECT_STREAM = _spelled(b"/ObjStm")
_UNREADABLE = _spelled(
    *(b"/ASCIIHexDecode", b"/AHx", b"/ASCII85Decode", b"/A85", b"/LZWDecode", b"/LZW", b"/RunLengthDecode", b"/RL"),
    *(b"/DecodeParms", b"/DP", b"/Crypt"),
)
"""How no program compresses objects, but whoever hides them may."""


class DocumentRefused(Exception):
    """A file is no document that is kept: `code` is a name, `detail` a sentence for its owner."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def check_document(path: Path) -> str:
    """The media type of a document. Raises DocumentRefused.

    It takes the memory of one copy of the file, and a second or two at most.
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
    _check_inactive(data[:])
    _Objects(data).check()


def _check_inactive(part: bytes) -> None:
    """Refuse what does something once it is opened."""
    found = next((name for name in _ACTIVE if name in part), None)
    if found is None and b"#" in part and (spelled := _SPELLED.search(part)):
        found = re.sub(rb"#(..)", lambda code: bytes([int(code[1], 16)]), spelled[0])
    if found:
        detail = f"The PDF {_ACTIVE[found]}, which may harm who opens it. Print it to a new PDF, and send that."
        raise DocumentRefused("active-content", detail)


class _Objects:
    """Checks the compressed objects of a PDF, within limits of what is read and inflated."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._left = _MOST_READ
        self._encrypted = data.find(_ENCRYPTED) >= 0

    def check(self) -> None:
        """Look into each stream that may contain objects, whatever its dictionary says of it. Raises DocumentRefused.

        Objects that are compressed in other ways are refused, except in an encrypted PDF, whose objects are not read.
        """
        after = 0
        for n, stream in enumerate(_STREAM.finditer(self._data)):
            if n == _MOST_STREAMS:
                raise _too_large()
            begin, end = after, stream.start()
            after = stream.end()
            has_objects = _OBJECT_STREAM.search(self._data, begin, end) is not None and not self._encrypted
            if has_objects and _UNREADABLE.search(self._data, begin, end):
                raise _unreadable()
            head = self._data[after : after + 2]
            if len(head) == 2 and head[0] & 15 == zlib.DEFLATED and int.from_bytes(head, "big") % 31 == 0:  # RFC 1950
                try:
                    self._inflate(after + 2, has_objects)
                except zlib.error as error:
                    if has_objects:
                        raise _unreadable() from error
            elif has_objects and not _OBJECTS_BEGIN.match(self._data[after : after + _READ]):
                raise _unreadable()

    def _inflate(self, at: int, has_objects: bool) -> None:
        # Without the checksum, which programs that open PDFs do not insist on.
        inflating, last = zlib.decompressobj(-zlib.MAX_WBITS), b""
        while not inflating.eof and at < len(self._data):
            given = self._data[at : at + _READ]
            at += _READ
            self._charge(len(given))
            while given and not inflating.eof:
                inflated = inflating.decompress(given, _INFLATED)
                given = inflating.unconsumed_tail
                # Searching names that may be spelled with codes takes as long as inflating so many bytes.
                names = inflated.count(b"/") if b"#" in inflated else 0
                self._charge(len(inflated) + _NAME * names)
                if not has_objects:
                    begins = inflated.lstrip(_WHITESPACE)
                    if begins and not _OBJECTS_BEGIN.match(begins):
                        return
                    has_objects = bool(begins)
                last = last[-_LONGEST:] + inflated
                _check_inactive(last)

    def _charge(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _too_large()


def _too_large() -> DocumentRefused:
    return DocumentRefused("too-large-inside", "The PDF is too large once it is unpacked. Save it in parts.")


def _unreadable() -> DocumentRefused:
    detail = "The PDF is packed in a way that hides what it does. Print it to a new PDF, and send that."
    return DocumentRefused("unreadable-objects", detail)
