"""A reader of multipart/form-data (RFC 7578) that is fed with chunks, and keeps no file in memory."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import ApiError

MEDIA_TYPE = "multipart/form-data"
OVERHEAD_BYTES = 64 * 1024
"""Of a body besides its files: boundaries, headers, and small fields."""
_MAX_HEADERS = 8
"""Of a part: browsers send two."""
_MAX_HEADER_BYTES = 4096
"""Several times a file name of 255 characters, each of which may take 4 bytes."""
_FIELD_BYTES = 32 * 1024
"""Of the value of a field that is no file."""
_EMPTY_FILES = 20
"""Parts without bytes: browsers send one for each field whose file nobody has chosen."""
_NAME_LENGTH = 255
"""Characters of a file name, as file systems and the table have it."""
_SUFFIX_LENGTH = 20
_ESCAPES = (("%22", '"'), ("%0D", ""), ("%0A", ""))
"""What browsers write in names in place of these characters (WHATWG HTML, multipart/form-data encoding)."""


@dataclass(frozen=True)
class FormLimits:
    """What a form may have."""

    files: int
    file_bytes: int
    total_bytes: int
    """Of all files together."""
    file_field: str
    """The name of the parts that are files."""
    fields: Collection[str] = ()
    """The names of other fields, each of which may be sent once."""


@dataclass(frozen=True)
class FileBegan:
    """A file begins; `name` is empty if a browser sends a field whose file nobody has chosen."""

    name: str
    media_type: str


@dataclass(frozen=True)
class FileData:
    """Some bytes of the file that has begun last."""

    data: bytes


class FileEnded:
    """The file that has begun last is complete."""


FormEvent = FileBegan | FileData | FileEnded


class MultipartReader:
    """Reads one body. Each method raises ApiError as soon as the body is not valid, or exceeds a limit."""

    def __init__(self, content_type: str, limits: FormLimits) -> None:
        self._limits = limits
        self.fields: dict[str, str] = {}
        self._events: list[FormEvent] = []
        self._error: ApiError | None = None
        self._complete = False
        self._files = self._begun = self._named = self._total = self._of_file = 0
        self._header_name, self._header_value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._value = b""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise ApiError("missing-boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_text,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._end,
                },
                max_header_count=_MAX_HEADERS,
                max_header_size=_MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise ApiError("malformed-multipart", "Use a boundary of at most 70 characters.") from error

    def read(self, chunk: bytes) -> list[FormEvent]:
        """What the next chunk of the body has of files, in order."""
        self._events = []
        self._total += len(chunk)
        if self._total > self._limits.total_bytes + OVERHEAD_BYTES:
            raise too_large(self._limits)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise ApiError(
                "malformed-multipart", "A part of the body is not as RFC 7578 says. Use a library."
            ) from error
        return self._events

    def finish(self) -> None:
        """Check, after the last chunk, that the body is complete and has a file."""
        if not self._complete:
            raise ApiError("truncated-body")
        if not (self._files or self._named):
            raise ApiError("no-file", f"Send {self._wanted()}.")

    def _wanted(self) -> str:
        several = f"1 to {self._limits.files} files" if self._limits.files > 1 else "one file"
        return f"{several} in the field `{self._limits.file_field}`"

    def _part_begins(self) -> None:
        self._headers, self._header_name, self._header_value = {}, b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_end(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = _text(options.get(b"name", b""))
        if disposition != b"form-data" or not name:
            raise ApiError("malformed-multipart", "Send `Content-Disposition: form-data` with a `name` in each part.")
        if b"filename" in options:
            self._file_begins(name, _text(options[b"filename"]))
        else:
            self._field_begins(name)

    def _file_begins(self, field: str, file_name: str) -> None:
        if field != self._limits.file_field:
            raise ApiError("wrong-field", f"Send {self._wanted()}, not in {field[:100]!r}.")
        name = clean_name(file_name)
        self._begun += 1
        self._named += bool(name)
        if self._begun > self._limits.files + _EMPTY_FILES:
            raise self._too_many()
        self._field, self._of_file = None, 0
        media_type = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
        self._events.append(FileBegan(name, clean_media_type(media_type)))

    def _too_many(self) -> ApiError:
        return ApiError("too-many-files", f"Send at most {self._limits.files} in one request.")

    def _field_begins(self, field: str) -> None:
        if field == self._limits.file_field:
            raise ApiError("wrong-field", f"Send a file with its name in {field!r}, not text.")
        if field not in self._limits.fields:
            others = f" and {', '.join(self._limits.fields)}" if self._limits.fields else ""
            raise ApiError("wrong-field", f"There is no field {field[:100]!r}: send {self._wanted()}{others}.")
        if field in self.fields:
            raise ApiError("wrong-field", f"Send {field!r} once.")
        self._field, self._value = field, b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None:
            self._value += data[start:end]
            if len(self._value) > _FIELD_BYTES:
                raise ApiError("wrong-field", f"Send at most {_FIELD_BYTES} bytes in {self._field!r}.")
            return
        if end > start and not self._of_file:
            # Whatever its name: it is a file once it has bytes.
            self._files += 1
            if self._files > self._limits.files:
                raise self._too_many()
        self._of_file += end - start
        if self._of_file > self._limits.file_bytes:
            raise too_large(self._limits)
        self._events.append(FileData(data[start:end]))

    def _part_ends(self) -> None:
        if self._field is None:
            self._events.append(FileEnded())
            return
        try:
            self.fields[self._field] = self._value.decode()
        except UnicodeDecodeError as error:
            raise ApiError("wrong-field", f"Send {self._field!r} in UTF-8.") from error

    def _end(self) -> None:
        self._complete = True


def too_large(limits: FormLimits) -> ApiError:
    """The error of a file or body above its limit."""
    at_once = f", and {_megabytes(limits.total_bytes)} in one request" if limits.files > 1 else ""
    return ApiError("file-too-large", f"Send at most {_megabytes(limits.file_bytes)} a file{at_once}.")


def clean_name(name: str) -> str:
    """A file name without folders and control characters, at most 255 characters long; empty if nothing is left."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(one for one in unicodedata.normalize("NFC", last) if unicodedata.category(one)[0] != "C")
    kept = printable.strip()
    if len(kept) <= _NAME_LENGTH:
        return kept
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix) > _SUFFIX_LENGTH:
        return kept[:_NAME_LENGTH]
    return stem[: _NAME_LENGTH - len(suffix) - 1] + dot + suffix


def clean_media_type(text: str) -> str:
    """The media type of a Content-Type header; of one that is none, that of unknown bytes."""
    media_type = text.partition(";")[0].strip().lower()
    known = media_type.isascii() and media_type.isprintable() and media_type.count("/") == 1 and " " not in media_type
    return media_type if known and len(media_type) <= 100 else "application/octet-stream"


def _text(value: bytes) -> str:
    """A parameter, which browsers write in UTF-8 with three characters escaped."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _megabytes(size: int) -> str:
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size} bytes"
