"""The inbox over HTTP: pages, reading, what others may not see, and texts of other releases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from temporalio.client import Client

from activities.observations import Observations
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import event_store
from domain.observations import Notified, UserNotified
from domain.preferences import NoticeKind
from notices.render import samples, short, short_values
from projections.generations import generation_of
from projections.notifications import Notifications
from projections.projection import as_consumed
from tests.activities.accounts import Saving
from tests.api.test_contract import assert_problem
from tests.api.test_push import api, signed_in
from tests.platform import Person, Platform, until
from tests.projections.messages import stored_messages
from tests.samples import new_id, new_tenant, record_activity
from workflows import options
from workflows.record_activity import RecordActivityWorkflow

PATH = "/api/notifications"
LOWER = {"title": "A flat by the lake", "location": "Uppal", "price": 8_250_000, "previousPrice": 8_500_000}


def notified(
    user: UUID, kind: str = "PRICE_DROPPED", values: dict[str, Any] | None = None, minutes: int = 0
) -> Notified:
    fact = UserNotified(
        user_id=user,
        kind=kind,
        about_event_id=new_id(),
        property_id=new_id(),
        values=LOWER if values is None else values,
    )
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    return Notified(event_id=uuid4(), aggregate_id=user, user_id=user, timestamp=at, data=fact)


class Inbox:
    """An API of its own, which never waits for the projection; the test applies events when it needs them."""

    def __init__(self, client: httpx.AsyncClient, app: FastAPI, database: Database, all_tenants: Database) -> None:
        self.client, self.app = client, app
        self._observations, self._all_tenants = Observations(database, lambda _: None), all_tenants

    async def notify(self, tenant: str, *notices: Notified) -> None:
        await self._observations.save_observations(record_activity(tenant, *notices))
        await self.project(tenant)

    async def project(self, tenant: str) -> None:
        projection = Notifications()
        consumed = as_consumed(projection, await stored_messages(self._all_tenants, tenant), where="test").messages
        events = [projection.read(message.topic, message.value) for message in consumed]
        async with self._all_tenants.transaction() as tx:
            generation = await generation_of(tx, projection.name)
            await projection.apply(tx, [event for event in events if event], generation)

    async def page(self, headers: dict[str, str], **query: Any) -> dict[str, Any]:
        answer = await self.client.get(PATH, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page


@pytest.fixture
async def inbox(
    settings: Settings, platform: Platform, database: Database, all_tenants: Database
) -> AsyncIterator[Inbox]:
    """With the workers of the platform, which save what is read."""
    async with api(settings, consistency_wait_seconds=0) as (client, app):
        yield Inbox(client, app, database, all_tenants)


async def read(inbox: Inbox, headers: dict[str, str], notification_id: object) -> httpx.Response:
    return await inbox.client.post(f"{PATH}/{notification_id}/read", headers=headers)


async def read_all(inbox: Inbox, headers: dict[str, str], body: Any = None) -> httpx.Response:
    return await inbox.client.post(f"{PATH}/read-all", json=body, headers=headers)


async def test_notification_is_rendered_when_it_is_read(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    notice = notified(user)
    await inbox.notify(tenant, notice)

    page = await inbox.page(headers)

    assert page == {
        "items": [
            {
                "id": str(notice.event_id),
                "kind": "PRICE_DROPPED",
                "title": "A favourite costs ₹2.5 L less",
                "body": "A flat by the lake in Uppal: ₹82.5 L instead of ₹85 L",
                "propertyId": str(notice.data.property_id),
                "savedSearchId": None,
                "link": f"/api/properties/{notice.data.property_id}",
                "createdAt": notice.timestamp.isoformat().replace("+00:00", "Z"),
                "read": False,
            }
        ],
        "nextCursor": None,
        "unreadCount": 1,
    }


async def test_every_kind_of_notice_has_its_texts(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    wanted = {sample.kind: short_values(sample.kind, sample.values["event"]) for sample in samples()}
    await inbox.notify(tenant, *(notified(user, kind, values) for kind, values in wanted.items()))

    items = (await inbox.page(headers))["items"]

    assert {item["kind"]: (item["title"], item["body"]) for item in items} == {
        kind.value: (short(kind, values).title, short(kind, values).body) for kind, values in wanted.items()
    }
    assert wanted.keys() == set(NoticeKind)


async def test_notice_of_another_release_is_shown_without_its_texts(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    await inbox.notify(tenant, notified(user, "CASTLE_BUILT"), notified(user, values={"title": "A flat"}))

    page = await inbox.page(headers)

    assert {item["title"] for item in page["items"]} == {"New notification"}
    assert {item["kind"] for item in page["items"]} == {"CASTLE_BUILT", "PRICE_DROPPED"}
    assert page["unreadCount"] == 2


async def test_pages_are_newest_first_and_by_what_was_read(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    notices = [notified(user, minutes=n) for n in range(5)]
    ids = [str(notice.event_id) for notice in reversed(notices)]
    await inbox.notify(tenant, *notices)
    for id in (ids[1], ids[3]):
        assert (await read(inbox, headers, id)).status_code == 204
    await inbox.project(tenant)

    first = await inbox.page(headers, limit=3)
    second = await inbox.page(headers, limit=3, cursor=first["nextCursor"])
    unread, already_read = await inbox.page(headers, unread="true", limit=2), await inbox.page(headers, unread="false")

    assert [item["id"] for item in first["items"] + second["items"]] == ids
    assert (second["nextCursor"], first["unreadCount"], second["unreadCount"]) == (None, 3, 3)
    assert [item["id"] for item in unread["items"]] == [ids[0], ids[2]]
    assert [item["id"] for item in already_read["items"]] == [ids[1], ids[3]]
    last = await inbox.page(headers, unread="true", cursor=unread["nextCursor"])
    assert [item["id"] for item in last["items"]] == [ids[4]]
    mixed = await inbox.client.get(PATH, params={"cursor": unread["nextCursor"]}, headers=headers)
    assert_problem(mixed, "invalid-cursor")


async def test_what_was_read_is_seen_with_its_token_at_once(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    notices = [notified(user, minutes=n) for n in range(3)]
    await inbox.notify(tenant, *notices)

    one = await read(inbox, headers, notices[2].event_id)
    rest = await read_all(inbox, headers, {"newestId": str(notices[1].event_id)})
    pages = [
        await inbox.page({**headers, "Consistency-Token": answer.headers["Consistency-Token"]})
        for answer in (one, rest)
    ]

    assert [one.status_code, rest.status_code] == [204, 204]
    assert pages[0]["items"][0]["read"]  # the platform beside may have projected this one alone
    assert ([item["read"] for item in pages[1]["items"]], pages[1]["unreadCount"]) == ([True, True, True], 0)


async def test_reading_twice_is_one_event(inbox: Inbox, saving: Saving, database: Database, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    first, second = notified(user), notified(user, minutes=1)
    await inbox.notify(tenant, first, second)

    for _ in range(2):
        answers = await asyncio.gather(
            *(read(inbox, headers, first.event_id) for _ in range(3)), *(read_all(inbox, headers) for _ in range(3))
        )
        assert {answer.status_code for answer in answers} == {204}
        assert all(answer.headers["Consistency-Token"] for answer in answers)
        await inbox.project(tenant)

    query = select(func.count()).where(event_store.c.event_type == "NOTIFICATIONS_READ")
    async with database.statements(tenant) as connection:
        assert (await connection.execute(query)).scalar_one() == 2
    assert (await inbox.page(headers))["unreadCount"] == 0


async def test_reading_all_leaves_what_was_not_shown(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    shown, newer = notified(user), notified(user, minutes=1)
    assert (await read_all(inbox, headers)).status_code == 204
    await inbox.notify(tenant, shown, newer)

    answer = await read_all(inbox, headers, {"newestId": str(shown.event_id)})
    await inbox.project(tenant)

    assert answer.status_code == 204
    assert [item["read"] for item in (await inbox.page(headers))["items"]] == [False, True]


async def test_notifications_of_others_are_not_found(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    notice = notified(user)
    await inbox.notify(tenant, notice)
    strangers = [
        (await signed_in(inbox.app, saving, tenant))[1],
        (await signed_in(inbox.app, saving, new_tenant()))[1],
    ]

    for stranger in strangers:
        assert await inbox.page(stranger) == {"items": [], "nextCursor": None, "unreadCount": 0}
        assert_problem(await read(inbox, stranger, notice.event_id), "not-found")
        assert_problem(await read_all(inbox, stranger, {"newestId": str(notice.event_id)}), "not-found")
        assert (await read_all(inbox, stranger)).status_code == 204
    await inbox.project(tenant)
    assert (await inbox.page(headers))["unreadCount"] == 1
    assert_problem(await read(inbox, headers, uuid4()), "not-found")


async def test_token_and_cursor_of_another_user_are_worth_nothing(inbox: Inbox, saving: Saving, tenant: str) -> None:
    user, headers = await signed_in(inbox.app, saving, tenant)
    _, stranger = await signed_in(inbox.app, saving, tenant)
    notices = [notified(user), notified(user, minutes=1)]
    await inbox.notify(tenant, *notices)
    token = (await read(inbox, headers, notices[0].event_id)).headers["Consistency-Token"]
    cursor = (await inbox.page(headers, limit=1))["nextCursor"]

    assert (await inbox.page({**stranger, "Consistency-Token": token}))["items"] == []
    assert_problem(
        await inbox.client.get(PATH, headers={**headers, "Consistency-Token": f"{token}x"}),
        "invalid-consistency-token",
    )
    assert_problem(await inbox.client.get(PATH, params={"cursor": cursor}, headers=stranger), "invalid-cursor")


async def test_requests_that_are_not_valid_are_refused(inbox: Inbox, saving: Saving, tenant: str) -> None:
    _, headers = await signed_in(inbox.app, saving, tenant)

    for query, field in (({"limit": 101}, "query.limit"), ({"unread": "x"}, "query.unread"), ({"x": 1}, "query.x")):
        assert_problem(await inbox.client.get(PATH, params=query, headers=headers), "invalid-request", field)
    assert_problem(await read(inbox, headers, "castle"), "invalid-request", "path.notification_id")
    assert_problem(await read_all(inbox, headers, {"newestId": "castle"}), "invalid-request", "newestId")
    for answer in (
        await inbox.client.get(PATH),
        await read(inbox, {}, uuid4()),
        await read_all(inbox, {}),
    ):
        assert_problem(answer, "unauthenticated")


async def test_reading_is_limited_with_the_commands_of_a_user(settings: Settings, saving: Saving, tenant: str) -> None:
    async with api(settings, commands_per_minute=2) as (client, app):
        _, headers = await signed_in(app, saving, tenant)
        answers = [await client.post(f"{PATH}/read-all", headers=headers) for _ in range(2)]
        refused = await client.post(f"{PATH}/{uuid4()}/read", headers=headers)

    assert [answer.status_code for answer in answers] == [204, 204]
    assert_problem(refused, "too-many-requests")


async def test_notice_that_a_worker_records_is_in_the_inbox_and_not_in_the_history(
    platform: Platform, temporal_client: Client
) -> None:
    person: Person = await platform.register()
    notice = notified(UUID(person.id))
    batch = record_activity("hyderabad", notice)
    definition: Any = RecordActivityWorkflow
    await temporal_client.execute_workflow(
        definition.run, batch, id=f"record-activity/{batch.command_id}", task_queue=options.COMMANDS
    )

    async def arrived() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await platform.http.get(PATH, headers=person.headers)).json()["items"]
        return items

    assert [item["id"] for item in await until(arrived)] == [str(notice.event_id)]
    answer = await platform.http.post(f"{PATH}/{notice.event_id}/read", headers=person.headers)
    token = {"Consistency-Token": answer.headers["Consistency-Token"]}
    page = (await platform.http.get(PATH, headers={**person.headers, **token})).json()
    assert ([item["read"] for item in page["items"]], page["unreadCount"]) == ([True], 0)
    entries = await platform.history(person, answer.headers["Consistency-Token"])
    assert not {"USER_NOTIFIED", "NOTIFICATIONS_READ"} & {entry["activityType"] for entry in entries}
