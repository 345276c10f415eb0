"""What every request meets before its route: limits on the body, and a count of what was answered."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.telemetry import REQUESTS
from api.errors import ApiError, answer

_WITH_BODY = {"POST", "PUT", "PATCH"}


class Doorkeeper:
    """Refuses bodies that are too large or not JSON before anything is parsed; counts requests by route and status."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            body = await self._body(scope, receive) if scope["method"] in _WITH_BODY else None
            await self._app(scope, receive if body is None else _again(body, receive), counted)
        except ApiError as error:
            await answer(error, scope["path"])(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(scope["method"], route, str(status)).inc()

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises ApiError body-too-large as soon as that is known, or unsupported-media-type."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max:
            raise self._too_large()
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
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        if size and media != "application/json":
            raise ApiError("unsupported-media-type", f"Send application/json, not {media or 'a body without a type'}.")
        return b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError("body-too-large", f"At most {self._max} bytes are taken.")


def _again(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
