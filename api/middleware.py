"""ASGI middleware for every request: checks of headers and body, CORS, unexpected errors, and metrics."""

import asyncio
import json
import logging
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.telemetry import REQUESTS
from adapters.unsubscribing import UNSUBSCRIBE_PATH
from api.errors import MAX_HEADER_BYTES, MAX_URI_BYTES, ApiError, answer
from api.origins import Origins
from api.quotas import collected
from api.quotas import headers as quota_headers

log = logging.getLogger(__name__)

MEDIA_TYPES = {
    "POST": {"application/json"},
    "PUT": {"application/json"},
    "PATCH": {"application/json", "application/merge-patch+json"},
    "DELETE": {"application/json"},
}
"""The methods that have a body, with its media types."""
_FORM = "application/x-www-form-urlencoded"
_OTHER_BODIES = {"/api/webhooks/twilio": {_FORM}, UNSUBSCRIBE_PATH: {_FORM, "multipart/form-data"}}
"""The routes whose body is not JSON, with its media types."""
_LARGER_BODIES = {"/api/webhooks/sendgrid": 1_048_576}
"""The routes that take more bytes than the others: SendGrid collects up to 768 kB of reports."""
_STREAMED = re.compile(r"/api/properties/(?:[^/]+/images|import)|/api/files/upload(?:/multiple)?")
"""The paths to which forms with files are posted. Their routes read the body themselves, in chunks and with limits of
their own (`api/receiving.py`), once they know that the caller may send it."""
_OR_JSON = {"/api/properties/import"}
"""Those that take JSON too, which is read here."""
_SINGLE_VALUED = frozenset(
    {
        b"authorization",
        b"consistency-token",
        b"content-encoding",
        b"content-type",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
    }
)
"""Headers that must not be sent twice: a proxy and the API might use different values."""
BODY_SECONDS = 30.0
"""For a body that is read here: 256 kB at 9 kB a second. Whoever sends it slower holds a connection for nothing."""
_MAX_NAMES = 200
"""Names of one object in a body: several times those of any body. Each unknown name is validated and reported."""
_NOSNIFF = (b"x-content-type-options", b"nosniff")


class RequestChecks:
    """Refuses requests that are too large, ambiguous or not JSON before a route sees them.

    It runs the GET route for HEAD, adds CORS headers to every response including errors, and RateLimit headers to
    limited ones, answers unexpected exceptions with 500, and counts requests by route and status.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, origins: Origins) -> None:
        self._app = app
        self._max = max_body_bytes
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        routed = {**scope, "method": "GET", "is_head": True} if method == "HEAD" else scope
        status, added, quotas = 0, [_NOSNIFF, *self._origins.varying], collected()

        async def finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *added, *quota_headers(quotas.values())]
            elif method == "HEAD":
                message = {**message, "body": b""}  # uvicorn drops the body; other servers need not
            await send(message)

        try:
            headers, repeated, size = _read_headers(scope)
            if (origin := headers.get(b"origin")) is not None:
                added = [_NOSNIFF, *self._origins.headers(origin)]
            _check_head(scope, repeated, size)
            if method == "OPTIONS" and origin is not None:
                await self._preflight(origin, headers, finished)
            elif method in MEDIA_TYPES:
                await self._app(routed, await self._checked(scope, headers, receive), finished)
            else:
                await self._app(routed, receive, finished)
        except ApiError as error:
            await answer(error, scope["path"])(scope, receive, finished)
        except Exception as error:
            # Answered here, not by Starlette, so that it is a problem document with CORS headers.
            log.error("unexpected error at %s %s", method, scope["path"], exc_info=error)
            if status:
                raise  # the response has started, so the server closes the connection
            await answer(ApiError("internal"), scope["path"])(scope, receive, finished)
        finally:
            route = getattr(routed.get("route"), "path", "none")
            REQUESTS.labels(method, route, str(status or 500)).inc()

    async def _preflight(self, origin: bytes, headers: dict[bytes, bytes], send: Send) -> None:
        allowed = self._origins.preflight(origin, headers.get(b"access-control-request-headers"))
        await send({"type": "http.response.start", "status": 204, "headers": allowed})
        await send({"type": "http.response.body"})

    async def _checked(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """What receives the body: checked, or of a form with files as it comes. Raises ApiError."""
        if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"identity", b""}:
            raise ApiError("unsupported-content-encoding", headers={"Accept-Encoding": "identity"})
        is_form = scope["path"] not in _OR_JSON or _media_type(headers) == "multipart/form-data"
        if scope["method"] == "POST" and is_form and _STREAMED.fullmatch(scope["path"]):
            return receive
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(scope, headers, receive)
        except TimeoutError as error:
            raise ApiError("too-slow") from error
        return _replayed(body, receive)

    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Read the body, which must be one JSON document or empty. Raises ApiError as soon as it is too large."""
        most = max(self._max, _LARGER_BODIES.get(scope["path"], 0))
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
        if body:
            media = _media_type(headers)
            taken = _OTHER_BODIES.get(scope["path"], MEDIA_TYPES[scope["method"]])
            if media not in taken:
                raise _unsupported(taken | ({"multipart/form-data"} if scope["path"] in _OR_JSON else set()), media)
            if media.endswith("json"):
                _check_json(body)
        return body


