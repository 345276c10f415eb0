"""The inbox: notified and read in any order, erased for good, and shown as read before the projection has it."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.tables import notifications, read_until
from domain.events import KINDS, Event
from domain.model import Fact
from domain.observations import NotificationsRead, UserNotified
from domain.user_events import UserDeleted
from projections.generations import claim_generation, generation_of
from projections.inbox import MAX_UNREAD, Inbox
from projections.notifications import Notifications
from projections.rebuild import rebuild
from tests.platform import until
from tests.projections.messages import someone_waits_for_a_lock, store
from tests.samples import new_id, new_tenant

START = datetime(2026, 11, 30, 6, 30, tzinfo=UTC)


def event(tenant: str, fact: Fact, minutes: int = 0, event_id: UUID | None = None) -> Event:
    [kind] = [kind for kind in KINDS.values() if kind.model is type(fact)]
    user: UUID = fact.user_id  # type: ignore[attr-defined]
    return Event(
        event_id=event_id or new_id(),
        aggregate_id=user,
        user_id=user,
        tenant_id=tenant,
        event_type=kind.name,
        timestamp=START + timedelta(minutes=minutes),
        version=1 if isinstance(fact, UserDeleted) else 0,
        schema_version=kind.schema_version,
        command_id=new_id(),
        data=fact,
    )


def notified(tenant: str, user: UUID, minutes: int = 0, **more: Any) -> Event:
    fact = UserNotified(
        user_id=user,
        kind="PRICE_DROPPED",
        about_event_id=new_id(),
        property_id=new_id(),
        values={"title": "A flat by the lake"},
        **more,
    )
    return event(tenant, fact, minutes)


def read(tenant: str, user: UUID, notification: Event, minutes: int = 60) -> Event:
    return event(tenant, NotificationsRead(user_id=user, notification_id=notification.event_id), minutes)


def read_all(tenant: str, user: UUID, up_to: Event, minutes: int = 60) -> Event:
    return event(tenant, NotificationsRead(user_id=user, up_to=up_to.timestamp), minutes)


async def project(all_tenants: Database, *events: Event) -> None:
    async with all_tenants.transaction() as tx:
        await Notifications().apply(tx, events, await generation_of(tx, Notifications.name))


async def rows(all_tenants: Database, tenant: str, generation: int) -> list[Sequence[Any]]:
    found: list[Sequence[Any]] = []
    async with all_tenants.transaction() as tx:
        for table in (notifications, read_until):
            columns = [column for column in table.c if column.name != "generation"]
            query = select(*columns).where(table.c.tenant_id == tenant, table.c.generation == generation)
            found.append(sorted(map(repr, map(tuple, await tx.execute(query)))))
    return found


@pytest.fixture
def inbox(database: Database) -> Inbox:
    return Inbox(database, wait_seconds=0)


async def shown(inbox: Inbox, tenant: str, user: UUID, **how: Any) -> list[tuple[UUID, bool]]:
    page = await inbox.page(tenant, user, how.pop("limit", 100), **how)
    return [(item.id, item.is_read) for item in page.items]


async def test_notifications_are_shown_newest_first_with_what_was_read(
    all_tenants: Database, inbox: Inbox, tenant: str
) -> None:
    user = new_id()
    first, second, third = [notified(tenant, user, minutes) for minutes in range(3)]
    await project(all_tenants, first, second, third, read(tenant, user, second))

    page = await inbox.page(tenant, user, 100)

    assert [(item.id, item.is_read) for item in page.items] == [
        (third.event_id, False),
        (second.event_id, True),
        (first.event_id, False),
    ]
    assert (page.next, page.unread) == (None, 2)
    assert (page.items[0].kind, page.items[0].values) == ("PRICE_DROPPED", {"title": "A flat by the lake"})
    assert (page.items[0].property_id, page.items[0].created_at) == (third.data.property_id, third.timestamp)
    assert await shown(inbox, tenant, user, unread=True) == [(third.event_id, False), (first.event_id, False)]
    assert await shown(inbox, tenant, user, unread=False) == [(second.event_id, True)]


async def test_reading_all_leaves_what_came_later_unread(all_tenants: Database, inbox: Inbox, tenant: str) -> None:
    user = new_id()
    first, second, third = [notified(tenant, user, minutes) for minutes in range(3)]

    await project(all_tenants, third, read_all(tenant, user, second), second, read_all(tenant, user, first), first)

    assert await shown(inbox, tenant, user) == [
        (third.event_id, False),
        (second.event_id, True),
        (first.event_id, True),
    ]
    assert (await inbox.page(tenant, user, 1)).unread == 1


@pytest.mark.parametrize("seed", range(20))
async def test_any_order_repeated_and_in_batches_ends_with_the_same_rows(
    all_tenants: Database, tenant: str, seed: int
) -> None:
    kept, erased, chance = new_id(), new_id(), random.Random(seed)
    events: list[Event] = []
    for user in (kept, erased):
        of_user = [notified(tenant, user, minutes) for minutes in range(4)]
        events += [*of_user, read(tenant, user, of_user[0], 50), read(tenant, user, of_user[0], 40)]
        events += [read_all(tenant, user, of_user[1]), read_all(tenant, user, of_user[2])]
    events.append(event(tenant, UserDeleted(user_id=erased), 70))
    right = []
    for shuffled in (events, chance.sample(events * 2, k=len(events) * 2)):
        async with all_tenants.transaction() as tx:
            generation = await claim_generation(tx, Notifications.name)
        while shuffled:
            size = chance.randint(1, len(shuffled))
            async with all_tenants.transaction() as tx:
                await Notifications().apply(tx, shuffled[:size], generation)
            shuffled = shuffled[size:]
        right.append(await rows(all_tenants, tenant, generation))

    assert right[0] == right[1]
    assert [len(table) for table in right[0]] == [4, 2]
    assert not [row for row in right[0][0] if str(erased) in row]


async def test_erased_user_has_no_inbox_and_gets_none(all_tenants: Database, inbox: Inbox, tenant: str) -> None:
    erased, other = new_id(), new_id()
    early, late, of_other = [notified(tenant, user) for user in (erased, erased, other)]
    await project(all_tenants, early, of_other, read(tenant, erased, late))
    gone = event(tenant, UserDeleted(user_id=erased))

    for _ in range(2):
        await project(all_tenants, gone)
        await project(all_tenants, late)

    assert await shown(inbox, tenant, erased) == []
    assert await shown(inbox, tenant, other) == [(of_other.event_id, False)]
    async with all_tenants.transaction() as tx:
        query = select(notifications.c.notification_id).where(notifications.c.user_id == erased)
        assert (await tx.execute(query)).all() == []


async def test_erasing_waits_for_rows_that_are_being_inserted(all_tenants: Database, inbox: Inbox, tenant: str) -> None:
    erased = new_id()
    async with all_tenants.transaction() as tx:
        await Notifications().apply(tx, [notified(tenant, erased)], await generation_of(tx, Notifications.name))
        erasing = asyncio.create_task(project(all_tenants, event(tenant, UserDeleted(user_id=erased))))
        await until(lambda: someone_waits_for_a_lock(all_tenants))
    await erasing

    assert await shown(inbox, tenant, erased) == []


async def test_pages_have_every_notification_once_also_at_one_time(
    all_tenants: Database, inbox: Inbox, tenant: str
) -> None:
    user = new_id()
    events = [notified(tenant, user, n // 3) for n in range(10)]
    await project(all_tenants, *events)

    found: list[UUID] = []
    cursor: Cursor | None = None
    while True:
        page = await inbox.page(tenant, user, 3, cursor)
        found += [item.id for item in page.items]
        if (cursor := page.next) is None:
            break

    newest_first = sorted(events, key=lambda one: (one.timestamp, one.event_id.int), reverse=True)
    assert found == [one.event_id for one in newest_first]


async def test_count_of_unread_is_bounded(all_tenants: Database, inbox: Inbox, tenant: str) -> None:
    user = new_id()
    await project(all_tenants, *(notified(tenant, user, n) for n in range(MAX_UNREAD + 5)))

    assert (await inbox.page(tenant, user, 1)).unread == MAX_UNREAD


async def test_inbox_belongs_to_one_user_of_one_tenant(all_tenants: Database, inbox: Inbox, tenant: str) -> None:
    user, other = new_id(), new_tenant()
    mine = notified(tenant, user)
    await project(all_tenants, mine)

    assert await shown(inbox, tenant, user) == [(mine.event_id, False)]
    for somebody in ((other, user), (tenant, new_id())):
        assert await shown(inbox, *somebody) == []
        assert await inbox.find(*somebody, mine.event_id) is None
        assert await inbox.newest(*somebody) is None
        assert not await inbox.has_unread(*somebody, mine.timestamp)


async def test_page_shows_what_was_read_before_the_projection_has_it(
    all_tenants: Database, database: Database, inbox: Inbox, tenant: str
) -> None:
    user = new_id()
    first, second, third, fourth = [notified(tenant, user, minutes) for minutes in range(4)]
    await project(all_tenants, first, second, third, fourth)
    one, all_of_two = read(tenant, user, third, 61), read_all(tenant, user, second, 62)
    await store(database, tenant, [one, all_of_two])

    page = await inbox.page(tenant, user, 100, must_contain=all_of_two.event_id)
    late = await shown(inbox, tenant, user)
    await project(all_tenants, one, all_of_two)

    after = [(fourth.event_id, False), (third.event_id, True), (second.event_id, True), (first.event_id, True)]
    assert [(item.id, item.is_read) for item in page.items] == after
    assert page.unread == 1
    assert {is_read for _, is_read in late} == {False}
    for applied in (one, all_of_two):
        assert await shown(inbox, tenant, user, must_contain=applied.event_id) == after


async def test_page_does_not_wait_for_events_that_read_nothing(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    user = new_id()
    mine = notified(tenant, user)
    await project(all_tenants, mine)
    await store(database, tenant, [mine])
    patient = Inbox(database, wait_seconds=3600)

    for event_id in (new_id(), mine.event_id):
        assert await shown(patient, tenant, user, must_contain=event_id) == [(mine.event_id, False)]


async def test_rebuild_restores_the_inbox(all_tenants: Database, database: Database, inbox: Inbox, tenant: str) -> None:
    user, erased = new_id(), new_id()
    first, second = notified(tenant, user), notified(tenant, user, 1)
    gone = [notified(tenant, erased), event(tenant, UserDeleted(user_id=erased))]
    events = [first, second, read(tenant, user, first), *gone]
    await store(database, tenant, events)
    await project(all_tenants, *events)
    before = await shown(inbox, tenant, user)

    await rebuild(all_tenants, Notifications(), lambda _: None)

    assert before == [(second.event_id, False), (first.event_id, True)]
    assert await shown(inbox, tenant, user) == before
    assert await shown(inbox, tenant, erased) == []
