"""The activity that saves batches of observations."""

from temporalio import activity

from adapters import event_store
from adapters.postgres import Database
from domain.events import observation_events
from domain.observations import RecordActivity, RecordedActivity


class Observations:
    """Saves batches of observations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn
    async def save_observations(self, batch: RecordActivity) -> RecordedActivity:
        """Store the events of a batch whose ids are not stored yet. Idempotent. Raises DatabaseUnavailable."""
        async with self._database.statements(batch.tenant_id) as connection:
            await event_store.store_observations(connection, observation_events(batch))
        return RecordedActivity(tenant_id=batch.tenant_id, command_id=batch.command_id)
