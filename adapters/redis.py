"""Redis: one client for commands, impatient because nothing in Redis is the only copy of anything."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from adapters.settings import Settings

__all__ = ["RedisError", "Rest", "connect"]


def connect(settings: Settings) -> Redis:
    """A client that answers or fails within a quarter of a second; Postgres is there for the rest."""
    return Redis.from_url(
        settings.redis_url,
        socket_timeout=0.25,
        socket_connect_timeout=0.25,
        retry=Retry(NoBackoff(), 1),  # once more, for a connection that had been closed meanwhile
        max_connections=100,
        health_check_interval=0,
    )


_Asked = tuple[tuple[str | int, ...], dict[str, Any], asyncio.Future[Any]]


class Together:
    """Sends the commands of one moment as one: requests that are served side by side share a round trip."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: list[_Asked] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def execute(self, *command: str | int, **options: Any) -> Any:
        """The answer to a command that does not block; `options` go to what parses it. Raises RedisError."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send_all)
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, options, answer))
        return await answer

    def _send_all(self) -> None:
        batch, self._waiting = self._waiting, []
        task = asyncio.create_task(self._send(batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, batch: list[_Asked]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for command, options, _ in batch:
            pipe.execute_command(*command, **options)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except Exception as error:
            # Whatever it is, everyone who waits must hear of it.
            answers = [error] * len(batch)
        for (*_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():
                continue  # who asked has gone
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)


class Rest:
    """Leaves Redis alone for a moment after a failure, so that not every request pays for finding it unavailable."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._until = 0.0

    def __bool__(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._until = time.monotonic() + self._seconds
