"""The activities that start the workflows of images and documents again, where they were lost with Temporal."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from temporalio.client import Client

from adapters import lost_files, temporal
from adapters.postgres import Database
from adapters.sealing import Keyring
from domain.command import Command

_LOST_AFTER = timedelta(minutes=5)
"""Longer than a file usually takes, with others before it. Starting a workflow that runs does nothing."""
_LIMIT = 500
"""Commands of a page, and about the most that one run starts: reconcile runs again after a minute."""

_FindPage = Callable[[AsyncConnection, datetime, int, UUID | None], Awaitable[Sequence[Command]]]


class OverdueFiles:
    """Finds images and documents that are being processed for long."""

    def __init__(self, database: Database, keyring: Keyring, client: Client, queue: str) -> None:
        self._database = database
        self._keyring = keyring
        self._client = client
        self._queue = queue

    @activity.defn
    async def start_overdue_images(self) -> int:
        """Start the workflows of commands whose images should be ready; returns how many were lost.

        Raises DatabaseUnavailable or RPCError.
        """
        return await self._start(lost_files.adding_images)

    @activity.defn
    async def start_overdue_documents(self) -> int:
        """Start the workflows of commands whose documents should be checked, as `start_overdue_images`."""
        return await self._start(lost_files.adding_documents)

    async def _start(self, find: _FindPage) -> int:
        """It looks beyond those that run already, because the object storage or their worker is unavailable."""
        before, started, last = datetime.now(UTC) - _LOST_AFTER, 0, None
        while started < _LIMIT:
            async with self._database.statements() as connection:
                pending = await find(connection, before, _LIMIT, last)
            for command in pending:
                activity.heartbeat(started)
                started += await temporal.start_in_clear(self._client, command, self._queue, self._keyring)
                last = command.command_id
            if len(pending) < _LIMIT:
                break
        return started
