"""Servers on loopback that play a provider: each request gets the next answer of a script, which may be a failure."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from adapters.providers import BadAddress, DeliveryRefused, ProviderUnavailable

Play = Callable[["HttpServer", asyncio.StreamWriter], Awaitable[None]]
"""Answers one request that was read completely."""


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))


@dataclass
class HttpServer:
    """A running server: its URL, the requests that it has read, and what it will answer."""

    script: list[Play]
    url: str = ""
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                self.received.append(await _request(reader))
                # Past the end of the script each request is a failure that the tests do not expect.
                play = self.script.pop(0) if self.script else answer(418)
                await play(self, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed the connection
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Received(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def answer(status: int, body: object = None, *, keep: float = 1.0, **headers: str) -> Play:
    """Answers with a status, headers (`retry_after="7"`) and JSON; sends only the part `keep` of the body."""

    async def play(_: HttpServer, writer: asyncio.StreamWriter) -> None:
        content = b"" if body is None else orjson.dumps(body)
        named = {
            "content-length": str(len(content)),
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        lines = [f"HTTP/1.1 {status} Answer", *(f"{name}: {value}" for name, value in named.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content[: int(len(content) * keep)])
        await writer.drain()
        if keep < 1:
            writer.close()

    return play


async def drop(_: HttpServer, writer: asyncio.StreamWriter) -> None:
    """Closes the connection instead of answering."""
    writer.close()


async def half_a_head(_: HttpServer, writer: asyncio.StreamWriter) -> None:
    """Closes the connection within the status line."""
    writer.write(b"HTTP/1.1 20")
    await writer.drain()
    writer.close()


async def hang(server: HttpServer, _: asyncio.StreamWriter) -> None:
    """Does not answer until the server is closed."""
    await server.closing.wait()


async def endless(server: HttpServer, writer: asyncio.StreamWriter) -> None:
    """Answers 202 and then sends the body without an end, until the client closes the connection."""
    writer.write(b"HTTP/1.1 202 Accepted\r\nx-message-id: endless\r\ntransfer-encoding: chunked\r\n\r\n")
    while not server.closing.is_set():
        writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        await writer.drain()


@asynccontextmanager
async def http_server(*script: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpServer]:
    """A server that answers its requests by `script`, one after the other; with `tls` as https://localhost."""
    server = HttpServer(list(script))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    origin = "https://localhost" if tls else "http://127.0.0.1"
    server.url = f"{origin}:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        server.closing.set()
        listening.close()


async def error_of(sending: Awaitable[object], *secrets: str) -> Exception:
    """The error of sending a message. Neither it nor what Temporal stores with it contains a secret."""
    with pytest.raises((ProviderUnavailable, DeliveryRefused, BadAddress)) as caught:
        await sending
    error = caught.value
    assert not any(secret in repr(error) for secret in secrets)
    assert error.__cause__ is None
    return error
