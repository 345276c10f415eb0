"""Ending tasks of asyncio, and letting them end."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_AGAIN_SECONDS = 0.5


async def cancel(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and return when all have ended, whatever they raise.

    Again and again, because asyncio.wait_for of Python 3.11, with which redis-py sends commands, loses a cancellation
    that comes when the command has just been sent (https://github.com/python/cpython/issues/86296): a loop would go on.
    """
    ending = set(tasks)
    while ending:
        for task in ending:
            task.cancel()
        _, ending = await asyncio.wait(ending, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)  # so that asyncio reports no error that nobody has read


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which also ends when the caller is cancelled.

    For what holds a lock during calls that are made in threads: those go on, and would do so after its release.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
