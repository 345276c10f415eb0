"""The browsers of a user: subscribe, list, end, and who may."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import select, update

from adapters import push_subscriptions, tables
from adapters.current_state import find_user
from adapters.postgres import Database
from adapters.push import public_key
from adapters.settings import Settings
from adapters.tables import users
from api.app import create_app
from tests.activities.accounts import Saving
from tests.adapters.test_push import RAW, Browser
from tests.api.test_contract import assert_problem
from tests.samples import new_id, new_tenant

PATH = "/api/notifications/push-subscriptions"
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/"


def subscription(endpoint: str, **keys: str) -> dict[str, Any]:
    made = Browser().subscription(endpoint)
    return {"endpoint": endpoint, "expirationTime": None, "keys": {"p256dh": made.p256dh, "auth": made.auth, **keys}}


@asynccontextmanager
async def api(settings: Settings, **more: Any) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """A client of an API of its own."""
    app = create_app(settings.model_copy(update=more))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        yield client, app


async def signed_in(app: FastAPI, saving: Saving, tenant: str) -> tuple[UUID, dict[str, str]]:
    """A new user, and the headers of their requests."""
    parts, user_id = app.state.parts, await saving.registered(tenant)
    async with parts.database.statements(tenant) as connection:
        user = await find_user(connection, user_id)
    return user_id, {"Authorization": f"Bearer {parts.tokens.issue(tenant, user, new_id())}"}


async def test_browser_is_subscribed_listed_and_removed(settings: Settings, saving: Saving, tenant: str) -> None:
    async with api(settings) as (client, app):
        _, headers = await signed_in(app, saving, tenant)
        first, again = [
            await client.put(PATH, json=subscription(f"{ENDPOINT}1"), headers=headers) for _repeated in range(2)
        ]
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()

        [listed] = (await client.get(PATH, headers=headers)).json()["items"]
        assert (listed["id"], listed["service"]) == (first.json()["id"], "updates.push.services.mozilla.com")

        answers = [await client.delete(f"{PATH}/{listed['id']}", headers=headers) for _repeated in range(2)]
        assert answers[0].status_code == 204
        assert_problem(answers[1], "not-found")
        assert (await client.get(PATH, headers=headers)).json() == {"items": []}


async def test_browser_belongs_to_whoever_subscribed_it_last(settings: Settings, saving: Saving, tenant: str) -> None:
    async with api(settings) as (client, app):
        _, first = await signed_in(app, saving, tenant)
        _, second = await signed_in(app, saving, tenant)
        _, elsewhere = await signed_in(app, saving, new_tenant())
        ids = [
            (await client.put(PATH, json=subscription(f"{ENDPOINT}shared"), headers=headers)).json()["id"]
            for headers in (first, elsewhere, second)
        ]
        assert len(set(ids)) == 3

        assert (await client.get(PATH, headers=first)).json() == {"items": []}
        for headers, kept in ((second, ids[2]), (elsewhere, ids[1])):
            assert [item["id"] for item in (await client.get(PATH, headers=headers)).json()["items"]] == [kept]
        for stranger in (first, elsewhere):
            assert_problem(await client.delete(f"{PATH}/{ids[2]}", headers=stranger), "not-found")


async def test_least_recently_subscribed_browsers_of_more_than_20_are_removed(
    settings: Settings, saving: Saving, database: Database, tenant: str
) -> None:
    async with api(settings) as (client, app):
        user_id, headers = await signed_in(app, saving, tenant)
        ids = [
            (await client.put(PATH, json=subscription(f"{ENDPOINT}{n}"), headers=headers)).json()["id"]
            for n in [*range(21), 1, 21]
        ]

    async with database.statements(tenant) as connection:
        stored = (await push_subscriptions.of_users(connection, [user_id, new_id()]))[user_id]
    assert [str(one.id) for one in stored] == [ids[22], ids[21], *reversed(ids[3:21])]
    assert stored[0].subscription.endpoint == f"{ENDPOINT}21"
    assert stored[0].subscription.endpoint not in repr(stored)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (subscription("http://push.example/1"), "endpoint"),
        (subscription("https://169.254.169.254/latest/meta-data"), "endpoint"),
        (subscription("https://push.example:22/1"), "endpoint"),
        (subscription("https://push.example/" + "x" * 1000), "endpoint"),
        (subscription(""), "endpoint"),
        (subscription(f"{ENDPOINT}1", auth="short"), "keys.auth"),
        (subscription(f"{ENDPOINT}1", p256dh="B" * 87), "keys"),
        ({"endpoint": f"{ENDPOINT}1"}, "keys"),
    ],
)
async def test_subscription_that_is_not_valid_is_refused(
    settings: Settings, saving: Saving, tenant: str, body: dict[str, Any], field: str
) -> None:
    async with api(settings) as (client, app):
        _, headers = await signed_in(app, saving, tenant)

        assert_problem(await client.put(PATH, json=body, headers=headers), "invalid-request", field)


async def test_closed_account_subscribes_no_browser(
    settings: Settings, saving: Saving, database: Database, tenant: str
) -> None:
    async with api(settings) as (client, app):
        user_id, headers = await signed_in(app, saving, tenant)
        async with database.transaction(tenant) as tx:
            await tx.execute(update(users).where(users.c.user_id == user_id).values(status="DELETED"))

        assert_problem(await client.put(PATH, json=subscription(f"{ENDPOINT}1"), headers=headers), "account-closed")
    async with database.statements(tenant) as connection:
        assert (await connection.execute(select(tables.push_subscriptions.c.subscription_id))).all() == []


async def test_key_of_the_portal_is_public_where_it_pushes(settings: Settings) -> None:
    async with api(settings, vapid_private_key=SecretStr(RAW)) as (client, _):
        answer = await client.get("/api/notifications/push-key")
        key = public_key(settings.model_copy(update={"vapid_private_key": SecretStr(RAW)}))
        assert answer.json() == {"publicKey": key}
    async with api(settings, vapid_private_key=None) as (client, _):
        assert_problem(await client.get("/api/notifications/push-key"), "not-found")


async def test_subscriptions_need_a_token(settings: Settings) -> None:
    async with api(settings) as (client, _):
        for answer in (
            await client.get(PATH),
            await client.put(PATH, json=subscription(f"{ENDPOINT}1")),
            await client.delete(f"{PATH}/{new_id()}"),
        ):
            assert_problem(answer, "unauthenticated")
