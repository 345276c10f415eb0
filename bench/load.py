"""Load generation: a minimal HTTP/1.1 client, and loops that measure latency and throughput."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Latencies:
    """Seconds of each call, sorted."""

    sorted: list[float]

    def ms(self, percent: float) -> float:
        return self.sorted[min(len(self.sorted) - 1, int(len(self.sorted) * percent / 100))] * 1000


class Connection:
    """One keep-alive connection. Responses must have a Content-Length or be 204, as those of our servers do."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a request; returns status, head and body of the response."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if status == 204:
            return status, head, b""
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        return status, head, await reader.readexactly(length)

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request as bytes, built once and sent many times."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def sequential(work: Work, count: int, pause: float = 0.0) -> Latencies:
    """The latency of `count` calls, one after the other, with a pause of so many seconds between them."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
        await asyncio.sleep(pause)
    return Latencies(sorted(times))


async def concurrent(make: Callable[[], Work], at_once: int, seconds: float) -> float:
    """Calls per second of `at_once` concurrent loops, after a warm-up of a fifth of `seconds`."""
    done = 0
    counting_from, ends = time.perf_counter() + seconds / 5, time.perf_counter() + seconds * 6 / 5

    async def loop() -> None:
        nonlocal done
        work = make()
        while (now := time.perf_counter()) < ends:
            await work()
            done += now >= counting_from

    await asyncio.gather(*(loop() for _ in range(at_once)))
    return done / seconds


async def interleaved(*measurements: Callable[[], Awaitable[float]]) -> list[float]:
    """Medians of three interleaved rounds, so that other load on the machine affects every measurement alike."""
    rounds = [[await measure() for measure in measurements] for _ in range(3)]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]
