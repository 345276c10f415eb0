"""Redis: one client for commands, impatient because nothing in Redis is the only copy of anything."""

import time

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


class Rest:
    """Leaves Redis alone for a moment after a failure, so that not every request pays for finding it away."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._until = 0.0

    def __bool__(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._until = time.monotonic() + self._seconds
