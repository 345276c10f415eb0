"""Rate limits, counted in Redis: fixed windows, which begin with the first request."""

from redis.asyncio import Redis

from adapters.redis import AutoPipeline, CircuitBreaker, RedisError
from api.errors import ApiError, unavailable
from api.quotas import Quota, report

_MINUTE = 60
DAY = 86_400

_COUNT = """
local used = redis.call('INCRBY', KEYS[1], ARGV[2])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {used, redis.call('TTL', KEYS[1])}
"""


class Limits:
    """Counts requests. Without Redis, limits with `fail_closed` refuse every request; the others allow every one."""

    def __init__(self, redis: Redis) -> None:
        # A flood of requests must not use up the connections of the pool: these counters can close sign-in.
        self._pipeline = AutoPipeline(redis)
        self._breaker = CircuitBreaker()

    async def count(
        self,
        tenant_id: str,
        what: str,
        who: str,
        limit: int,
        *,
        weight: int = 1,
        seconds: int = _MINUTE,
        fail_closed: bool = False,
        unit: str = "requests",
    ) -> None:
        """Count a request of `who` as `weight` of `unit`, and report the quota `what` for the headers of the response.

        Raises ApiError too-many-requests above `limit` in `seconds`; with `fail_closed`, unavailable without Redis.
        """
        key = f"{tenant_id}:limit:{what}:{who}"
        if self._breaker.is_open and not fail_closed:
            return
        try:
            used, ttl = await self._pipeline.execute("EVAL", _COUNT, 1, key, seconds, weight)
        except RedisError as error:
            self._breaker.trip()
            if fail_closed:
                raise unavailable("The rate limiter") from error
            return
        left = max(1, ttl)
        report(Quota(what, limit, seconds, max(0, limit - used), left))
        if used > limit:
            window = {_MINUTE: "a minute", DAY: "a day"}.get(seconds, f"in {seconds // _MINUTE} minutes")
            detail = f"At most {limit} {unit} {window} are allowed. Send the request again after Retry-After seconds."
            raise ApiError("too-many-requests", detail, headers={"Retry-After": str(left)})
