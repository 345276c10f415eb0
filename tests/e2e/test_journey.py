"""End to end: register, create a property, find it in the history, in the mailbox and in Temporal."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from adapters import kafka
from adapters.postgres import Database
from adapters.settings import Settings
from domain.events import TOPICS
from embedded.paths import ROOT
from tests.activities.accounts import Saving
from tests.platform import Platform, registration, until
from tests.samples import create_property, listing
from tests.second_factors import App, begin, confirm

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
    await platform.history(person, token)

    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await platform.http.get(
            f"/api/user-history/{person.id}",
            params={"limit": 3, **({"cursor": cursor} if cursor else {})},
            headers=person.headers,
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
    assert await platform.history(person) == after


async def test_no_secret_is_left_anywhere(
    platform: Platform,
    settings: Settings,
    all_tenants: Database,
    database: Database,
    temporal_client: Client,
    valkey: Redis,
    data: Path,
) -> None:
    """Searches every store and log for a canary password, the tokens and the contact data of a person."""
    canary, phone, contact = "canary-4f1c9e-password", "+919000000416", "canary-4f1c9e-contact@example.com"
    answer = await platform.http.post("/api/auth/register", json=registration(password=canary, phoneNumber=phone))
    person = answer.json()
    login = {"emailOrUsername": person["user"]["email"], "password": canary}
    signed_in = (await platform.http.post("/api/auth/login", json=login)).json()
    renewed = (await platform.http.post("/api/auth/refresh", json={"refreshToken": signed_in["refreshToken"]})).json()
    headers = {"Authorization": f"Bearer {renewed['accessToken']}"}
    created = await platform.http.post("/api/properties", json=listing(contactPhone="+919000000417"), headers=headers)
    patched = await platform.http.patch(
        created.headers["location"],
        json={"contactEmail": contact, "contactName": "Canary Person"},
        headers={**headers, "If-Match": created.headers["etag"]},
    )
    assert (patched.status_code, patched.json()["contactEmail"]) == (200, contact)
    setup = (await begin(platform.http, headers, canary)).json()
    enabled = await confirm(platform.http, headers, setup["setupToken"], App(setup["secret"]).code())
    broken = b'{"password": "' + canary.encode()
    await platform.http.post("/api/auth/login", content=broken, headers={"Content-Type": "application/json"})
    secrets = [
        canary,
        *(body[name] for body in (person, signed_in, renewed) for name in ("accessToken", "refreshToken")),
        *(setup["secret"], setup["setupToken"], *enabled.json()["recoveryCodes"]),
    ]
    personal = [
        *(str(person["user"][name]) for name in ("email", "username", "phoneNumber")),
        *(phone, "+919000000417", contact, "Canary Person"),
    ]
    workflow_ids = [
        f"{type}/{done.headers['command-id']}"
        for type, done in (
            ("register-user", answer),
            ("create-property", created),
            ("patch-property", patched),
            ("enable-second-factor", enabled),
        )
    ]
    await asyncio.gather(*(temporal_client.get_workflow_handle(workflow_id).result() for workflow_id in workflow_ids))

    def assert_clean(where: str, content: str) -> None:
        for secret in secrets:
            assert secret not in content, where

    for workflow_id in workflow_ids:
        history = await temporal_client.get_workflow_handle(workflow_id).fetch_history()
        decoded = [payload.data.decode(errors="replace") for event in history.events for payload in _payloads(event)]
        content = "".join(decoded) + str(history.events)
        assert '"sealed"' in "".join(decoded)
        assert_clean(workflow_id, content)
        assert not [text for text in (*personal, "$argon2id$") if text in content], workflow_id
    consumer = kafka.consumer(settings, None, *TOPICS)
    await consumer.start()
    heard = b""
    while batch := await consumer.getmany(timeout_ms=1500):
        heard += b"".join(record.value for records in batch.values() for record in records)
    await consumer.stop()
    assert created.json()["id"].encode() in heard
    assert_clean("Kafka", heard.decode())
    assert not [text for text in personal if text in heard.decode()]
    for log in (data / "logs").glob("*.log"):
        assert_clean(log.name, log.read_text(errors="replace"))
    async with all_tenants.transaction() as tx:
        for table in ("user_history.event_store", "user_history.commands", "user_history.user_activity"):
            rows = await tx.exec_driver_sql(f"SELECT CAST(t AS text) FROM {table} t")
            content = "\n".join(row[0] for row in rows)
            assert_clean(table, content)
            assert not [text for text in (*personal, "$argon2id$") if text in content], table
    async with database.transaction("hyderabad") as tx:
        for table in ("user_management.totp", "user_management.recovery_codes"):
            rows = await tx.exec_driver_sql(f"SELECT CAST(t AS text) FROM {table} t")
            assert_clean(table, "\n".join(row[0] for row in rows))
    for key in await valkey.keys():
        assert_clean("Redis", str(key))


def _payloads(event: object) -> list[Any]:
    """Every payload in a protobuf message, however deep."""
    from google.protobuf.message import Message
    from temporalio.api.common.v1 import Payload

    found: list[Any] = []

    def walk(message: Message) -> None:
        if isinstance(message, Payload):
            found.append(message)
            return
        for _, value in message.ListFields():
            if isinstance(value, Message | str | bytes | int | float):
                inner = [value]
            else:  # a repeated field or a map, neither of which needs to have `__iter__`
                inner = list(value.values() if isinstance(value, Mapping) else value)
            for one in inner:
                if isinstance(one, Message):
                    walk(one)

    assert isinstance(event, Message)
    walk(event)
    return found


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
    assert summary["listed"] + sum(summary["refused"].values()) == 200
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
        # Listed, registered, and signed in just now.
        return bool(len(entries.json()["items"]) == min(100, owner["listed"] + 2))

    await until(all_there)
