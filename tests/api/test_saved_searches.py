"""Saved searches over HTTP, from the first setting to the mail and the link in it."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, update
from temporalio.client import Client

from activities.saved_search_rounds import SavedSearchOf
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import saved_filters
from adapters.unsubscribing import ONE_CLICK, unsubscribe_token, unsubscribe_url
from domain.preferences import NoticeKind
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until
from tests.samples import new_id

PATH = "/api/search/saved"
WANTED: dict[str, Any] = {
    "name": "Flats in Kondapur",
    "filters": {"location": ["Kondapur"], "bedrooms": ["2", "4+"], "near": {"latitude": 17.46, "longitude": 78.36}},
    "frequency": "WEEKLY",
    "weekday": "SATURDAY",
    "hour": 18,
}


async def saved(platform: Platform, person: Person, **more: Any) -> httpx.Response:
    return await platform.http.post(PATH, json={**WANTED, **more}, headers=person.headers)


@pytest.fixture(scope="module")
async def person(platform: Platform) -> Person:
    return await platform.register()


async def test_saved_search_is_created_read_changed_and_deleted(platform: Platform) -> None:
    person = await platform.register()

    created = await saved(platform, person)
    location = created.headers["Location"]
    shown = await platform.http.get(location, headers=person.headers)
    listed = await platform.http.get(PATH, headers=person.headers)
    body = {**WANTED, "name": "Homes", "paused": True}
    changed = await platform.change(person, "PUT", location, body, if_match=created.headers["ETag"])
    stale = await platform.change(person, "PUT", location, WANTED, if_match=created.headers["ETag"])
    deleted = await platform.change(person, "DELETE", location, if_match=changed.headers["ETag"])

    assert (created.status_code, created.headers["ETag"]) == (201, '"1"')
    assert {name: created.json()[name] for name in WANTED} == WANTED
    assert (created.json()["paused"], created.json()["pausedBy"]) == (False, None)
    assert re.search("T12:30:00", created.json()["dueAt"])
    assert (shown.json(), listed.json()) == (created.json(), {"items": [created.json()]})
    assert (shown.headers["ETag"], shown.headers["Cache-Control"]) == ('"1"', "private, no-store")
    assert (changed.status_code, changed.json()["name"], changed.json()["pausedBy"]) == (200, "Homes", "OWNER")
    assert changed.json()["dueAt"] is None
    assert_problem(stale, "version-conflict")
    assert deleted.status_code == 204
    assert_problem(await platform.http.get(location, headers=person.headers), "not-found")
    history = await platform.history(person, deleted.headers["Consistency-Token"])
    assert [entry["description"] for entry in history[:3]] == [
        "User deleted a saved search",
        "User changed a saved search",
        "User saved a search",
    ]
    assert not any("Kondapur" in str(entry) for entry in history)


@pytest.mark.parametrize("host", ["localhost", "second.localhost"])
async def test_saved_search_of_somebody_else_or_of_another_tenant_is_not_found(
    platform: Platform, person: Person, host: str
) -> None:
    location = (await saved(platform, person)).headers["Location"]
    other, at = await platform.register(host), {"Host": host}
    signed_in = {**other.headers, **at}

    answers = [
        await platform.http.get(location, headers=signed_in),
        await platform.change(other, "PUT", location, WANTED, headers=at),
        await platform.change(other, "DELETE", location, headers=at),
        await platform.http.post(f"{location}/visits", headers=signed_in),
    ]

    for answer in answers:
        assert_problem(answer, "not-found")
    assert (await platform.http.get(PATH, headers=signed_in)).json() == {"items": []}


async def test_next_round_is_shown_as_it_is_planned(platform: Platform, person: Person, database: Database) -> None:
    created = await saved(platform, person)
    row = saved_filters.c.saved_search_id == UUID(created.json()["id"])
    async with database.statements("hyderabad") as connection:
        due = update(saved_filters).where(row).values(due_at=datetime(2030, 1, 5, 12, 30, tzinfo=UTC))
        await connection.execute(due)

    shown = await platform.http.get(created.headers["Location"], headers=person.headers)

    assert shown.json() == {**created.json(), "dueAt": "2030-01-05T12:30:00Z"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"filters": {}}, "body"),
        ({"filters": {"q": "!!"}}, "body"),
        ({"filters": {"listedSince": "0001-01-01T00:00:00+14:00"}}, "filters.listedSince"),
        ({"filters": {"bedrooms": ["many"]}}, "filters.bedrooms.0"),
        ({"filters": {"rera": True, "changedSince": "2026-11-01T00:00:00Z"}}, "filters.changedSince"),
        ({"filters": {"minPrice": 9, "maxPrice": 8}}, "filters"),
        ({"name": ""}, "name"),
        ({"hour": 24}, "hour"),
        ({"frequency": "HOURLY"}, "frequency"),
    ],
)
async def test_invalid_saved_search_is_refused(
    platform: Platform, person: Person, change: dict[str, Any], field: str
) -> None:
    answer = await saved(platform, person, **change)

    assert_problem(answer, "invalid-request")
    assert answer.json()["errors"][0]["field"] == field


async def test_fifty_first_saved_search_is_refused(platform: Platform) -> None:
    person = await platform.register()
    for n in range(50):
        assert (await saved(platform, person, name=f"Search {n}", paused=True)).status_code == 201

    assert_problem(await saved(platform, person), "too-many-saved-searches")


async def test_visit_of_a_saved_search_is_in_the_history(platform: Platform, person: Person) -> None:
    location = (await saved(platform, person)).headers["Location"]

    answer = await platform.http.post(f"{location}/visits", headers=person.headers)

    assert answer.status_code == 204
    history = await platform.history(person, answer.headers["Consistency-Token"])
    assert history[0]["description"] == "User opened a saved search"


async def test_match_is_mailed_and_shown_in_the_app_and_its_link_pauses_that_search_only(
    platform: Platform, database: Database, keyring: Keyring, temporal_client: Client
) -> None:
    person, owner = await platform.register(), await platform.register()
    place = f"Place {new_id().hex[-8:]}"
    search = (await saved(platform, person, filters={"location": [place]}, frequency="INSTANT")).json()
    other = (await saved(platform, person, name="Other")).json()
    await platform.create(owner, location=place)
    of = SavedSearchOf(tenant_id="hyderabad", saved_search_id=UUID(search["id"]), user_id=UUID(person.id))

    async def mailed() -> list[dict[str, Any]]:
        """Have the next round at once, instead of in ten minutes; it may come before the listing can be found."""
        async with database.statements("hyderabad") as connection:
            due = update(saved_filters).where(saved_filters.c.saved_search_id == of.saved_search_id)
            await connection.execute(due.values(due_at=func.now()))
        await temporal_client.get_workflow_handle(of.workflow_id).signal("changed")
        return await platform.mails(person, "1 listing for")

    [mail] = await until(mailed)
    inbox = (await platform.http.get("/api/notifications", headers=person.headers)).json()["items"]
    token = unsubscribe_token(
        keyring,
        "hyderabad",
        UUID(person.id),
        NoticeKind.SAVED_SEARCH_MATCHES,
        saved_search_id=UUID(search["id"]),
    )
    link = unsubscribe_url("", token)
    page = await platform.http.get(link, headers={"Accept": "text/html"})
    clicks = [await platform.http.post(link, data=dict([ONE_CLICK.split("=")])) for _ in range(2)]

    assert mail["subject"] == '1 listing for "Flats in Kondapur"'
    [notification] = [one for one in inbox if one["kind"] == "SAVED_SEARCH_MATCHES"]
    assert (notification["savedSearchId"], notification["link"]) == (search["id"], f"{PATH}/{search['id']}")
    assert notification["title"] == "1 listing matches a search that you saved"
    assert "this saved search" in page.text
    for click in clicks:
        expected = {"kinds": ["SAVED_SEARCH_MATCHES"], "savedSearchId": search["id"]}
        assert (click.status_code, click.json()) == (200, expected)
    stopped = (await platform.http.get(f"{PATH}/{search['id']}", headers=person.headers)).json()
    going_on = (await platform.http.get(f"{PATH}/{other['id']}", headers=person.headers)).json()
    assert (stopped["paused"], stopped["pausedBy"], going_on["paused"]) == (True, "LINK", False)
