"""Redis: a client with short timeouts (every value in Redis is a copy), automatic pipelining and a circuit breaker."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from adapters.settings import Settings

__all__ = ["CircuitBreaker", "RedisError", "connect", "connect_blocking"]


def connect(settings: Settings) -> Redis:
    """A client whose commands answer or fail within 0.25 s; callers then fall back to Postgres."""
    return Redis.from_url(
        settings.redis_url,
        socket_timeout=0.25,
        socket_connect_timeout=0.25,
        retry=Retry(NoBackoff(), 1),  # one retry, for a pooled connection that the server has closed
        max_connections=100,
        health_check_interval=0,
    )


def connect_blocking(settings: Settings, seconds: float) -> Redis:
    """A client with one connection, for one reader whose reads block for up to `seconds`."""
    return Redis.from_url(
        settings.redis_url,
        socket_timeout=seconds + 1,  # a server that is silent for longer is gone
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),  # its reader tries again
        max_connections=1,
        health_check_interval=0,
    )


_Queued = tuple[tuple[str | int, ...], dict[str, Any], asyncio.Future[Any]]


class AutoPipeline:
    """Automatic pipelining: commands that are issued in the same event loop iteration share one round trip."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue: list[_Queued] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def execute(self, *command: str | int, **options: Any) -> Any:
        """Execute a command that does not block; `options` go to its response parser. Raises RedisError."""
        loop = asyncio.get_running_loop()
        if not self._queue:
            loop.call_soon(self._flush)
        answer: asyncio.Future[Any] = loop.create_future()
        self._queue.append((command, options, answer))
        return await answer

    def _flush(self) -> None:
        batch, self._queue = self._queue, []
        task = asyncio.create_task(self._send(batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, batch: list[_Queued]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for command, options, _ in batch:
            pipe.execute_command(*command, **options)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except Exception as error:
            # Any error fails every command of the batch; otherwise their callers would wait for ever.
            answers = [error] * len(batch)
        for (*_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue  # its caller was cancelled
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class CircuitBreaker:
    """Open for `seconds` after a failure: callers skip Redis, so that not every request waits for a timeout."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._open_until

    def trip(self) -> None:
        self._open_until = time.monotonic() + self._seconds
