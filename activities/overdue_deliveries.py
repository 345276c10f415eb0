"""The activity that finds notices and deliveries that no workflow takes care of."""

from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.notices import DigestOf
from activities.outbox_relay import OutboxRelay, group_by_tenant
from adapters import outbox
from adapters.outbox import GIVEN_UP
from adapters.postgres import Database
from adapters.telemetry import DELIVERIES

_GIVEN_UP_AFTER = timedelta(days=4)
"""The `schedule_to_close_timeout` of the activity that sends."""
_LOST_AFTER = timedelta(hours=1)
"""Twice the longest retry interval: the workflow of a delivery without an attempt for so long is lost."""
_LIMIT = 5000
"""Events of one run: a hundred workflows. Reconcile runs again after a minute."""


class OverdueDeliveries:
    """Starts workflows again: the relay died before it started one, or Temporal was wiped."""

    def __init__(self, database: Database, relay: OutboxRelay, after_seconds: float) -> None:
        self._database = database
        self._relay = relay
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def start_overdue(self) -> int:
        """Give up deliveries that are too old, and start workflows for what is overdue; returns how many events."""
        now = datetime.now(UTC)
        async with self._database.statements() as connection:
            reason = f"not delivered within {_GIVEN_UP_AFTER.days} days"
            for channel in await outbox.give_up(connection, now - _GIVEN_UP_AFTER, reason):
                DELIVERIES.labels(channel, GIVEN_UP).inc()
            found = await outbox.overdue(connection, now, self._after, _LOST_AFTER, _LIMIT)
            held = await outbox.overdue_held(connection, now, self._after, _LIMIT)
        started = 0
        for group in group_by_tenant(found):
            # An earlier run's workflow may still retry some of these deliveries: this one takes up the others.
            if await self._relay.start(group, f"overdue/{group[0].event_id}/{int(now.timestamp())}"):
                started += len(group)
            activity.heartbeat(started)
        for one in held:
            digest = DigestOf(tenant_id=one.tenant_id, user_id=one.user_id, until=one.until)
            started += await self._relay.start_digest(digest)
            activity.heartbeat(started)
        return started
