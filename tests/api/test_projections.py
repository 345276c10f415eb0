"""Projections over HTTP: rebuilds for administrators of the default tenant, parked events for those of each."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from temporalio.client import Client

from adapters.postgres import Database, advisory_lock
from domain.rebuilds import RebuildOrder, workflow_id
from projections.parking import ConsumedMessage, park
from projections.rebuild import LOCKS, lock_name
from projections.registry import PROJECTIONS
from tests.api.test_admin_users import SECOND, administrator
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until
from tests.projections.messages import consumed
from tests.samples import new_id
from workflows import options
from workflows.rebuild_projection import RebuildProjectionWorkflow

REBUILD = "/api/projections/counts/rebuild"


@pytest.fixture(scope="module")
async def admin(platform: Platform, database: Database) -> Person:
    return await administrator(platform, database)


@pytest.fixture(scope="module")
async def admin_of_second(platform: Platform, database: Database) -> Person:
    return await administrator(platform, database, SECOND, "second")


async def ask(platform: Platform, who: Person, method: str, path: str, **query: Any) -> httpx.Response:
    return await platform.http.request(method, path, params=query, headers=who.headers)


async def rebuild_of(platform: Platform, admin: Person, path: str = REBUILD) -> Any:
    answer = await ask(platform, admin, "GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ended(platform: Platform, admin: Person, path: str = REBUILD) -> Any:
    async def found() -> Any:
        shown = await rebuild_of(platform, admin, path)
        return shown if shown["finishedAt"] else None

    return await until(found)


@pytest.mark.parametrize("name", PROJECTIONS)
async def test_every_projection_is_listed_and_rebuilt(platform: Platform, admin: Person, name: str) -> None:
    path = f"/api/projections/{name}/rebuild"

    async def shown() -> Any:
        listed = await ask(platform, admin, "GET", "/api/projections")
        assert listed.status_code == 200, listed.text
        [found] = [item for item in listed.json()["items"] if item["name"] == name]
        return found

    before = await shown()
    assert before["lagEvents"] >= 0
    assert before["lagSeconds"] >= 0
    answer = await ask(platform, admin, "POST", path)
    assert (answer.status_code, answer.headers["location"]) == (202, path)

    async def completed() -> Any:
        found = await rebuild_of(platform, admin, path)
        return found if found["finishedAt"] and (found["generation"] or 0) > before["generation"] else None

    done = await until(completed)
    assert done["status"] == "COMPLETED"
    assert done["requestedBy"] == admin.id
    assert done["done"] >= done["total"]
    assert (done["parked"], done["secondsLeft"]) == (0, 0.0)
    after = await shown()
    assert after["generation"] == done["generation"]
    assert after["rebuild"] is None


@pytest.fixture
async def paused(platform: Platform, admin: Person, temporal_client: Client) -> Any:
    """A rebuild of `counts` that pauses as soon as it has begun."""
    order = RebuildOrder(rebuild_id=new_id(), projection="counts", paused=True)
    await temporal_client.start_workflow(
        RebuildProjectionWorkflow.run, order, id=workflow_id("counts"), task_queue=options.MAINTENANCE
    )

    async def is_paused() -> Any:
        answer = await ask(platform, admin, "GET", REBUILD)
        found = answer.json()
        return found if answer.status_code == 200 and found["status"] == "PAUSED" else None

    return await until(is_paused)


async def test_paused_rebuild_refuses_another_and_is_resumed(platform: Platform, admin: Person, paused: Any) -> None:
    refused = await ask(platform, admin, "POST", REBUILD)
    again = await ask(platform, admin, "POST", f"{REBUILD}/pause")
    resumed = await ask(platform, admin, "POST", f"{REBUILD}/resume")
    done = await ended(platform, admin)

    assert paused["requestedBy"] is None
    assert_problem(refused, "rebuild-running")
    assert refused.headers["location"] == REBUILD
    assert [answer.status_code for answer in (again, resumed)] == [202, 202]
    assert (done["status"], done["generation"]) == ("COMPLETED", paused["generation"])


async def test_cancelled_rebuild_leaves_the_old_generation(platform: Platform, admin: Person, paused: Any) -> None:
    listed = (await ask(platform, admin, "GET", "/api/projections")).json()["items"]
    cancelled = await ask(platform, admin, "DELETE", REBUILD)
    done = await ended(platform, admin)

    [counts] = [item for item in listed if item["name"] == "counts"]
    assert counts["rebuild"]["status"] == "PAUSED"
    assert (cancelled.status_code, done["status"]) == (202, "CANCELLED")
    after = (await ask(platform, admin, "GET", "/api/projections")).json()["items"]
    [left] = [item for item in after if item["name"] == "counts"]
    assert (left["generation"], left["rebuild"]) == (counts["generation"], None)
    for method, path in (("POST", f"{REBUILD}/pause"), ("POST", f"{REBUILD}/resume"), ("DELETE", REBUILD)):
        assert_problem(await ask(platform, admin, method, path), "rebuild-not-running")


async def test_rebuild_at_the_command_line_is_not_begun_twice(
    platform: Platform, admin: Person, all_tenants: Database
) -> None:
    async with (
        all_tenants.statements() as connection,
        advisory_lock(connection, LOCKS, lock_name("counts")),
    ):
        refused = await ask(platform, admin, "POST", REBUILD)

    assert_problem(refused, "rebuild-running")


async def test_rebuild_whose_workflow_is_gone_is_interrupted(
    platform: Platform, admin: Person, paused: Any, temporal_client: Client
) -> None:
    await temporal_client.get_workflow_handle(workflow_id("counts")).terminate("lost")

    shown = await rebuild_of(platform, admin)
    started = await ask(platform, admin, "POST", REBUILD)
    done = await ended(platform, admin)

    assert shown["status"] == "INTERRUPTED"
    assert started.status_code == 202
    assert done["status"] == "COMPLETED"


async def test_rebuilding_and_lag_are_for_administrators_of_the_default_tenant(
    platform: Platform, admin_of_second: Person
) -> None:
    user = await platform.register()
    routes = [("GET", REBUILD), ("POST", REBUILD), ("POST", f"{REBUILD}/pause"), ("POST", f"{REBUILD}/resume")]
    for method, path in [*routes, ("DELETE", REBUILD)]:
        assert_problem(await ask(platform, user, method, path), "forbidden")
        refused = await platform.http.request(method, path, headers={**admin_of_second.headers, "Host": SECOND})
        assert_problem(refused, "forbidden")
        assert "hyderabad" in refused.json()["detail"]
    listed = await platform.http.get("/api/projections", headers={**admin_of_second.headers, "Host": SECOND})
    hidden = ("lagEvents", "lagSeconds", "rebuild")
    assert {item[name] for item in listed.json()["items"] for name in hidden} == {None}
    assert_problem(await ask(platform, user, "GET", "/api/projections"), "forbidden")
    assert_problem(await ask(platform, user, "GET", "/api/projections/counts/parked"), "forbidden")


async def test_unknown_projection_is_not_found(platform: Platform, admin: Person) -> None:
    for method, path in (("POST", "rebuild"), ("GET", "rebuild"), ("GET", "parked"), ("GET", "discarded")):
        answer = await ask(platform, admin, method, f"/api/projections/weather/{path}")
        assert_problem(answer, "not-found")
        assert "history" in answer.json()["detail"]


PARKED = "/api/projections/history/parked"


@pytest.fixture
async def parked(all_tenants: Database) -> AsyncIterator[dict[str, list[ConsumedMessage]]]:
    """Three parked entries of a user of each of two tenants, and a message of none."""
    messages = {
        tenant: [consumed(tenant, user) for _ in range(3)]
        for tenant, user in (("hyderabad", new_id()), ("second", new_id()))
    }
    messages[""] = [ConsumedMessage("user-activity", str(new_id()), b"no JSON")]
    async with all_tenants.transaction() as tx:
        await tx.execute(text("DELETE FROM user_history.parked_events"))  # of other tests, which have no tenant
        for of_tenant in messages.values():
            for message in of_tenant:
                await park(tx, "history", [(message, "a mistake that is fixed since")])
    yield messages
    async with all_tenants.statements() as connection:
        await connection.execute(text("DELETE FROM user_history.parked_events"))


async def parked_of(platform: Platform, admin: Person, host: str | None = None, limit: int = 2) -> list[Any]:
    items: list[Any] = []
    cursor: dict[str, Any] = {}
    while True:
        headers = {**admin.headers, **({"Host": host} if host else {})}
        answer = await platform.http.get(PARKED, params={"limit": limit, **cursor}, headers=headers)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        if answer.json()["nextCursor"] is None:
            return items
        cursor = {"cursor": answer.json()["nextCursor"]}


async def test_parked_events_are_those_of_the_own_tenant(
    platform: Platform,
    admin: Person,
    admin_of_second: Person,
    parked: dict[str, list[ConsumedMessage]],
) -> None:
    own = await parked_of(platform, admin)
    of_second = await parked_of(platform, admin_of_second, SECOND)
    as_second = {**admin_of_second.headers, "Host": SECOND}

    assert [item["key"] for item in own] == [one.key for one in [*parked["hyderabad"], *parked[""]]]
    assert [item["key"] for item in of_second] == [one.key for one in parked["second"]]
    counted = (await platform.http.get("/api/projections", headers=as_second)).json()["items"]
    assert {item["name"]: (item["parked"], item["rebuild"]) for item in counted}["history"] == (3, None)
    for other in own:
        path = f"{PARKED}/{other['id']}"
        for method, where in (("GET", path), ("POST", f"{path}/retry"), ("DELETE", f"{path}?reason=none")):
            assert_problem(await platform.http.request(method, where, headers=as_second), "not-found")
    assert len(await parked_of(platform, admin)) == 4


async def test_parked_event_is_inspected_and_its_key_retried(
    platform: Platform, admin: Person, parked: dict[str, list[ConsumedMessage]]
) -> None:
    first, *_, unreadable = await parked_of(platform, admin)
    shown = (await ask(platform, admin, "GET", f"{PARKED}/{first['id']}")).json()
    raw = (await ask(platform, admin, "GET", f"{PARKED}/{unreadable['id']}")).json()
    retried = await ask(platform, admin, "POST", f"{PARKED}/{first['id']}/retry")
    failing = await ask(platform, admin, "POST", f"{PARKED}/{unreadable['id']}/retry")
    gone = await ask(platform, admin, "POST", f"{PARKED}/{first['id']}/retry")

    assert shown["payload"]["tenantId"] == "hyderabad"
    assert (shown["reason"], shown["text"]) == ("a mistake that is fixed since", None)
    assert (raw["payload"], raw["text"]) == (None, "no JSON")
    assert retried.json() == {"applied": 3, "failure": None}
    assert (failing.status_code, failing.json()["applied"]) == (200, 0)
    assert failing.json()["failure"]
    assert_problem(gone, "not-found")
    assert [item["id"] for item in await parked_of(platform, admin)] == [unreadable["id"]]


async def test_discarded_event_is_kept_with_who_when_and_why(
    platform: Platform, admin: Person, admin_of_second: Person, parked: dict[str, list[ConsumedMessage]]
) -> None:
    first, second, *_ = await parked_of(platform, admin)
    path = f"{PARKED}/{first['id']}"
    without = await ask(platform, admin, "DELETE", path)
    done = [await ask(platform, admin, "DELETE", path, reason="Of a test account") for _ in range(2)]
    await ask(platform, admin, "DELETE", f"{PARKED}/{second['id']}", reason="This one too")
    discarded = (await ask(platform, admin, "GET", "/api/projections/history/discarded", limit=1)).json()
    older = await ask(
        platform, admin, "GET", "/api/projections/history/discarded", limit=1, cursor=discarded["nextCursor"]
    )
    of_second = await platform.http.get(
        "/api/projections/history/discarded", headers={**admin_of_second.headers, "Host": SECOND}
    )

    assert_problem(without, "invalid-request")
    assert [answer.status_code for answer in done] == [204, 404]
    assert [item["reason"] for item in discarded["items"]] == ["This one too"]
    [kept] = older.json()["items"]
    assert (kept["id"], kept["reason"], kept["discardedBy"]) == (first["id"], "Of a test account", admin.id)
    assert kept["parkedBecause"] == "a mistake that is fixed since"
    assert of_second.json()["items"] == []
    assert_problem(await ask(platform, admin, "GET", PARKED, cursor=discarded["nextCursor"]), "invalid-cursor")
