"""Streams of live messages under measurement: many idle ones, one that shows what commands do, and those of sessions
that are signed out."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from redis.asyncio import Redis

from adapters.live import LiveStreams, user_stream
from api.tickets import Tickets
from api.tokens import Caller
from bench.load import Connection, Latencies, request
from domain.roles import UserRole

IDLE = 2000
"""Streams that are open at once."""
_AT_ONCE = 50
"""Streams that are opened at the same time."""
_HOUR = 3600
_READY, _ENDED = b"event: ready", b"event: end"
_POLL_SECONDS = 0.005


def allow_many_files() -> None:
    """Raise the limit of open files to the highest that is allowed: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def issue_tickets(valkey: Redis, count: int) -> list[str]:
    """Tickets of as many users, who have no accounts: a stream needs none."""
    tickets, live, expires = Tickets(valkey), LiveStreams(valkey), int(time.time()) + _HOUR

    async def one() -> str:
        caller = Caller(uuid4(), "hyderabad", UserRole.USER, uuid4(), expires=expires)
        backlog = await live.open({user_stream(caller.tenant_id, caller.user_id): None})
        return (await tickets.issue(caller, backlog.last))[0]

    return [await one() for _ in range(count)]


async def memory_of_idle(url: str, paths: Callable[[int], AsyncIterator[str]], pid: int) -> float:
    """Kilobytes of a process for each of `IDLE` open streams."""
    before = _resident(pid)
    writers = []
    opening = asyncio.Semaphore(_AT_ONCE)

    async def opened(path: str) -> None:
        async with opening:
            reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
            writer.write(request("GET", path, {}))
            answer = await reader.readuntil(_READY)
            if b" 200 " not in answer[:20]:
                raise SystemExit(f"a stream answered {answer!r}")
            writers.append(writer)

    try:
        await asyncio.gather(*[asyncio.create_task(opened(path)) async for path in paths(IDLE)])
        return (_resident(pid) - before) / IDLE
    finally:
        for writer in writers:
            writer.close()


def _resident(pid: int) -> float:
    """Kilobytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0])


@asynccontextmanager
async def watching(url: str, token: str) -> AsyncIterator[dict[str, float]]:
    """An open stream; yields the times at which it has shown the history entries of listings, by their ids."""
    reader, writer = await _opened(url, token)
    shown: dict[str, float] = {}

    async def read() -> None:
        is_history = False
        async for line in reader:
            if line.startswith(b"event: "):
                is_history = line == b"event: history\n"
            elif is_history and line.startswith(b"data: "):
                entry = orjson.loads(line[len(b"data: ") :])
                shown.setdefault(entry["activityData"].get("propertyId", ""), time.perf_counter())

    reading = asyncio.create_task(read())
    try:
        yield shown
    finally:
        reading.cancel()
        writer.close()


async def signed_out(url: str, sessions: Sequence[tuple[str, str]]) -> tuple[Latencies, Latencies]:
    """For each session, by its access and refresh token, one after the other: from the answer to its sign-out until its
    stream has ended, and until its access token is refused.
    """
    ended, refused = [], []
    for access, refresh in sessions:
        reader, writer = await _opened(url, access)
        body = orjson.dumps({"refreshToken": refresh})
        status, _, answer = await Connection(url).send(request("POST", "/api/auth/logout", {}, body))
        if status != 204:
            raise SystemExit(f"a sign-out answered {status}: {answer!r}")
        began = time.perf_counter()
        at = await asyncio.gather(_end_of(reader), _refusal(url, access))
        writer.close()
        ended.append(at[0] - began)
        refused.append(at[1] - began)
    return Latencies(sorted(ended)), Latencies(sorted(refused))


async def _opened(url: str, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that is ready."""
    headers = {"Authorization": f"Bearer {token}"}
    _, _, body = await Connection(url).send(request("POST", "/api/stream/tickets", headers))
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port, limit=1_000_000)
    writer.write(request("GET", f"/api/stream?ticket={orjson.loads(body)['ticket']}", {}))
    await reader.readuntil(_READY)
    return reader, writer


async def _end_of(stream: asyncio.StreamReader) -> float:
    await stream.readuntil(_ENDED)
    return time.perf_counter()


async def _refusal(url: str, token: str) -> float:
    connection = Connection(url)
    sent = request("GET", "/api/users/profile", {"Authorization": f"Bearer {token}"})
    while (await connection.send(sent))[0] != 401:
        await asyncio.sleep(_POLL_SECONDS)
    connection.close()
    return time.perf_counter()
