"""CORS (the Fetch standard): the origins whose pages may use the API.

Clients authenticate with bearer tokens and not with cookies, so credentials mode is not allowed.
"""

from collections.abc import Sequence

from api.errors import ApiError

Headers = list[tuple[bytes, bytes]]

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = (
    b"Allow, Command-Id, Consistency-Token, ETag, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy,"
    b" Retry-After, WWW-Authenticate"
)
_PREFLIGHT_SECONDS = b"600"
"""After ten minutes at most, browsers see a change of CORS_ORIGINS."""


class Origins:
    """The allowed origins; `*` allows every origin."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = {origin.encode() for origin in allowed}
        self.varying: Headers = [(b"vary", b"Origin")] if allowed else []
        """Headers of a response to a request without Origin, which a cache must not use for one with Origin."""

    def headers(self, origin: bytes) -> Headers:
        """The headers of every response to `origin`, errors included."""
        if not self._allows(origin):
            return self.varying
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            *self.varying,
        ]

    def preflight(self, origin: bytes, wanted: bytes | None) -> Headers:
        """The headers of the response to a preflight; `wanted` are the request headers. Raises origin-not-allowed."""
        if not self._allows(origin):
            raise ApiError("origin-not-allowed")
        headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _PREFLIGHT_SECONDS)]
        return headers + ([(b"access-control-allow-headers", wanted)] if wanted else [])

    def may_connect(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may open a WebSocket at `host`: CORS does not apply to it, so browsers ask nobody.

        A page of the API's own host may.
        """
        return self._allows(origin.encode()) or origin.partition("://")[2] == host

    def _allows(self, origin: bytes) -> bool:
        return origin in self._allowed or b"*" in self._allowed
