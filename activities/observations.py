"""Saves observations, a batch at a time."""

from temporalio import activity

from adapters import event_store
from adapters.postgres import Database
from domain.events import observed
from domain.observations import RecordActivity, RecordedActivity


class Observations:
    """Saves the observations of one tenant; may be called twice with the same ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn
    async def save_observations(self, batch: RecordActivity) -> RecordedActivity:
        """Store the events of a batch; one whose id is stored already stays as it is. Raises DatabaseUnavailable."""
        async with self._database.statements(batch.tenant_id) as connection:
            await event_store.store_observations(connection, observed(batch))
        return RecordedActivity(tenant_id=batch.tenant_id, command_id=batch.command_id)
