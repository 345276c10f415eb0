"""Reads the rows of a CSV or JSON Lines file from its bytes, a chunk at a time, and resumes after any row.

`read_layout` looks at the beginning of the file once. A RowReader then gives each row with the position after it;
another one continues from there, in another process if need be. It holds a chunk and one row, whatever the file is.
A row that cannot be read is given with the reason, and the rows after it are read.
"""

import csv
import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from domain.import_cells import shortened
from domain.model import Fact

MAX_ROW = 64 * 1024
"""Bytes of a row. A listing has at most some 10 kB of text; a quote that is never closed makes a row of the rest."""
HEAD = MAX_ROW
"""Bytes from the beginning of a file that `read_layout` needs, or all of a shorter one."""
MAX_COLUMNS = 500
"""The widest exports of portals and spreadsheets have some hundred."""
TOO_MANY_COLUMNS = f"The file has more than {MAX_COLUMNS} columns. Send only those that describe a listing."
_DELIMITERS = (",", ";", "\t", "|")
"""The first one is taken when the header has none, or as many of several."""
_ADVICE = "Save the file as `CSV UTF-8` and send it again."


class FileUnreadable(ValueError):
    """No row of the file can be read; the message says what to send instead."""


class FileFormat(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


class Position(Fact):
    """A place between two rows."""

    offset: int = 0
    """Bytes of the file before it."""
    line: int = 1
    """The line that begins here; the first line of the file is 1."""
    row: int = 0
    """Rows before it."""


class Layout(Fact):
    """How a file is written, from its beginning."""

    format: FileFormat
    delimiter: str = ","
    header: tuple[str, ...] = ()
    """The names of the columns of a CSV, each one once. JSON Lines have none: each row has its own."""
    start: Position = Position()
    """Where the first row begins."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it is in the file; either `values` or `problem` is there."""

    number: int
    """1 is the first row below the header. Empty rows are not counted."""
    line: int
    """The line of the file where the row begins; the first one is 1."""
    values: dict[str, Any] | None
    """What is in each column: text of a CSV, any JSON value of a JSON line."""
    text: str
    """The beginning of a row that cannot be read: at most a hundred characters, on one line."""
    problem: str | None
    """Why it cannot be read, and what to do."""
    end: int
    next_line: int

    @property
    def after(self) -> Position:
        """Where the next row is read from."""
        return Position(offset=self.end, line=self.next_line, row=self.number)


def read_layout(head: bytes) -> Layout:
    """The layout of a file from its first HEAD bytes. Raises FileUnreadable."""
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in head[:4]:
        raise FileUnreadable(f"The file is UTF-16 text, not UTF-8. {_ADVICE}")
    if head.startswith(b"PK\x03\x04") or head.startswith(b"\xd0\xcf\x11\xe0"):
        raise FileUnreadable(f"The file is a workbook, not a CSV. {_ADVICE}")
    if head.startswith(b"%PDF-"):
        raise FileUnreadable(f"The file is a PDF, not a CSV. {_ADVICE}")
    offset = len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0
    first = head[offset:].lstrip()[:1]
    if first == b"[":
        raise FileUnreadable("The file is a JSON array. Write one JSON object on each line, without brackets.")
    if first == b"{":
        return Layout(format=FileFormat.JSONL, start=Position(offset=offset))
    if not first:
        raise FileUnreadable("The file is empty. Send a CSV with a header, or one JSON object on each line.")
    return _csv_layout(head, offset)


def _csv_layout(head: bytes, offset: int) -> Layout:
    lines = head[offset:].splitlines(keepends=True)
    ends = list(accumulate(map(len, lines), initial=offset))
    at, delimiter = 0, None
    while not lines[at].strip():
        at += 1
    if lines[at][:4].lower() == b"sep=":  # written by Excel for itself
        delimiter = lines[at][4:5].decode("ascii", "replace")
        at += 1
    source = _Lines(lines, at)
    try:
        delimiter = delimiter or _delimiter(lines[at].decode("utf-8", "replace"))
        cells = next(csv.reader(source, delimiter=delimiter, strict=True))
    except (csv.Error, IndexError, StopIteration, TypeError):
        raise FileUnreadable(
            "The header cannot be read. Send the names of the columns in the first line, each quote closed."
        ) from None
    if source.invalid:
        raise FileUnreadable(f"The header has bytes that are not UTF-8. {_ADVICE}")
    if len(head) >= HEAD and source.next == len(lines) and not lines[-1].endswith(b"\n"):
        raise FileUnreadable("The header is longer than 64 kB. Send the names of the columns in the first line.")
    if len(cells) > MAX_COLUMNS:
        raise FileUnreadable(TOO_MANY_COLUMNS)
    header = _distinct(cells)
    start = Position(offset=ends[source.next], line=source.next + 1)
    return Layout(format=FileFormat.CSV, delimiter=delimiter, header=header, start=start)


def _delimiter(header: str) -> str:
    """The character that is most often in the header outside of quotes."""
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=unquoted.count)


