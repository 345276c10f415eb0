"""Rows of CSV and JSON Lines files, from any chunks and from any row on."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import import_reading
from domain.import_reading import (
    HEAD,
    MAX_COLUMNS,
    MAX_ROW,
    FileFormat,
    FileUnreadable,
    Layout,
    Position,
    RowReader,
    SourceRow,
    read_layout,
)

HEADER = b"id,title,price\n"


def rows_of(file: bytes, *, chunk: int = 1 << 20, position: Position | None = None) -> list[SourceRow]:
    layout = read_layout(file[:HEAD])
    reader = RowReader(layout, position)
    start = (position or layout.start).offset
    rows = [row for at in range(start, len(file), chunk) for row in reader.feed(file[at : at + chunk])]
    return [*rows, *reader.finish()]


def values_of(file: bytes) -> list[dict[str, Any] | None]:
    return [row.values for row in rows_of(file)]


def test_each_row_has_its_values_line_and_place() -> None:
    file = HEADER + b'1,"Flat, with\na lake",85 L\n\n2,House,1.2 Cr\n'
    first, second = rows_of(file)

    assert first.values == {"id": "1", "title": "Flat, with\na lake", "price": "85 L"}
    assert (first.number, first.line) == (1, 2)
    assert first.after == Position(offset=file.index(b"\n\n2") + 1, line=4, row=1)
    assert (second.number, second.line) == (2, 5)
    assert second.after == Position(offset=len(file), line=6, row=2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_delimiter_line_end_and_byte_order_mark_are_recognised(delimiter: str, line_end: str, bom: bytes) -> None:
    lines = [["id", "a title, or name", "price"], ["1", "Flat; with\ta | ₹", "85"], ["2", "", "9"]]
    text = line_end.join(delimiter.join(f'"{cell}"' for cell in line) for line in lines)
    file = bom + text.encode()

    assert values_of(file) == [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_delimiter_that_excel_names_in_the_first_line_is_used() -> None:
    assert values_of(b"sep=;\r\nid;price\r\n1;1,20,000\r\n") == [{"id": "1", "price": "1,20,000"}]


def test_columns_without_a_name_of_their_own_get_one() -> None:
    assert read_layout(b",Phone,Phone,\n").header == ("column 1", "Phone", "Phone (2)", "column 4")


def test_many_columns_of_one_name_are_numbered_and_too_many_are_refused() -> None:
    assert read_layout(b"a,a (2),a,a,b,b").header == ("a", "a (2)", "a (3)", "a (4)", "b", "b (2)")
    assert read_layout(b"a," * (MAX_COLUMNS - 1) + b"a").header[-1] == f"a ({MAX_COLUMNS})"
    with pytest.raises(FileUnreadable, match="more than 500 columns"):
        read_layout(b"," * (HEAD - 1) + b"\n")


def test_json_lines_keep_their_types() -> None:
    file = b'{"id": 1, "amenities": ["Lift"], "price": null}\n\n{"id": 2.5, "corner": true}'

    assert values_of(file) == [{"id": 1, "amenities": ["Lift"], "price": None}, {"id": 2.5, "corner": True}]
    assert [row.line for row in rows_of(file)] == [1, 3]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"1,Flat\n", "has 2 cells and the header has 3"),
        (b"1,Flat,85,extra\n", "has 4 cells"),
        (b'1,"Flat "A" here",85\n', "A quote is inside"),
        (b"1,Caf\xe9,85\n", "not UTF-8"),
        (b"1,Flat\x00\x07,85,extra\n", "has 4 cells"),
        (b"1," + b"x" * MAX_ROW + b",85\n", "longer than 64 kB"),
        (b'1,"' + (b"x" * 999 + b"\n") * 70 + b'",85\n', "A quote is not closed"),
    ],
)
def test_unreadable_row_is_given_with_the_reason_and_the_next_one_is_read(row: bytes, problem: str) -> None:
    refused, *others = rows_of(HEADER + row + b"2,House,90\n")

    assert refused.values is None
    assert problem in str(refused.problem)
    assert refused.line == 2
    assert refused.text.startswith("1,")
    assert len(refused.text) <= 100
    assert refused.text.isprintable()
    assert others[-1].values == {"id": "2", "title": "House", "price": "90"}


def test_open_quote_does_not_swallow_the_rest_of_the_file() -> None:
    rows = rows_of(HEADER + b'1,"Flat,85\n2,House,90\n3,Plot,40\n')

    assert [row.values and row.values["id"] for row in rows] == [None, "2", "3"]
    assert "not closed" in str(rows[0].problem)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"[1, 2]", "not a JSON object"),
        (b'{"id": 1,}', "not JSON"),
        (b'{"id": NaN}', "not JSON: NaN is no number"),
        (b'{"id": ' + b"9" * 5000 + b"}", "a number is too long"),
        (b'{"id": ' + b"[" * 20_000 + b"}", "nested too deeply"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b'{"id": "' + b"x" * MAX_ROW + b'"}', "longer than 64 kB"),
    ],
)
def test_unreadable_json_line_is_given_with_the_reason(row: bytes, problem: str) -> None:
    first, refused, last = rows_of(b'{"id": 0}\n' + row + b'\n{"id": 2}\n')

    assert problem.lower() in str(refused.problem).lower()
    assert (first.values, last.values) == ({"id": 0}, {"id": 2})


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        ("id,price\n".encode("utf-16"), "UTF-16"),
        ("id,price\n".encode("utf-16-le"), "UTF-16"),
        (b"PK\x03\x04...", "workbook"),
        (b'[{"id": 1}]', "JSON array"),
        (b"id,Caf\xe9\n", "not UTF-8"),
        (b'id,"price\n1,2\n', "header cannot be read"),
        (b"sep=;", "header cannot be read"),
        (b"x" * HEAD, "longer than 64 kB"),
    ],
)
def test_unreadable_file_is_refused_with_what_to_do(head: bytes, reason: str) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        read_layout(head)


_CELLS = st.text(st.sampled_from('ab é₹,;"\n\r\t0'), max_size=8)
_TABLES = st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=8)


@given(_TABLES, st.sampled_from(["\n", "\r\n"]))
def test_rows_that_the_csv_module_writes_are_read_back(table: list[tuple[str, ...]], line_end: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([("id", "title", "price"), *table])

    read = [tuple(row.values.values()) if row.values else row.problem for row in rows_of(text.getvalue().encode())]
    assert read == [row for row in table if any(map(str.strip, row))]


_FILES = st.one_of(
    st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\xff", b"\xe2\x82\xb9", b"x" * 30]), max_size=40).map(
        lambda parts: HEADER + b"".join(parts)
    ),
    st.lists(
        st.sampled_from([b'{"a": 1}', b"\n", b"\r\n", b"{", b" ", b'{"a": "' + b"x" * 40 + b'"}']), max_size=20
    ).map(lambda parts: b'{"a": 0}\n' + b"".join(parts)),
)


@given(_FILES, st.integers(1, 9))
def test_any_chunks_give_the_same_rows(file: bytes, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_reading, "MAX_ROW", 24)
        patch.setattr(import_reading, "_SHOWN", 9)
        assert rows_of(file, chunk=chunk) == rows_of(file)


@given(_FILES, st.integers(1, 9), st.data())
def test_reading_resumes_after_any_row(file: bytes, chunk: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_reading, "MAX_ROW", 24)
        patch.setattr(import_reading, "_SHOWN", 9)
        rows = rows_of(file)
        read = data.draw(st.integers(0, len(rows)))
        after = rows[read - 1].after if read else read_layout(file).start

        assert rows_of(file, chunk=chunk, position=after) == rows[read:]


def test_layout_and_position_survive_json() -> None:
    layout = read_layout(HEADER)

    assert layout == Layout(
        format=FileFormat.CSV, header=("id", "title", "price"), start=Position(offset=len(HEADER), line=2)
    )
    assert Layout.model_validate(json.loads(layout.model_dump_json(by_alias=True))) == layout


def test_memory_is_bounded_by_a_chunk_and_a_row() -> None:
    reader = RowReader(read_layout(HEADER))
    for _ in range(50):
        assert list(reader.feed(b"x" * 10_000)) == []
    assert len(reader._rest) <= MAX_ROW

    (refused,) = reader.feed(b"\n")
    assert refused.end == len(HEADER) + 500_001
