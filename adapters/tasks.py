"""Ending tasks of asyncio."""

import asyncio
from collections.abc import Collection
from typing import Any

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
