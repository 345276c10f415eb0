"""Processes killed while views are recorded: answered views are stored, and retried ones are counted once."""

import asyncio
import os
import signal

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from adapters.postgres import Database
from adapters.tables import event_store
from tests.platform import Platform, until


async def _viewed(platform: Platform, listing: str, browser: str) -> bool:
    """Whether a view was answered 204; False when the process died or is unavailable."""
    try:
        # A new connection for each request: a pooled one may be to a dead process.
        async with httpx.AsyncClient(base_url=platform.url, timeout=30, trust_env=False) as http:
            answer = await http.post(f"/api/properties/{listing}/views", headers={"User-Agent": browser})
    except httpx.TransportError:
        return False
    assert answer.status_code in {204, 503}, answer.text
    return answer.status_code == 204


async def _stored(database: Database, listing: str) -> int:
    query = select(event_store.c.event_id).where(
        event_store.c.aggregate_id == listing, event_store.c.event_type == "PROPERTY_VIEWED"
    )
    async with database.transaction() as tx:
        return len(list(await tx.execute(query)))


async def _until_viewed(platform: Platform, listing: str, browser: str) -> None:
    await until(lambda: _viewed(platform, listing, browser), seconds=60)


@pytest.mark.temporal
async def test_api_killed_before_a_view_is_saved_gives_no_answer_and_a_repetition_is_counted_once(
    platform: Platform, all_tenants: Database
) -> None:
    """The worker is suspended, so that the views are pending when the API dies."""
    owner = await platform.register()
    listing = (await platform.create(owner)).json()["id"]
    api, worker = platform.stack.processes["api"].pid, platform.stack.processes["worker"].pid
    assert api
    assert worker
    browsers = [f"browser {n}" for n in range(10)]
    os.kill(worker, signal.SIGSTOP)
    try:
        viewing = [asyncio.create_task(_viewed(platform, listing, browser)) for browser in browsers]
        # They are pending once Redis has an event id of each.
        await until(lambda: _pending(platform, listing, len(browsers)))
        os.kill(api, signal.SIGKILL)
        answered = await asyncio.gather(*viewing)
    finally:
        os.kill(worker, signal.SIGCONT)

    await asyncio.gather(*(_until_viewed(platform, listing, browser) for browser in browsers))

    assert answered == [False] * len(browsers)
    assert await _stored(all_tenants, listing) == len(browsers)


async def _pending(platform: Platform, listing: str, count: int) -> bool:
    async with Redis.from_url(platform.stack.env["REDIS_URL"]) as client:
        return len([key async for key in client.scan_iter(f"*:viewed:{listing}:*")]) == count


@pytest.mark.parametrize("victim", ["api", "worker", "redis", pytest.param("temporal", marks=pytest.mark.temporal)])
async def test_process_killed_under_load_loses_no_answered_view(
    platform: Platform, all_tenants: Database, victim: str
) -> None:
    owner = await platform.register()
    listing = (await platform.create(owner)).json()["id"]
    process = platform.stack.processes[victim]
    pid = process.pid
    assert pid
    answered: set[str] = set()
    stop = asyncio.Event()

    async def load(name: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            if await _viewed(platform, listing, f"{name} {n}"):
                answered.add(f"{name} {n}")

    async def more_than(count: int) -> bool:
        return len(answered) > count

    async def is_another() -> bool:
        return process.pid not in {None, pid}

    loads = [asyncio.create_task(load(name)) for name in range(5)]
    try:
        await until(lambda: more_than(20))
        os.kill(pid, signal.SIGKILL)
        await until(is_another)
        after = len(answered)
        await until(lambda: more_than(after + 20), seconds=60)
    finally:
        stop.set()
        await asyncio.gather(*loads)

    # Views whose answer was lost on its way may be stored as well.
    assert await _stored(all_tenants, listing) >= len(answered)
