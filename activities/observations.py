"""The activity that saves batches of observations."""

from collections.abc import Callable, Sequence

from temporalio import activity

from adapters import event_store, outbox
from adapters.outbox import PendingEvent
from adapters.postgres import Database
from domain.events import observation_events
from domain.notifications import notices_of
from domain.observations import RecordActivity, RecordedActivity


class Observations:
    """Saves batches of observations, and the notices that they cause."""

    def __init__(self, database: Database, enqueued: Callable[[Sequence[PendingEvent]], None]) -> None:
        """`enqueued` is called with the events of a batch that have notices, after it is saved."""
        self._database = database
        self._enqueued = enqueued

    @activity.defn
    async def save_observations(self, batch: RecordActivity) -> RecordedActivity:
        """Store the events of a batch whose ids are not stored yet. Idempotent. Raises DatabaseUnavailable."""
        events = observation_events(batch)
        notices = [notice for event in events for notice in notices_of(event)]
        # One statement needs no transaction.
        async with (self._database.transaction if notices else self._database.statements)(batch.tenant_id) as tx:
            await event_store.store_observations(tx, events)
            await outbox.store_notices(tx, batch.tenant_id, batch.command_id, notices)
        self._enqueued([PendingEvent(batch.tenant_id, notice.event_id, batch.command_id) for notice in notices])
        return RecordedActivity(tenant_id=batch.tenant_id, command_id=batch.command_id)
