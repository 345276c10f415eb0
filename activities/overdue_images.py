"""The activity that starts again what makes pictures, where its workflow is lost."""

from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.client import Client

from adapters import lost_images, temporal
from adapters.postgres import Database
from adapters.sealing import Keyring

_LOST_AFTER = timedelta(minutes=5)
"""Longer than a picture usually takes, with others before it. Starting one that runs does nothing."""
_LIMIT = 500
"""Images of one run: reconcile runs again after a minute."""


class OverdueImages:
    """Finds images that are being processed for long."""

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
        started = 0
        async with self._database.statements() as connection:
            pending = await lost_images.processing_since(connection, datetime.now(UTC) - _LOST_AFTER, _LIMIT)
        for command in pending:
            started += await temporal.start_in_clear(self._client, command, self._queue, self._keyring)
            activity.heartbeat(started)
        return started
