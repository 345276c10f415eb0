"""Overdue notices and deliveries: what no workflow takes care of is started again, and nothing else."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities.notices import DigestOf
from activities.outbox_relay import OutboxRelay
from activities.overdue_deliveries import OverdueDeliveries
from adapters.outbox import PendingEvent
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import deliveries, notices
from adapters.telemetry import DELIVERIES
from domain.property_commands import CreateProperty
from tests.activities.accounts import Saving
from tests.activities.pipeline import Pipeline
from tests.activities.test_deliveries import event_ids, listed


class Starts(OutboxRelay):
    """Records started workflows; a workflow id can be started once, as in Temporal."""

    def __init__(self) -> None:
        self.started: dict[str, list[PendingEvent]] = {}
        self.digests: list[DigestOf] = []

    async def start(self, pending: Sequence[PendingEvent], name: str) -> bool:
        if name in self.started:
            return False
        self.started[name] = list(pending)
        return True

    async def start_digest(self, of: DigestOf) -> bool:
        self.digests.append(of)
        return True

    def of(self, tenant: str) -> list[UUID]:
        return [one.event_id for group in self.started.values() for one in group if one.tenant_id == tenant]


@pytest.fixture
def pipeline(database: Database, settings: Settings, tenant: str) -> Pipeline:
    return Pipeline(database, settings, tenant)


async def aged(database: Database, command: CreateProperty, **columns: str) -> None:
    """Set times of a command's notices, or of its deliveries when there are any, to this long ago."""
    changed = {name: text(f"now() - interval '{age}'") for name, age in columns.items()}
    async with database.transaction(command.tenant_id) as tx:
        done = await tx.execute(
            deliveries.update().where(deliveries.c.command_id == command.command_id).values(changed)
        )
        if not done.rowcount:
            await tx.execute(notices.update().where(notices.c.command_id == command.command_id).values(changed))


async def test_lost_notices_and_deliveries_are_started_again_and_running_ones_are_not(
    database: Database, all_tenants: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    names = ("unexpanded", "new", "lost", "tried", "abandoned", "sent")
    commands = dict(
        zip(names, await listed(saving, tenant, *(f"{n}-{tenant}@example.com" for n in names)), strict=True)
    )
    for name in names[2:]:
        await pipeline.expand(*event_ids(commands[name]))
    await aged(database, commands["unexpanded"], enqueued_at="1 hour")
    await aged(database, commands["lost"], enqueued_at="1 hour")
    await aged(database, commands["tried"], enqueued_at="3 hours", claimed_until="30 minutes")
    await aged(database, commands["abandoned"], enqueued_at="3 hours", claimed_until="2 hours")
    await aged(database, commands["sent"], enqueued_at="3 hours", sent_at="2 hours")
    starts = Starts()
    overdue = OverdueDeliveries(all_tenants, starts, after_seconds=600)

    await ActivityEnvironment().run(overdue.start_overdue)

    expected = event_ids(commands["unexpanded"], commands["lost"], commands["abandoned"])
    assert sorted(starts.of(tenant)) == sorted(expected)


async def test_delivery_whose_workflow_was_wiped_is_started_again_within_minutes(
    database: Database, all_tenants: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    """One was tried for half a minute. The other was tried for half an hour, so its retry interval may be as long."""
    gone, pausing = await listed(saving, tenant, f"1-{tenant}@example.com", f"2-{tenant}@example.com")
    await pipeline.expand(*event_ids(gone, pausing))
    await aged(database, gone, enqueued_at="12 minutes", claimed_until="11 minutes 30 seconds")
    await aged(database, pausing, enqueued_at="40 minutes", claimed_until="11 minutes 30 seconds")
    starts = Starts()

    await ActivityEnvironment().run(OverdueDeliveries(all_tenants, starts, after_seconds=600).start_overdue)

    assert starts.of(tenant) == event_ids(gone)


async def test_mail_that_is_pending_for_four_days_is_given_up(
    database: Database, all_tenants: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")
    await pipeline.expand(*event_ids(command))
    await aged(database, command, enqueued_at="97 hours")
    starts = Starts()
    counted = DELIVERIES.labels("email", "given_up")
    before = counted._value.get()

    await ActivityEnvironment().run(OverdueDeliveries(all_tenants, starts, after_seconds=600).start_overdue)

    assert (await pipeline.outcomes(*event_ids(command)))["email"] == "given_up"
    assert counted._value.get() > before
    assert starts.of(tenant) == []


async def test_lost_digest_is_started_again_once_quiet_hours_are_over(
    database: Database, all_tenants: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    over, quiet = await listed(saving, tenant, f"1-{tenant}@example.com", f"2-{tenant}@example.com")
    await pipeline.expand(*event_ids(over, quiet))
    now = datetime.now(UTC)
    async with database.transaction(tenant) as tx:
        for command, until in ((over, now - timedelta(hours=1)), (quiet, now + timedelta(hours=1))):
            held = deliveries.update().where(deliveries.c.command_id == command.command_id).values(held_until=until)
            await tx.execute(held.where(deliveries.c.sent_at.is_(None)))
    starts = Starts()

    await ActivityEnvironment().run(OverdueDeliveries(all_tenants, starts, after_seconds=600).start_overdue)

    assert starts.of(tenant) == []
    held_of = DigestOf(tenant_id=tenant, user_id=over.user_id, until=now - timedelta(hours=1))
    assert [one for one in starts.digests if one.tenant_id == tenant] == [held_of]
