"""End to end: register, create a property, find it in the history, in the mailbox and in Temporal."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from embedded.paths import ROOT
from tests.activities.accounts import Saving
from tests.platform import Platform, until
from tests.samples import create_property

REAL_LISTINGS = ROOT.parent / "shared" / "data" / "listings_sale_geo.csv"


@pytest.mark.temporal
async def test_created_property_is_in_history_mailbox_and_temporal(platform: Platform, temporal_client: Client) -> None:
    person = await platform.register()

    created = await platform.create(person, contactPhone="9848022338")

    assert created.status_code == 201
    home = created.json()
    assert (home["ownerId"], home["status"], home["version"]) == (person.id, "ACTIVE", 1)
    entries = await platform.history(person, created.headers["consistency-token"])
    assert [entry["activityType"] for entry in entries] == ["PROPERTY_CREATED", "USER_REGISTERED"]
    assert entries[0]["activityData"]["propertyId"] == home["id"]
    assert entries[0].keys() == {"eventId", "userId", "activityType", "description", "activityData", "timestamp"}
    assert (await platform.http.get(created.headers["location"])).json() == home

    async def everything_is_done() -> bool:
        state = (
            await platform.http.get(f"/api/commands/{created.headers['command-id']}", headers=person.headers)
        ).json()
        return all(stage["status"] == "DONE" for stage in state["stages"])

    await until(everything_is_done)
    [mail] = await until(lambda: platform.mails(person, "is public"))
    assert home["id"] in mail["text"]
    events = (await platform.http.get(f"/api/properties/{home['id']}/history", headers=person.headers)).json()["items"]
    assert [(event["eventType"], event["eventId"]) for event in events] == [("PROPERTY_CREATED", entries[0]["eventId"])]
    for attribute, value in (
        ("CommandId", created.headers["command-id"]),
        ("AggregateId", home["id"]),
        ("UserId", person.id),
    ):

        async def found(attribute: str = attribute, value: str = value) -> bool:
            query = f"{attribute} = '{value}' AND WorkflowType = 'create-property'"
            return [run.id async for run in temporal_client.list_workflows(query)] == [
                f"create-property/{created.headers['command-id']}"
            ]

        await until(found)
    mailing = f"CommandIds = '{created.headers['command-id']}'"
    [run] = [run async for run in temporal_client.list_workflows(mailing)]
    assert run.workflow_type == "notify"


@pytest.mark.temporal
async def test_web_ui_finds_a_command_by_its_id_and_serves_its_trace(platform: Platform) -> None:
    person = await platform.register()
    number = (await platform.create(person)).headers["command-id"]
    state = (await platform.http.get(f"/api/commands/{number}", headers=person.headers)).json()

    async with httpx.AsyncClient(base_url=state["traceUrl"].partition("/namespaces/")[0], trust_env=False) as ui:
        page = await ui.get(state["traceUrl"])

        async def found() -> list[str]:
            query = {"query": f"CommandId = '{number}'"}
            answer = (await ui.get("/api/v1/namespaces/default/workflows", params=query)).raise_for_status().json()
            return [run["execution"]["workflowId"] for run in answer.get("executions", [])]

        assert await until(found) == [f"create-property/{number}"]
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")


async def test_mail_whose_workflow_was_lost_is_sent(platform: Platform, saving: Saving, tenant: str) -> None:
    """As after Temporal was wiped: the delivery is in the outbox only."""
    email = f"{tenant}@example.com"
    owner = await saving.registered(tenant, email=email)
    await saving.property(create_property(tenant, owner))

    async def mails() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await platform.mailbox.get("/api/messages", params={"to": email})).json()
        return found if len(found) > 1 else []

    subjects = " | ".join(mail["subject"].lower() for mail in await until(mails))
    assert "verify" in subjects
    assert "is public" in subjects


async def test_every_page_of_a_history_is_there_once(platform: Platform) -> None:
    person = await platform.register()
    for n in range(7):
        token = (await platform.create(person, title=f"Flat number {n}")).headers["consistency-token"]

    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await platform.http.get(
            f"/api/user-history/{person.id}",
            params={"limit": 3, **({"cursor": cursor} if cursor else {})},
            headers=person.headers | {"Consistency-Token": token},
        )
        seen += [entry["description"] for entry in page.json()["items"]]
        cursor = page.json()["nextCursor"]
        if cursor is None:
            break

    assert seen == [f"User created property: Flat number {n}" for n in range(6, -1, -1)] + ["User registered"]


async def test_history_is_right_after_redis_is_flushed(platform: Platform, valkey: Redis) -> None:
    person = await platform.register()
    for _ in range(3):
        token = (await platform.create(person)).headers["consistency-token"]
    before = await platform.history(person, token)

    await valkey.flushall()
    created = await platform.create(person)

    after = await platform.history(person, created.headers["consistency-token"])
    assert len(before) == 4
    assert after[1:] == before

    async def without_a_token() -> bool:
        return await platform.history(person) == after

    await until(without_a_token)


@pytest.mark.skipif(not REAL_LISTINGS.exists(), reason="the real listings of ../shared/data are not on this machine")
async def test_real_listings_are_imported(platform: Platform, tmp_path: Path) -> None:
    """200 real rows: each is listed, or refused with a reason."""
    with REAL_LISTINGS.open(newline="", encoding="utf-8") as source:
        rows = list(csv.reader(source))[:201]
    file = tmp_path / "listings.csv"
    with file.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(rows)

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "demo", "--url", platform.url, "--csv", str(file), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "*"},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["rows"] == 200
    assert summary["listed"] + summary["refusedRows"] == 200
    assert all(": " in problem for problem in summary["refused"])
    assert summary["listed"] >= 150
    owner = summary["owners"][0]
    login = {"emailOrUsername": owner["email"], "password": owner["password"]}
    session = (await platform.http.post("/api/auth/login", json=login)).json()

    async def all_there() -> bool:
        entries = await platform.http.get(
            f"/api/user-history/{session['user']['id']}",
            params={"limit": 100},
            headers={"Authorization": f"Bearer {session['accessToken']}"},
        )
        # Listed, registered, signed in just now, and the import started and finished.
        return bool(len(entries.json()["items"]) == min(100, owner["listed"] + 4))

    await until(all_there)
