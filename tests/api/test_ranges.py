"""Ranges and conditions of files (RFC 9110), and their names (RFC 6266)."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.ranges import attachment, is_unchanged, wanted_range

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-4", (0, 4)),
        ("bytes=5-", (5, 9)),
        ("bytes=-3", (7, 9)),
        ("bytes=-30", (0, 9)),
        ("bytes=9-100", (9, 9)),
        ("BYTES = 1 - 2", (1, 2)),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-4", None),
        ("bytes=a-b", None),
        ("bytes=0-" + "9" * 40, None),
    ],
)
def test_single_range_is_read_and_all_else_is_ignored(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert wanted_range(header, None, ETAG, 10) == wanted


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_range_outside_of_the_file_is_refused_with_its_size(header: str) -> None:
    with pytest.raises(ApiError) as refused:
        wanted_range(header, None, ETAG, 10)

    assert (refused.value.kind, refused.value.headers) == ("range-not-satisfiable", {"Content-Range": "bytes */10"})


@given(first=st.integers(0, 99), last=st.integers(0, 200), size=st.integers(1, 100))
def test_range_is_always_inside_of_the_file(first: int, last: int, size: int) -> None:
    try:
        found = wanted_range(f"bytes={first}-{last}", None, ETAG, size)
    except ApiError:
        assert first >= size
        return
    assert found is None or 0 <= found[0] <= found[1] < size


@pytest.mark.parametrize(
    ("if_range", "wanted"), [(ETAG, (0, 4)), ('"other"', None), (f"W/{ETAG}", None), ("Mon, 30 Nov 2026", None)]
)
def test_range_of_another_version_is_ignored(if_range: str, wanted: tuple[int, int] | None) -> None:
    assert wanted_range("bytes=0-4", if_range, ETAG, 10) == wanted


@pytest.mark.parametrize(
    ("if_none_match", "unchanged"),
    [
        (None, False),
        (ETAG, True),
        (f"W/{ETAG}", True),
        (f'"x", {ETAG}', True),
        ("*", True),
        ('"x"', False),
        ("abc", False),
    ],
)
def test_client_that_has_the_file_is_not_sent_it_again(if_none_match: str | None, unchanged: bool) -> None:
    assert is_unchanged(if_none_match, ETAG) == unchanged


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=50))
def test_name_of_an_attachment_survives_and_is_one_header(name: str) -> None:
    header = attachment(name)

    assert header.isascii()
    assert unquote(header.rpartition("UTF-8''")[2]) == name
    assert header.count('"') == 2
    header.encode("latin-1")


def test_attachment_has_a_plain_name_for_old_clients() -> None:
    assert attachment('घर "1".pdf') == (
        "attachment; filename=\"__ _1_.pdf\"; filename*=UTF-8''%E0%A4%98%E0%A4%B0%20%221%22.pdf"
    )
