"""Automatic pipelining, on a real Valkey."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from adapters import redis
from adapters.redis import AutoPipeline, RedisError
from adapters.settings import Settings


async def test_concurrent_commands_share_a_round_trip_and_get_their_own_replies(valkey: Redis, tenant: str) -> None:
    pipeline = AutoPipeline(valkey)
    before = (await valkey.info("stats"))["total_reads_processed"]

    answers = await asyncio.gather(*(pipeline.execute("ECHO", f"{tenant}-{n}") for n in range(50)))

    reads = (await valkey.info("stats"))["total_reads_processed"] - before
    assert answers == [f"{tenant}-{n}".encode() for n in range(50)]
    assert reads < 10  # one for the fifty, and those of INFO


async def test_command_that_fails_fails_alone(valkey: Redis, tenant: str) -> None:
    await valkey.set(tenant, "a text", ex=60)
    pipeline = AutoPipeline(valkey)

    asked = (pipeline.execute("ZRANGE", tenant, 0, -1), pipeline.execute("GET", tenant))
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert isinstance(answers[0], ResponseError)
    assert answers[1] == b"a text"


async def test_cancelled_caller_does_not_affect_the_others(valkey: Redis, tenant: str) -> None:
    pipeline = AutoPipeline(valkey)
    impatient = asyncio.create_task(pipeline.execute("ECHO", "nobody hears"))
    patient = asyncio.create_task(pipeline.execute("ECHO", tenant))
    await asyncio.sleep(0)

    impatient.cancel()

    assert await patient == tenant.encode()
    assert impatient.cancelled()


async def test_unavailable_server_fails_every_command_of_the_batch(settings: Settings) -> None:
    client = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    pipeline = AutoPipeline(client)

    answers = await asyncio.gather(*(pipeline.execute("ECHO", n) for n in range(3)), return_exceptions=True)

    assert all(isinstance(answer, RedisError) for answer in answers)
    with pytest.raises(RedisError):
        await pipeline.execute("ECHO", "again")
    await client.aclose()
