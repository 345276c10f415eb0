"""Cross-origin requests (CORS, the Fetch standard): the pages of which other origins may use the API.

Access is by bearer token and never by cookie, so no credentials are allowed. A page may read its errors too.
"""

from collections.abc import Sequence

from api.errors import ApiError

Headers = list[tuple[bytes, bytes]]

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = b"Allow, Command-Id, Consistency-Token, ETag, Idempotency-Replayed, Location, Retry-After, WWW-Authenticate"
_PREFLIGHT_SECONDS = b"600"
"""Chromium's browsers keep no answer for longer than two hours; after ten minutes a change of CORS_ORIGINS holds."""


class Origins:
    """The origins of CORS_ORIGINS; `*` among them allows every one."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = {origin.encode() for origin in allowed}
        self.varying: Headers = [(b"vary", b"Origin")] if allowed else []
        """For an answer to a request without an origin, which a shared cache must not give to one that has one."""

    def headers(self, origin: bytes) -> Headers:
        """For every answer to a request of `origin`, errors included."""
        if not self._allows(origin):
            return self.varying
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            *self.varying,
        ]

    def preflight(self, origin: bytes, wanted: bytes | None) -> Headers:
        """For a preflight that asks to send the headers `wanted`. Raises ApiError origin-not-allowed."""
        if not self._allows(origin):
            raise ApiError("origin-not-allowed")
        headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _PREFLIGHT_SECONDS)]
        return headers + ([(b"access-control-allow-headers", wanted)] if wanted else [])

    def _allows(self, origin: bytes) -> bool:
        return origin in self._allowed or b"*" in self._allowed