def _distinct(cells: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns; a name that is missing or there already gets a number."""
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for i, cell in enumerate(cells, 1):
        base = name = " ".join(cell.split()) or f"column {i}"
        while name in names:
            numbers[base] = numbers.get(base, 1) + 1
            name = f"{base} ({numbers[base]})"
        names[name] = None
    return tuple(names)


class _Lines:
    """Gives lines to a csv.reader as text, from `next` on, which may be set back."""

    def __init__(self, lines: Sequence[bytes], start: int = 0) -> None:
        self._lines = lines
        self.next = start
        self.exhausted = False
        """Whether a row went on where there was no further line."""
        self.invalid = False
        """Whether a line was not UTF-8."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.next == len(self._lines):
            self.exhausted = True
            raise StopIteration
        line = self._lines[self.next]
        self.next += 1
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.invalid = True
            return line.decode(errors="replace")


class RowReader:
    """Reads the rows of one file, in order."""

    def __init__(self, layout: Layout, position: Position | None = None) -> None:
        """From a position after a row of the same file, or from its first row."""
        position = position or layout.start
        self._layout = layout
        self._width = len(layout.header)
        self._rest = b""
        """What is not read of the last chunk: a part of a row."""
        self._offset = position.offset
        """Where `_rest` begins."""
        self._line = position.line
        self._row = position.row
        self._too_long: bytes | None = None
        """The beginning of a line that is longer than a row may be, while its end is looked for."""

    def feed(self, chunk: bytes) -> Iterator[SourceRow]:
        """The rows that end in the next chunk of the file. Read all of them before the next chunk."""
        return self._read(chunk, False)

    def finish(self) -> Iterator[SourceRow]:
        """The last row of the file, if no line break is after it. Called once, after all chunks."""
        return self._read(b"", True)

    def _read(self, chunk: bytes, at_end: bool) -> Iterator[SourceRow]:
        lines = (self._rest + chunk).splitlines(keepends=True)
        # Whether a carriage return ends its line is known when the next byte is.
        part = b"" if at_end or not lines or lines[-1].endswith(b"\n") else lines.pop()
        self._rest = b""
        if self._too_long is not None and (lines or at_end):
            end = self._offset + sum(map(len, lines[:1]))
            yield self._refused(self._too_long, self._line, end, self._line + 1, _TOO_LONG)
            self._offset, self._line, self._too_long = end, self._line + 1, None
            lines = lines[1:]
        read = self._csv_rows if self._layout.format is FileFormat.CSV else self._json_rows
        yield from read(lines, at_end, len(part))
        self._rest += part
        if len(self._rest) > MAX_ROW or self._too_long is not None:
            self._too_long = self._too_long or self._rest[:_SHOWN]
            kept = b"\r" if self._rest.endswith(b"\r") else b""
            self._offset += len(self._rest) - len(kept)
            self._rest = kept

    def _csv_rows(self, lines: list[bytes], at_end: bool, after: int) -> Iterator[SourceRow]:
        """The rows of lines; the lines of a row that goes on after them become `_rest`."""
        header, width = self._layout.header, self._width
        source = _Lines(lines)
        rows = csv.reader(source, delimiter=self._layout.delimiter, strict=True)
        ends = list(accumulate(map(len, lines), initial=self._offset))
        line, row = self._line, self._row
        at = 0
        while True:
            problem = None
            source.invalid = source.exhausted = False
            try:
                cells = next(rows)
            except StopIteration:
                break
            except csv.Error:
                cells = []
                if source.exhausted and not at_end and ends[-1] - ends[at] + after <= MAX_ROW:
                    break
                problem = _QUOTE
            if source.exhausted or ends[source.next] - ends[at] > MAX_ROW:
                problem = _TOO_LONG if ends[at + 1] - ends[at] > MAX_ROW else _UNCLOSED
                source.next = at + 1  # so that one quote does not take the rows after it along
            begin, at = at, source.next
            if problem is None:
                if not any(cells) or not any(map(str.strip, cells)):
                    continue
                if source.invalid:
                    problem = f"The row has bytes that are not UTF-8. {_ADVICE}"
                elif len(cells) != width and (len(cells) < width or any(cells[width:])):
                    problem = (
                        f"The row has {len(cells)} cells and the header has {width}. "
                        "Give a cell for each column, in quotes where it has a delimiter or a line break."
                    )
            row += 1
            self._row = row
            if problem is not None:
                yield self._refused(lines[begin], line + begin, ends[at], line + at, problem, row)
            else:
                values = dict(zip(header, cells, strict=False))
                yield SourceRow(row, line + begin, values, "", None, ends[at], line + at)
        self._rest = b"".join(lines[at:])
        self._offset, self._line = ends[at], line + at

    def _json_rows(self, lines: list[bytes], at_end: bool, after: int) -> Iterator[SourceRow]:
        offset, line = self._offset, self._line
        for text in lines:
            offset, line = offset + len(text), line + 1
            if not text.strip():
                continue
            values, problem = _json_row(text)
            if problem is not None:
                yield self._refused(text, line - 1, offset, line, problem)
            else:
                self._row += 1
                yield SourceRow(self._row, line - 1, values, "", None, offset, line)
        self._offset, self._line = offset, line

    def _refused(
        self, text: bytes, line: int, end: int, next_line: int, problem: str, number: int | None = None
    ) -> SourceRow:
        if number is None:
            self._row = number = self._row + 1
        shown = shortened(text[:_SHOWN].decode(errors="replace"))
        return SourceRow(number, line, None, shown, problem, end, next_line)


_SHOWN = 400
"""Bytes of a row that are kept to show it: a hundred characters of any script."""
_QUOTE = "A quote is inside of a quoted cell. Write two quotes for one."
_TOO_LONG = "The row is longer than 64 kB. Shorten it."
_UNCLOSED = "A quote is not closed, or the row is longer than 64 kB. Close the quote, or shorten the row."


def _json_row(text: bytes) -> tuple[dict[str, Any] | None, str | None]:
    if len(text) > MAX_ROW:
        return None, _TOO_LONG
    try:
        values = json.loads(text.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        return None, "The line has bytes that are not UTF-8. Save the file as UTF-8 and send it again."
    except RecursionError:
        return None, "The line is nested too deeply. Write a flat JSON object."
    except ValueError as error:
        return None, f"The line is not JSON: {getattr(error, 'msg', 'A number is too long')}. Write one JSON object."
    if not isinstance(values, dict):
        return None, "The line is not a JSON object. Write one in braces, with the names of the fields."
    return values, None


def _no_number(name: str) -> None:
    raise json.JSONDecodeError(f"{name} is no number", "", 0)
