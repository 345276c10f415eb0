"""Signed opaque texts for clients: cursors and consistency tokens."""

import base64
import hmac
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from adapters.paging import Cursor
from adapters.sealing import derived_key

_TAG_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = struct.Struct(">q16s")
_VERSION = struct.Struct(">q")


class Tampered(ValueError):
    """The signature of the text is not valid for this purpose."""


class Signer:
    """Signs cursors (HMAC-SHA256, truncated to 128 bits), each for one purpose."""

    def __init__(self, secret: bytes) -> None:
        self._key = derived_key(secret, "opaque-texts")

    def sign(self, purpose: str, cursor: Cursor) -> str:
        """The cursor as a signed text. `purpose` (such as one user's history) is signed, but not part of the text."""
        return self._signed(purpose, _CURSOR.pack(cursor.score, cursor.id.bytes))

    def sign_version(self, purpose: str, version: int) -> str:
        """A version as a signed text: the cursor in the events of one aggregate."""
        return self._signed(purpose, _VERSION.pack(version))

    def sign_position(self, purpose: str, position: Sequence[Any]) -> str:
        """A position of any sort key, of JSON values, as a signed text."""
        return self._signed(purpose, orjson.dumps(position))

    def open(self, purpose: str, text: str) -> Cursor:
        """The cursor in a text that was signed for `purpose`. Raises Tampered."""
        micros, id = _CURSOR.unpack(self._opened(purpose, text, _CURSOR.size))
        return Cursor(_EPOCH + timedelta(microseconds=micros), UUID(bytes=id))

    def open_version(self, purpose: str, text: str) -> int:
        """The version in a text that was signed for `purpose`. Raises Tampered."""
        version: int = _VERSION.unpack(self._opened(purpose, text, _VERSION.size))[0]
        return version

    def open_position(self, purpose: str, text: str) -> tuple[Any, ...]:
        """The position in a text that was signed for `purpose`. Raises Tampered."""
        return tuple(orjson.loads(self._opened(purpose, text, None)))

    def fingerprint(self, route: str, body: bytes) -> str:
        """HMAC of a request's body: a plain hash could be reversed by guessing bodies."""
        return hmac.digest(self._key, f"fingerprint:{route}:".encode() + body, "sha256").hex()

    def _signed(self, purpose: str, body: bytes) -> str:
        return base64.urlsafe_b64encode(body + self._tag(purpose, body)).decode().rstrip("=")

    def _opened(self, purpose: str, text: str, size: int | None) -> bytes:
        """The signed bytes: `size` of them, or of any number."""
        try:
            signed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise Tampered("not base64url") from error
        body = signed[:-_TAG_BYTES] if size is None else signed[:size]
        # Compare the whole text, not only the tag, so that no second base64 spelling of a cursor is accepted.
        whole = size is None or len(body) == size
        if not whole or not hmac.compare_digest(self._signed(purpose, body).encode(), text.encode()):
            raise Tampered("the signature is not valid for this purpose")
        return body

    def _tag(self, purpose: str, body: bytes) -> bytes:
        return hmac.digest(self._key, f"{purpose}:".encode() + body, "sha256")[:_TAG_BYTES]
