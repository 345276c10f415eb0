"""Looks for a person's data and secrets in every store, topic, workflow and log: while they have an account, and after
it is erased.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import select
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters import objects
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import person_keys, users
from domain.events import read_event
from projections.history import History
from projections.rebuild import rebuild
from tests.api.test_erasure import erase, erased
from tests.api.test_history import export, link_to
from tests.e2e.canary import Canary
from tests.e2e.searching import Everywhere, Found, payloads_of
from tests.platform import Platform, until
from tests.projections.messages import stored_messages

pytestmark = pytest.mark.temporal


@pytest.fixture
def everywhere(settings: Settings, temporal_client: Client, valkey: Redis, data: Path) -> Everywhere:
    return Everywhere(settings, temporal_client, valkey, data)


@pytest.fixture
async def canary(platform: Platform, database: Database, keyring: Keyring, everywhere: Everywhere) -> Canary:
    """Lives after `everywhere` was made, which looks at what is newer than itself."""
    canary = Canary(platform, database, keyring)
    await canary.live()
    return canary


async def test_secrets_and_personal_data_are_in_the_clear_nowhere_but_in_the_rows_of_the_account(
    canary: Canary, everywhere: Everywhere, temporal_client: Client
) -> None:
    password_hash = await canary.password_hash()

    found = await everywhere.find([*canary.secrets, *canary.personal, password_hash])

    assert found == _rows(
        {
            "user_management.users": [canary.account["username"], canary.account["email"], password_hash],
            "user_management.user_profiles": [
                *(canary.account[name] for name in ("firstName", "lastName", "phoneNumber")),
                canary.profile["address"],
            ],
            "property_management.properties": canary.contact.values(),
            "notification.push_subscriptions": [canary.endpoint],
        }
    )
    # The workflows have the values, encrypted: they were searched.
    sealed = [
        payload.data
        async for run in temporal_client.list_workflows(f"UserId = '{canary.person.id}'")
        for event in (await temporal_client.get_workflow_handle(run.id).fetch_history()).events
        for payload in payloads_of(event)
    ]
    assert b'"sealed"' in b" ".join(sealed)


async def test_erased_person_is_found_nowhere_and_everything_else_is_whole(
    canary: Canary,
    everywhere: Everywhere,
    platform: Platform,
    all_tenants: Database,
    valkey: Redis,
    temporal_client: Client,
    keyring: Keyring,
) -> None:
    before = [event for event in await stored_messages(all_tenants, "hyderabad") if _is_of(event, canary)]
    neighbour = await platform.register()
    token = (await platform.create(neighbour)).headers["consistency-token"]
    of_neighbour = await platform.history(neighbour, token)
    others = await everywhere.in_tables([neighbour.email])
    password_hash = await canary.password_hash()
    assert await _registrations(temporal_client, keyring, canary) == 2  # one of them refused
    await export(platform, canary.person)
    canary.tokens.append(await link_to(platform, canary.person))
    in_file = await everywhere.find([canary.account["email"], canary.searched])
    assert any(where.startswith("object ") for where in in_file)

    answer = await erase(platform, canary.person, canary.passwords[2], canary.code)
    await erased(platform, answer.headers["location"])

    of_person = f"UserId = '{canary.person.id}'"

    async def only_the_erasure() -> bool:
        return {run.workflow_type async for run in temporal_client.list_workflows(of_person)} == {"erase-user"}

    await until(only_the_erasure)
    assert await _registrations(temporal_client, keyring, canary) == 0
    assert await everywhere.find([*canary.personal, *canary.secrets, password_hash]) == {}
    assert await everywhere.in_redis([canary.person.id]) == {}
    async with all_tenants.statements() as connection:
        for table in (person_keys, users):
            query = select(table.c.user_id).where(table.c.user_id == UUID(canary.person.id))
            assert (await connection.execute(query)).all() == []

    after = [event for event in await stored_messages(all_tenants, "hyderabad") if _is_of(event, canary)]
    assert after[: len(before)] == before
    assert {"sealed"} == {
        key for event in after if event["eventType"] == "USER_REGISTERED" for key in event["data"]["email"]
    }
    versions: dict[str, list[int]] = {}
    for message in after:
        event = read_event(message)
        if event.version:
            versions.setdefault(message["aggregateId"], []).append(event.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    rebuilt = await rebuild(all_tenants, History(valkey), lambda _: None)
    assert rebuilt.parked == 0
    assert await platform.history(neighbour) == of_neighbour
    assert await everywhere.in_tables([neighbour.email]) == others
    assert "user_history.user_activity" not in await everywhere.in_tables([canary.person.id])


async def test_search_finds_what_is_there(
    everywhere: Everywhere, platform: Platform, settings: Settings, valkey: Redis
) -> None:
    mark = f"canary-{uuid4().hex}"
    person = await platform.register()
    created = await platform.create(person, title=f"A flat {mark}")
    await platform.history(person, created.headers["consistency-token"])
    await asyncio.to_thread(_put_object, settings, f"{mark}.txt")
    await valkey.hset(f"test:{uuid4()}", mapping={"name": mark})

    async def everywhere_but_in_logs() -> bool:
        # Fills Redis, unless an entry comes meanwhile: as it may have done in the read before.
        await platform.history(person)
        found = await everywhere.find([mark])
        stores = {re.sub(rf"({mark}|[0-9a-f-]{{36}}).*", "", where) for where in found}
        return stores >= {
            *("property_management.properties", "user_history.event_store", "user_history.user_activity"),
            *("property-events", "user-activity", "create-property/"),
            *("redis {hyderabad:", "redis test:", "object "),
        }

    await until(everywhere_but_in_logs, seconds=120)
    assert "postgres.log" in await everywhere.find(["database system is ready to accept connections"])
    assert "user_management.person_keys" in await everywhere.in_tables([person.id])


async def _registrations(client: Client, keyring: Keyring, canary: Canary) -> int:
    """How many registrations in Temporal the server's key opens to the person's address."""
    found = 0
    async for run in client.list_workflows("WorkflowType = 'register-user'"):
        try:
            history = await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            continue  # deleted in the meantime
        (payload,) = history.events[0].workflow_execution_started_event_attributes.input.payloads
        command_id = UUID(run.id.removeprefix("register-user/"))
        command = keyring.unseal_in_transit(orjson.loads(payload.data), command_id)
        found += command["account"]["email"] == canary.account["email"]
    return found


def _rows(by_table: Mapping[str, Iterable[Any]]) -> Found:
    return {table: set(values) for table, values in by_table.items()}


def _is_of(event: Mapping[str, Any], canary: Canary) -> bool:
    return canary.person.id in {event["userId"], event["aggregateId"]}


def _put_object(settings: Settings, key: str) -> None:
    objects.connect(settings).put_object(Bucket=settings.s3_bucket, Key=key, Body=b"-")
