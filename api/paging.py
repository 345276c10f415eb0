"""Keyset pages over HTTP: `{items, nextCursor}`."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import orjson
from fastapi import Response

from api.errors import ApiError
from api.opaque import Tampered

T = TypeVar("T")


def opened(open: Callable[[str, str], T], purpose: str, cursor: str | None) -> T | None:
    """What a cursor was signed for, by `Signer.open` or `open_version`; None for the first page.

    Raises ApiError invalid-cursor.
    """
    if cursor is None:
        return None
    try:
        return open(purpose, cursor)
    except Tampered as error:
        raise ApiError("invalid-cursor") from error


def page(items: Iterable[bytes], next_cursor: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """The response with a page of items, each of them JSON."""
    body = b'{"items":[' + b",".join(items) + b'],"nextCursor":' + orjson.dumps(next_cursor) + b"}"
    return Response(body, headers=headers, media_type="application/json")
