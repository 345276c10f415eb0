"""Texts that clients carry for us and cannot make or alter: cursors and consistency tokens."""

import base64
import hmac
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from adapters.sealing import derived_key
from projections.paging import Cursor

_TAG_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = struct.Struct(">q16s")
_VERSION = struct.Struct(">q")


class Tampered(ValueError):
    """The text was not made by us, or for another use."""


class Signer:
    """Signs cursors in lists (HMAC-SHA256, 128 bits kept), each bound to its use."""

    def __init__(self, secret: bytes) -> None:
        self._key = derived_key(secret, "opaque-texts")

    def sign(self, use: str, cursor: Cursor) -> str:
        """`use` is what the text is good for, such as one user's cursor; it is not part of the text."""
        return self._signed(use, _CURSOR.pack(cursor.score, cursor.id.bytes))

    def sign_version(self, use: str, version: int) -> str:
        """The same for a cursor in the events of one aggregate."""
        return self._signed(use, _VERSION.pack(version))

    def open(self, use: str, text: str) -> Cursor:
        """The cursor that was signed for `use`. Raises Tampered."""
        micros, id = _CURSOR.unpack(self._opened(use, text, _CURSOR.size))
        return Cursor(_EPOCH + timedelta(microseconds=micros), UUID(bytes=id))

    def open_version(self, use: str, text: str) -> int:
        """The version that was signed for `use`. Raises Tampered."""
        version: int = _VERSION.unpack(self._opened(use, text, _VERSION.size))[0]
        return version

    def fingerprint(self, route: str, body: bytes) -> str:
        """A hash of a request's body that says nothing of it to who has no key: the body may hold a password."""
        return hmac.digest(self._key, f"fingerprint:{route}:".encode() + body, "sha256").hex()

    def _signed(self, use: str, body: bytes) -> str:
        return base64.urlsafe_b64encode(body + self._tag(use, body)).decode().rstrip("=")

    def _opened(self, use: str, text: str, size: int) -> bytes:
        try:
            body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)[:size]
        except ValueError as error:
            raise Tampered("not base64url") from error
        # Signing again and comparing the texts leaves exactly one text for each cursor.
        if len(body) != size or not hmac.compare_digest(self._signed(use, body).encode(), text.encode()):
            raise Tampered("signed by somebody else, or for another use")
        return body

    def _tag(self, use: str, body: bytes) -> bytes:
        return hmac.digest(self._key, f"{use}:".encode() + body, "sha256")[:_TAG_BYTES]
