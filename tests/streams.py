"""Clients of live streams: server-sent events and WebSockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from tests.platform import Person, until

Message = dict[str, Any]


async def ticket(http: httpx.AsyncClient, person: Person) -> str:
    """A ticket for one stream."""
    answer = await http.post("/api/stream/tickets", headers=person.headers)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["ticket"]
    return found


class Stream:
    """What a client has received, in order: each message with its id, type and data."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.retry: int | None = None
        self.last_id = ""
        self.ended = asyncio.Event()
        self.close_code: int | None = None

    def of(self, type: str) -> list[Message]:
        """The data of the messages of a type."""
        return [message["data"] for message in self.messages if message["type"] == type]

    async def until(
        self, type: str, matches: Callable[[Message], bool] = lambda _: True, seconds: float = 30
    ) -> Message:
        """The data of the first message of a type that matches, once it is there."""

        async def found() -> list[Message]:
            return [data for data in self.of(type) if matches(data)] or ([{}] if self.ended.is_set() else [])

        first = (await until(found, seconds))[0]
        assert not self.ended.is_set() or type == "end" or any(map(matches, self.of(type))), "the stream has ended"
        return first

    def _take(self, message: Message) -> None:
        self.last_id = message["id"]
        if message["type"] != "heartbeat":
            self.messages.append(message)


class _Lines:
    """Parses an event stream (HTML, section 9.2.6)."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._event: dict[str, str] = {}

    def take(self, line: str) -> None:
        if line:
            name, _, value = line.partition(":")
            self._event[name] = value.removeprefix(" ")
            return
        event, self._event = self._event, {}
        if "retry" in event:
            self._stream.retry = int(event["retry"])
        if "id" in event:
            self._stream.last_id = event["id"]
        if "data" in event:
            self._stream._take({"id": event["id"], "type": event["event"], "data": json.loads(event["data"])})


@asynccontextmanager
async def events(http: httpx.AsyncClient, ticket: str, **query: str) -> AsyncIterator[Stream]:
    """An open stream of server-sent events, once it is ready."""
    stream = Stream()
    lines = _Lines(stream)
    headers = {"Last-Event-ID": query.pop("last_event_id")} if "last_event_id" in query else {}
    async with http.stream("GET", "/api/stream", params={"ticket": ticket, **query}, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")

        async def read() -> None:
            with suppress(httpx.TransportError):
                async for line in answer.aiter_lines():
                    lines.take(line)
            stream.ended.set()

        reading = asyncio.create_task(read())
        try:
            await stream.until("ready")
            yield stream
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


class Socket(Stream):
    """A stream by WebSocket, which can be written to."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self._connection = connection

    async def send(self, type: str, *properties: str) -> None:
        await self.send_text(json.dumps({"type": type, "properties": properties}))

    async def send_text(self, text: str) -> None:
        await self._connection.send(text)

    async def read(self) -> None:
        with suppress(websockets.ConnectionClosed):
            while True:
                self._take(json.loads(await self._connection.recv()))
        self.close_code = self._connection.close_code
        self.ended.set()


@asynccontextmanager
async def websocket(http: httpx.AsyncClient, ticket: str, query: str = "", **more: Any) -> AsyncIterator[Socket]:
    """An open WebSocket, once it is ready. Raises InvalidStatus when it is refused."""
    url = str(http.base_url).replace("http", "ws", 1).rstrip("/")
    async with websockets.connect(f"{url}/api/stream/ws?ticket={ticket}{query}", proxy=None, **more) as connection:
        socket = Socket(connection)
        reading = asyncio.create_task(socket.read())
        try:
            await socket.until("ready")
            yield socket
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
