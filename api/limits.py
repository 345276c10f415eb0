"""Rate limits, counted in Redis: a minute begins with the first of what it counts."""

from redis.asyncio import Redis

from adapters.redis import RedisError, Rest
from api.errors import ApiError, away

_WINDOW_SECONDS = 60


class Limits:
    """Counts what one party does. Without Redis, doors that guard a password stay shut; the others stay open."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._rest = Rest()

    async def count(self, tenant_id: str, what: str, who: str, most: int, *, fail_closed: bool = False) -> None:
        """Raises ApiError too-many-requests past `most` a minute; with `fail_closed`, unavailable without Redis."""
        key = f"{tenant_id}:limit:{what}:{who}"
        if self._rest and not fail_closed:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.incr(key)
                pipe.expire(key, _WINDOW_SECONDS, nx=True)
                pipe.ttl(key)
                used, _, left = await pipe.execute()
        except RedisError as error:
            self._rest.begin()
            if fail_closed:
                raise away("The guard of the passwords") from error
            return
        if used > most:
            raise ApiError("too-many-requests", f"At most {most} a minute.", headers={"Retry-After": str(max(1, left))})
