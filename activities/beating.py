"""Heartbeats of activities whose steps take longer than the time after which their worker counts as lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio import activity

from adapters import tasks

_SECONDS = 3.0
"""Between two heartbeats, which are answered with a cancellation, if there is one."""


@asynccontextmanager
async def heartbeats(first: str, *of: str) -> AsyncIterator[Callable[[str], None]]:
    """Sends what the activity does, beginning with `first`, every few seconds, after `of`, which says to what.

    Yields how to tell the next step.
    """
    doing = first

    async def beat() -> None:
        while True:
            activity.heartbeat(*of, doing)
            await asyncio.sleep(_SECONDS)

    def step(name: str) -> None:
        nonlocal doing
        doing = name
        activity.heartbeat(*of, doing)

    beating = asyncio.create_task(beat())
    try:
        yield step
    finally:
        await tasks.cancel([beating])
