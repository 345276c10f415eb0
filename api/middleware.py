"""What every request meets before its route: checks of its headers and body, CORS, and a count of what was answered."""

import json
import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.telemetry import REQUESTS
from api.errors import MAX_HEADER_BYTES, MAX_URI_BYTES, ApiError, answer
from api.origins import Origins

log = logging.getLogger(__name__)

_MEDIA_TYPES = {
    "POST": {"application/json"},
    "PUT": {"application/json"},
    "PATCH": {"application/json", "application/merge-patch+json"},
}
"""The methods that have a body, and the types of it."""
_ONCE = frozenset({b"authorization", b"idempotency-key", b"content-type", b"content-encoding", b"consistency-token"})
"""Headers of one value: of two that differ, a proxy and the API could each take another."""
_NOSNIFF = (b"x-content-type-options", b"nosniff")


class RequestChecks:
    """Refuses requests that are too large, ambiguous or not JSON before a route sees them.

    It answers HEAD as the GET route does, adds the headers of CORS to every answer, errors included, answers what no
    route expected with 500, and counts requests by route and status.
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
        # uvicorn sends no body in answer to HEAD; other servers must not have to.
        asked = {**scope, "method": "GET"} if method == "HEAD" else scope
        status, more = 0, [_NOSNIFF, *self._origins.varying]

        async def finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *more]
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            headers, repeated, size = _read_headers(scope)
            if (origin := headers.get(b"origin")) is not None:
                more = [_NOSNIFF, *self._origins.headers(origin)]
            _check_head(scope, repeated, size)
            if method == "OPTIONS" and origin is not None:
                await self._preflight(origin, headers, finished)
            elif method in _MEDIA_TYPES:
                await self._app(asked, _again(await self._body(method, headers, receive), receive), finished)
            else:
                await self._app(asked, receive, finished)
        except ApiError as error:
            await answer(error, scope["path"])(scope, receive, finished)
        except Exception as error:
            # Whatever it is, the client is told so, in the form and with the CORS headers of every other error.
            log.error("unexpected error at %s %s", method, scope["path"], exc_info=error)
            if status:
                raise  # the answer is under way: only the connection can tell
            await answer(ApiError("internal"), scope["path"])(scope, receive, finished)
        finally:
            route = getattr(asked.get("route"), "path", "none")
            REQUESTS.labels(method, route, str(status or 500)).inc()

    async def _preflight(self, origin: bytes, headers: dict[bytes, bytes], send: Send) -> None:
        allowed = self._origins.preflight(origin, headers.get(b"access-control-request-headers"))
        await send({"type": "http.response.start", "status": 204, "headers": allowed})
        await send({"type": "http.response.body"})

    async def _body(self, method: str, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, one JSON document or nothing. Raises ApiError as soon as it is known to be anything else."""
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max:
            raise self._too_large()
        if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"identity", b""}:
            raise ApiError("unsupported-content-encoding", headers={"Accept-Encoding": "identity"})
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
        if body:
            media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
            if media not in _MEDIA_TYPES[method]:
                taken = " or ".join(sorted(_MEDIA_TYPES[method]))
                raise ApiError("unsupported-media-type", f"Send {taken}, not {media or 'a body without a type'}.")
            _check_json(body)
        return body

    def _too_large(self) -> ApiError:
        return ApiError("body-too-large", f"Send at most {self._max} bytes.")


def _read_headers(scope: Scope) -> tuple[dict[bytes, bytes], bytes | None, int]:
    """The headers by name, the first of those of one value that came twice, and the size of all."""
    headers: dict[bytes, bytes] = {}
    repeated: bytes | None = None
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in headers and name in _ONCE:
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
    """An object with a name twice, of which every reader takes another value (RFC 8259, section 4)."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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
    """Raises ApiError malformed-json or duplicate-name. It takes 9 µs for a listing of 2 kB, which is parsed again."""
    try:
        json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except _DuplicateName as error:
        name = json.dumps(str(error))
        raise ApiError("duplicate-name", f"Send {name[:100]} once; an object in the body has it twice.") from error
    except _NotInJson as error:
        raise ApiError("malformed-json", f"Send a number in place of {error}, which JSON does not have.") from error
    except UnicodeDecodeError as error:
        raise ApiError("malformed-json", f"Send UTF-8; byte {error.start} of the body is not.") from error
    except json.JSONDecodeError as error:
        detail = f"Fix the JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        raise ApiError("malformed-json", detail) from error
    except RecursionError as error:
        raise ApiError("malformed-json", "Send fewer lists and objects inside each other.") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise ApiError("malformed-json", "Send numbers of fewer digits.") from error


def _again(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
