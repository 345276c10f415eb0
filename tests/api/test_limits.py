"""How often one party may do something."""

import pytest
from redis.asyncio import Redis

from adapters import redis
from adapters.settings import Settings
from api.errors import ApiError
from api.limits import Limits


async def test_party_is_told_how_long_to_wait_and_others_are_not_held_up(valkey: Redis, tenant: str) -> None:
    limits = Limits(valkey)
    for _ in range(2):
        await limits.count(tenant, "login", "ravi", 2)

    with pytest.raises(ApiError) as refused:
        await limits.count(tenant, "login", "ravi", 2)

    assert refused.value.kind == "too-many-requests"
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    await limits.count(tenant, "login", "sita", 2)
    await limits.count(tenant, "register", "ravi", 2)


async def test_minute_begins_with_the_first_and_is_not_drawn_out_by_the_next(valkey: Redis, tenant: str) -> None:
    limits = Limits(valkey)
    await limits.count(tenant, "login", "ravi", 1)
    [key] = [key async for key in valkey.scan_iter(match=f"{tenant}:limit:*")]
    await valkey.pexpire(key, 30_000)  # half a minute has passed
    with pytest.raises(ApiError):
        await limits.count(tenant, "login", "ravi", 1)

    assert await valkey.pttl(key) <= 30_000
    await valkey.pexpire(key, 0)  # and the other half
    await limits.count(tenant, "login", "ravi", 1)


async def test_without_redis_only_the_doors_that_guard_a_password_are_shut(settings: Settings, tenant: str) -> None:
    away = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    limits = Limits(away)

    await limits.count(tenant, "create", "ravi", 1)
    with pytest.raises(ApiError) as refused:
        await limits.count(tenant, "login", "ravi", 1, fail_closed=True)

    assert refused.value.kind == "unavailable"
    await away.aclose()
