"""Ranges of bytes and conditions on files (RFC 9110, sections 13 and 14), and the names under which they are saved."""

import re
from urllib.parse import quote

from api.errors import ApiError

_ANY_ETAG = re.compile(r'(?:W/)?("[!\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(
    r"[ \t]*bytes[ \t]*=[ \t]*(?P<first>[0-9]{0,18})[ \t]*-[ \t]*(?P<last>[0-9]{0,18})[ \t]*", re.IGNORECASE
)


def is_unchanged(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has the file already; weak and strong tags compare alike."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _ANY_ETAG.findall(if_none_match)


def wanted_range(header: str | None, if_range: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """The first and last byte that the client wants; None for the whole file.

    Several ranges, other units and what is no range are ignored, as is a range of another version than the client has;
    a date in `If-Range` is of another version, because files have none. Raises ApiError range-not-satisfiable.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or (if_range is not None and if_range.strip() != etag):
        return None
    if not found["first"]:
        if not found["last"]:
            return None
        length = min(int(found["last"]), size)
        first, last = size - length, size - 1
    else:
        first = int(found["first"])
        last = min(int(found["last"] or size - 1), size - 1)
        if found["last"] and int(found["last"]) < first:
            return None
    if first >= size or last < first:
        raise ApiError(
            "range-not-satisfiable",
            f"Ask for bytes 0 to {size - 1}." if size else None,
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


def attachment(file_name: str) -> str:
    """The `Content-Disposition` that saves a file under its name (RFC 6266), in every browser."""
    plain = "".join(one if " " <= one <= "~" and one not in '"\\%' else "_" for one in file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