def _media_type(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def _unsupported(taken: set[str], media: str) -> ApiError:
    named = " or ".join(sorted(taken))
    return ApiError("unsupported-media-type", f"Send {named}, not {media or 'a body without Content-Type'}.")


def _too_large(most: int) -> ApiError:
    return ApiError("body-too-large", f"Send at most {most} bytes.")


def _read_headers(scope: Scope) -> tuple[dict[bytes, bytes], bytes | None, int]:
    """The headers by name, the first single-valued one that is repeated, and the size of all in bytes."""
    headers: dict[bytes, bytes] = {}
    repeated: bytes | None = None
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in headers and name in _SINGLE_VALUED:
            repeated = repeated or name
        headers[name] = value
    return headers, repeated, size


def _check_head(scope: Scope, repeated: bytes | None, size: int) -> None:
    if size > MAX_HEADER_BYTES:
        raise ApiError("headers-too-large")
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URI_BYTES:
        raise ApiError("uri-too-long")
    if repeated is not None:
        raise ApiError("repeated-header", f"Send one {repeated.decode().title()} header.")


class _DuplicateName(Exception):
    """A JSON object has a duplicate name; which value a parser uses is undefined (RFC 8259, section 4)."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > _MAX_NAMES:
        raise ApiError("malformed-json", f"Send objects with at most {_MAX_NAMES} names.")
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateName(name)
            seen.add(name)
    return found


class _NotInJson(Exception):
    """NaN, Infinity or -Infinity, which Python's parser takes and JSON does not have (RFC 8259, section 6)."""


def _refuse_constant(name: str) -> None:
    raise _NotInJson(name)


def _check_json(body: bytes) -> None:
    """Raises ApiError malformed-json or duplicate-name. FastAPI parses the body again; this takes 9 µs for 2 kB."""
    try:
        json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except _DuplicateName as error:
        name = json.dumps(str(error))
        raise ApiError(
            "duplicate-name", f"Send {name[:100]} once: an object in the body has this name twice."
        ) from error
    except _NotInJson as error:
        raise ApiError("malformed-json", f"Send a number in place of {error}, which JSON does not have.") from error
    except UnicodeDecodeError as error:
        raise ApiError("malformed-json", f"Send UTF-8: byte {error.start} of the body is not valid.") from error
    except json.JSONDecodeError as error:
        detail = f"Fix the JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        raise ApiError("malformed-json", detail) from error
    except RecursionError as error:
        raise ApiError("malformed-json", "Nest lists and objects less deeply.") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise ApiError("malformed-json", "Send numbers with fewer digits.") from error


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
