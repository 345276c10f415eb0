"""The reader of multipart forms: whatever the chunks, the same files; and everything else is refused by name."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.multipart import (
    OVERHEAD_BYTES,
    FileBegan,
    FileData,
    FileEnded,
    FormLimits,
    MultipartReader,
    clean_media_type,
    clean_name,
)

TYPE = 'multipart/form-data; boundary="edge"'
LIMITS = FormLimits(files=2, file_bytes=1000, total_bytes=1500, file_field="files", fields=("note",))


def part(content: bytes, disposition: str = 'form-data; name="files"; filename="a.jpg"', more: str = "") -> bytes:
    return f"--edge\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


def read(body: bytes, cuts: list[int] | None = None) -> tuple[list[Any], dict[str, str]]:
    """The files of a body that comes in chunks, as name, media type and content; and its fields."""
    reader = MultipartReader(TYPE, LIMITS)
    files: list[Any] = []
    for start, end in pairwise([0, *sorted(cuts or []), len(body)]):
        for event in reader.read(body[start:end]):
            match event:
                case FileBegan():
                    files.append([event.name, event.media_type, b"", False])
                case FileData():
                    files[-1][2] += event.data
                case FileEnded():
                    files[-1][3] = True
    reader.finish()
    assert all(file.pop() for file in files)
    return files, reader.fields


def refusal(body: bytes) -> tuple[str, str]:
    with pytest.raises(ApiError) as refused:
        read(body)
    return refused.value.kind, refused.value.detail


@given(
    contents=st.lists(st.binary(max_size=300) | st.just(b"\r\n--edg\r\n-edge-\r\r\n-"), min_size=1, max_size=2),
    data=st.data(),
)
def test_files_are_the_same_whatever_the_chunks(contents: list[bytes], data: st.DataObject) -> None:
    body = form(*(part(content, more="Content-Type: image/jpeg\r\n") for content in contents))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=30))

    files, _ = read(body, cuts)

    assert files == [["a.jpg", "image/jpeg", content] for content in contents]


def test_form_is_the_same_byte_by_byte() -> None:
    body = form(part(b"one"), part("é".encode(), 'form-data; name="note"'), part(b"--edge"))
    unknown = "application/octet-stream"

    assert read(body, list(range(len(body)))) == read(body)
    assert read(body) == ([["a.jpg", unknown, b"one"], ["a.jpg", unknown, b"--edge"]], {"note": "é"})


@pytest.mark.parametrize(
    ("body", "kind", "advice"),
    [
        (form(part(b"x" * 1001)), "file-too-large", "1000 bytes"),
        (form(part(b"1"), part(b"2"), part(b"3")), "too-many-files", "at most 2"),
        (form(part(b"1"))[:-6], "truncated-body", ""),
        (part(b"1"), "truncated-body", ""),
        (b"", "truncated-body", ""),
        (b"no form at all", "malformed-multipart", ""),
        (b'{"json": true}', "malformed-multipart", ""),
        (form(part(b"v", 'form-data; name="note"')), "no-file", "1 to 2 files in the field `files`"),
        (form(part(b"1", 'form-data; name="file"; filename="a"')), "wrong-field", "`files`, not in 'file'"),
        (form(part(b"1", 'form-data; name="files"')), "wrong-field", "with its name"),
        (form(part(b"1", 'form-data; name="castle"')), "wrong-field", "no field 'castle'"),
        (form(part(b"1", 'form-data; name="note"'), part(b"2", 'form-data; name="note"')), "wrong-field", "once"),
        (form(part(b"\xff", 'form-data; name="note"')), "wrong-field", "UTF-8"),
        (form(part(b"x" * 40_000, 'form-data; name="note"')), "wrong-field", "32768 bytes"),
        (form(part(b"1", "form-data")), "malformed-multipart", "`name`"),
        (form(part(b"1", 'attachment; name="files"; filename="a"')), "malformed-multipart", "form-data"),
        (form(part(b"1", more="X: " + "x" * 5000 + "\r\n")), "malformed-multipart", ""),
        (form(part(b"1", more="X: y\r\n" * 20)), "malformed-multipart", ""),
        (form(part(b"1", more="no colon\r\n")), "malformed-multipart", ""),
    ],
)
def test_form_is_refused_by_name(body: bytes, kind: str, advice: str) -> None:
    refused, detail = refusal(body)

    assert refused == kind
    assert advice in detail


def test_body_is_refused_as_soon_as_it_exceeds_the_total() -> None:
    reader = MultipartReader(TYPE, LIMITS)
    reader.read(b"--edge\r\n")
    with pytest.raises(ApiError) as refused:
        reader.read(b"x" * (1500 + OVERHEAD_BYTES))

    assert refused.value.kind == "file-too-large"


def test_endless_fields_without_a_file_are_refused() -> None:
    empty = part(b"", 'form-data; name="files"; filename=""')

    assert refusal(form(*[empty] * 5))[0] == "no-file"
    assert refusal(form(*[empty] * 1000))[0] == "file-too-large"


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("multipart/form-data", "missing-boundary"),
        ("multipart/form-data; boundary=", "missing-boundary"),
        ("", "missing-boundary"),
        (f"multipart/form-data; boundary={'x' * 300}", "malformed-multipart"),
    ],
)
def test_boundary_is_needed(content_type: str, kind: str) -> None:
    with pytest.raises(ApiError) as refused:
        MultipartReader(content_type, LIMITS)

    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\plan.pdf", "plan.pdf"),
        ("a\x00b\r\n.jpg", "ab.jpg"),
        ("घर का नक्शा.pdf", "घर का नक्शा.pdf"),
        ("\u202egnp.exe", "gnp.exe"),  # a mark that turns the direction of writing
        ("folder/", ""),
        ("   ", ""),
        ("x" * 300 + ".jpeg", "x" * 250 + ".jpeg"),
        ("x" * 300, "x" * 255),
    ],
)
def test_name_of_a_file_is_only_a_name(sent: str, name: str) -> None:
    assert clean_name(sent) == name


def test_name_of_a_file_is_read_as_browsers_write_it() -> None:
    disposition = 'form-data; name="files"; filename="मेरा %22घर%22.jpg"'

    assert read(form(part(b"1", disposition)))[0][0][0] == 'मेरा "घर".jpg'


@pytest.mark.parametrize(
    ("sent", "media_type"),
    [
        ("image/JPEG; charset=x", "image/jpeg"),
        ("nonsense", "application/octet-stream"),
        ("image/é", "application/octet-stream"),
        ("text/html\r\nX: y", "application/octet-stream"),
        ("a/" + "b" * 200, "application/octet-stream"),
    ],
)
def test_media_type_of_a_part_is_one_or_unknown(sent: str, media_type: str) -> None:
    assert clean_media_type(sent) == media_type


@pytest.mark.parametrize("name", ["/", "", "\\u0000", "a.jpg"])
def test_file_counts_by_its_bytes_whatever_its_name(name: str) -> None:
    sent = part(b"x", f'form-data; name="files"; filename="{name}"')
    assert len(read(form(sent, sent))[0]) == 2
    assert refusal(form(sent, sent, sent))[0] == "too-many-files"


def test_files_without_bytes_are_limited_too() -> None:
    empty = part(b"", 'form-data; name="files"; filename=""')
    assert len(read(form(*[empty] * 15, part(b"x")))[0]) == 16
    assert refusal(form(*[empty] * 100))[0] == "too-many-files"
