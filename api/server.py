"""uvicorn with what it lacks: a limit on the size of a request head, a way to cut off a client, and draining streams.

Its parser, httptools, buffers a head (request line and headers) of any size until it is complete, and only then calls
the application. RequestChecks checks complete heads; BoundedHttp refuses one that exceeds the limit before that.

`scope["abort"]` closes the connection without waiting for a client that does not read what was written.
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from api.errors import KINDS, MAX_HEADER_BYTES, MAX_URI_BYTES, MEDIA_TYPE, ApiError, document

_MAX_HEAD_BYTES = 2 * (MAX_URI_BYTES + MAX_HEADER_BYTES)
"""Above both limits, so that a head which is slightly too large is completed, and refused with CORS headers."""
_LINGER_SECONDS = 2.0
"""Closing at once resets the connection, and a client that is still sending may lose the response (RFC 9112, 9.6)."""


class BoundedHttp(HttpToolsProtocol):
    """Answers a request head that is too large or not valid HTTP with a problem document."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_is_open = False
        self._head_bytes = 0
        self._refused = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_is_open, self._head_bytes = True, 0
        self.scope["abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._head_is_open and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                too_long = len(self.url) > MAX_URI_BYTES
                self._refuse(ApiError("uri-too-long" if too_long else "headers-too-large"))

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError("malformed-request"))

    def _refuse(self, error: ApiError) -> None:
        self._refused = True
        body = orjson.dumps(document(error))
        self.transport.write(
            STATUS_LINE[KINDS[error.kind].status]
            + f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


_LOGGER = logging.getLogger("uvicorn.websockets")
_LOGGER.setLevel(logging.WARNING)


class AbortableWebSocket(WebSocketsSansIOProtocol):
    """Lets the application cut off a client, and logs no URL, which has a ticket."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _LOGGER

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]


class DrainingServer(uvicorn.Server):
    """Ends streams when it stops: it would wait for them in vain otherwise."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._drain()
        await super().shutdown(sockets)
