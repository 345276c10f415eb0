"""Live streams on the platform, with several processes of the API: nothing is missed, and nobody sees another's."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import websockets
from redis.asyncio import Redis

from adapters.live import LiveMessage, LiveStreams, user_stream
from domain.roles import UserRole
from domain.user import UserStatus
from domain.user_commands import ChangeRole, ChangeUserStatus
from tests.activities.accounts import Saving
from tests.api.conftest import Replica
from tests.api.test_contract import assert_problem
from tests.platform import PASSWORD, Person, Platform, until
from tests.samples import new_id
from tests.streams import Message, Stream, events, ticket, websocket


def about(property_id: str) -> Callable[[Message], bool]:
    return lambda data: data.get("activityData", data).get("propertyId") == property_id


async def create(platform: Platform, person: Person, **more: Any) -> str:
    """The id of a new listing."""
    created = await platform.create(person, **more)
    assert created.status_code == 201, created.text
    found: str = created.json()["id"]
    return found


async def test_own_command_is_seen_as_it_is_saved_and_published_and_in_the_history(platform: Platform) -> None:
    person = await platform.register()
    async with events(platform.http, await ticket(platform.http, person)) as stream:
        created = await platform.create(person)
        command, listing = created.headers["command-id"], created.json()["id"]

        saved = await stream.until("command", lambda data: data["stage"] == "saved" and data["commandId"] == command)
        published = await stream.until("command", lambda d: d["stage"] == "published" and d["commandId"] == command)
        entry = await stream.until("history", about(listing))

    assert (saved["type"], saved["status"], saved["aggregateId"]) == ("create-property", "COMPLETED", listing)
    assert (published["status"], published["location"]) == ("COMPLETED", f"/api/commands/{command}")
    assert published["aggregateId"] == listing
    assert entry in await platform.history(person, created.headers["consistency-token"])
    assert stream.retry == 2000
    ids = [tuple(map(int, message["id"].split("-"))) for message in stream.messages]
    assert ids == sorted(ids)


async def test_refused_command_is_seen_with_its_problem(platform: Platform) -> None:
    person, other = await platform.register(), await platform.register()
    listing = await create(platform, other)
    async with events(platform.http, await ticket(platform.http, person)) as stream:
        refused = await platform.change(person, "PUT", f"/api/properties/{listing}/status", {"status": "SOLD"})
        seen = await stream.until("command", lambda data: data["stage"] == "refused")

    state = await platform.http.get(seen["location"], headers=person.headers)
    assert (seen["status"], seen["type"]) == ("REFUSED", "change-property-status")
    assert seen["problem"] == state.json()["problem"] | {"instance": None}
    assert seen["problem"]["type"] == refused.json()["type"] == "/problems/forbidden"


async def test_failed_command_is_seen(platform: Platform, temporal_client: Any) -> None:
    """Only a workflow that is started by hand has a command that cannot be read."""
    person, command = await platform.register(), new_id()
    unreadable = {"type": "create-property", "tenantId": "hyderabad", "userId": person.id, "commandId": str(command)}
    async with events(platform.http, await ticket(platform.http, person)) as stream:
        await temporal_client.start_workflow(
            "create-property", unreadable, id=f"create-property/{command}", task_queue="commands"
        )
        seen = await stream.until("command", lambda data: data["commandId"] == str(command))

    assert (seen["stage"], seen["status"]) == ("failed", "FAILED")
    assert seen["problem"]["type"] == "/problems/command-failed"


async def test_notification_is_seen_as_the_inbox_shows_it(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    listing = await create(platform, owner, price=9_000_000)
    await platform.http.put(f"/api/properties/{listing}/favorite", headers=fan.headers)
    async with websocket(platform.http, await ticket(platform.http, fan)) as stream:
        await platform.change(owner, "PATCH", f"/api/properties/{listing}", {"price": 8_000_000})
        seen = await stream.until("notification", about(listing))

    async def listed() -> list[dict[str, Any]]:
        page = (await platform.http.get("/api/notifications", headers=fan.headers)).json()
        return [item for item in page["items"] if item["id"] == seen["id"]]

    assert await until(listed) == [seen]
    assert seen["kind"] == "PRICE_DROPPED"


async def test_watched_listing_is_seen_by_everyone_while_it_is_public(platform: Platform) -> None:
    owner, visitor = await platform.register(), await platform.register()
    listing = await create(platform, owner, contactName="Ravi Kumar", contactPhone="98480 12345")
    path, http = f"/api/properties/{listing}", platform.http
    async with (
        events(http, await ticket(http, visitor), property=listing) as watching,
        websocket(http, await ticket(http, owner), f"&property={listing}") as own,
        events(http, await ticket(http, visitor)) as elsewhere,
    ):
        await platform.change(owner, "PATCH", path, {"price": 7_000_000})
        cheaper = await watching.until("property", lambda data: data["change"] == "PROPERTY_PRICE_CHANGED")
        await platform.change(owner, "PUT", f"{path}/status", {"status": "PAUSED"})
        hidden = await watching.until("property", lambda data: data["version"] == 3)
        still_own = await own.until("property", lambda data: data["version"] == 3)
        await platform.change(owner, "DELETE", path)
        deleted = await own.until("property", lambda data: data["change"] == "PROPERTY_DELETED")

    assert (cheaper["version"], cheaper["listing"]["price"]) == (2, 7_000_000)
    assert not [name for name in cheaper["listing"] if "contact" in name]
    assert "98480" not in json.dumps(watching.messages + own.messages)
    assert hidden["listing"] is None
    assert still_own["listing"]["status"] == "PAUSED"
    assert deleted["listing"] is None
    assert not elsewhere.of("property")


async def test_websocket_chooses_listings_later(platform: Platform) -> None:
    owner, visitor = await platform.register(), await platform.register()
    first, second = [await create(platform, owner) for _ in range(2)]
    async with websocket(platform.http, await ticket(platform.http, visitor)) as stream:
        await stream.send("subscribe", first, second)
        await stream.until("subscribed", lambda data: set(data["properties"]) == {first, second})
        await stream.send("unsubscribe", first)
        await stream.until("subscribed", lambda data: data["properties"] == [second])
        for listing in (first, second):
            await platform.change(owner, "PATCH", f"/api/properties/{listing}", {"price": 5_000_000})
        # A message about how the listing began may come here too: it is published after the answer.
        await stream.until("property", lambda data: (data["propertyId"], data["version"]) == (second, 2))

        draft = await create(platform, owner, status="DRAFT")
        for ids in ([draft], [str(uuid4())], ["no id"], [], [str(uuid4()) for _ in range(21)]):
            await stream.send("subscribe", *ids)
        await stream.send_text("{")
        await stream.send_text("{" + " " * 10_000)

        async def answered() -> bool:
            return len(stream.of("error")) == 7

        await until(answered)

    changes = [data["propertyId"] for data in stream.of("property") if data["version"] == 2]
    assert changes == [second]
    kinds = [problem["type"].removeprefix("/problems/") for problem in stream.of("error")]
    assert kinds == ["not-found"] * 2 + ["invalid-request"] * 5


async def test_client_of_a_websocket_that_talks_too_much_is_disconnected(platform: Platform) -> None:
    person = await platform.register()
    async with websocket(platform.http, await ticket(platform.http, person)) as stream:
        for _ in range(61):
            await stream.send_text("?")
        await asyncio.wait_for(stream.ended.wait(), 10)

    assert (stream.of("end"), stream.close_code) == ([{"reason": "too-many-messages"}], 1008)


async def test_message_of_a_websocket_that_is_too_large_closes_it(platform: Platform) -> None:
    person = await platform.register()
    async with websocket(platform.http, await ticket(platform.http, person)) as stream:
        await stream.send_text(" " * 20_000)
        await asyncio.wait_for(stream.ended.wait(), 10)

    assert stream.close_code == 1009


async def test_ticket_opens_one_stream_also_when_two_use_it_at_once(
    platform: Platform, second: httpx.AsyncClient
) -> None:
    person = await platform.register()
    issued = await platform.http.post("/api/stream/tickets", headers=person.headers)
    one, left = issued.json()["ticket"], datetime.fromisoformat(issued.json()["expiresAt"]) - datetime.now(UTC)

    async def opens(http: httpx.AsyncClient) -> int:
        async with http.stream("GET", "/api/stream", params={"ticket": one}) as answer:
            return answer.status_code

    statuses = await asyncio.gather(*(opens(http) for http in [platform.http, second] * 5))
    again = await platform.http.get("/api/stream", params={"ticket": one})

    assert sorted(statuses) == [200] + [401] * 9
    assert_problem(again, "invalid-ticket")
    assert 0 < left.total_seconds() < 31
    assert issued.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("made_up", ["x", "hyderabad.x", "second.x", "", ".", "hyderabad." + "x" * 43])
async def test_ticket_that_was_not_issued_is_refused(platform: Platform, made_up: str) -> None:
    assert_problem(await platform.http.get("/api/stream", params={"ticket": made_up}), "invalid-ticket")
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websocket(platform.http, made_up):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["type"] == "/problems/invalid-ticket"


async def test_ticket_of_another_tenant_is_refused_and_not_used_up(platform: Platform) -> None:
    person = await platform.register()
    one = await ticket(platform.http, person)
    elsewhere = await platform.http.get("/api/stream", params={"ticket": one}, headers={"Host": "second.localhost"})
    assert_problem(elsewhere, "invalid-ticket")
    async with events(platform.http, one) as stream:
        assert stream.of("ready") == [{}]


async def test_listing_of_another_tenant_cannot_be_watched(platform: Platform) -> None:
    listing = await create(platform, await platform.register())
    stranger = await platform.register("second.localhost")
    async with websocket(platform.http, await ticket(platform.http, stranger)) as by_socket:
        await by_socket.send("subscribe", listing)
        refused = await by_socket.until("error")

    answer = await platform.http.get(
        "/api/stream", params={"ticket": await ticket(platform.http, stranger), "property": listing}
    )

    assert_problem(answer, "not-found")
    assert refused["type"] == "/problems/not-found"


async def test_messages_of_others_are_not_seen(platform: Platform) -> None:
    watcher, busy = await platform.register(), await platform.register()
    other = await platform.register("second.localhost")
    http = platform.http
    async with AsyncExitStack() as stack:
        quiet = [
            await stack.enter_async_context(events(http, await ticket(http, person))) for person in (watcher, other)
        ]
        loud = await stack.enter_async_context(events(http, await ticket(http, busy)))
        listing = await create(platform, busy)
        await loud.until("history", about(listing))
        # Later than the other's, so whoever would get both has the other's first.
        own = await create(platform, watcher)
        await quiet[0].until("history", about(own))

    assert {data["userId"] for data in quiet[0].of("history")} == {watcher.id}
    assert quiet[1].messages == [message for message in quiet[1].messages if message["type"] == "ready"]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("", "ticket"),
        ("?ticket=x&property=no-id", "property"),
        ("?ticket=x&lastEventId=yesterday", "lastEventId"),
        ("?ticket=x&ticket=y", "ticket"),
        ("?ticket=x&listing=1", "listing"),
        ("?ticket=x" + "".join(f"&property={uuid4()}" for _ in range(21)), "property"),
    ],
)
async def test_invalid_parameters_are_refused_by_name(platform: Platform, query: str, fault: str) -> None:
    by_events = await platform.http.get(f"/api/stream{query}")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"{platform.url.replace('http', 'ws')}/api/stream/ws{query}", proxy=None)
    by_socket = json.loads(refused.value.response.body)

    assert_problem(by_events, "invalid-request")
    for problem in (by_events.json(), by_socket):
        assert [error["field"] for error in problem["errors"] if error["field"].startswith(f"query.{fault}")]
    assert refused.value.response.status_code == 422


async def test_websocket_of_a_foreign_page_is_refused(platform: Platform) -> None:
    person = await platform.register()
    http, host = platform.http, platform.url.removeprefix("http://")
    for origin in ("https://evil.example", "null", f"http://evil.example/{host}"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websocket(http, await ticket(http, person), origin=origin):
                pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["type"] == "/problems/origin-not-allowed"
    for origin in ("https://portal.example", f"http://{host}"):
        async with websocket(http, await ticket(http, person), origin=origin) as stream:
            assert stream.of("ready") == [{}]


async def test_stream_of_a_listed_origin_has_its_headers(platform: Platform) -> None:
    person = await platform.register()
    query, headers = {"ticket": await ticket(platform.http, person)}, {"Origin": "https://portal.example"}
    async with platform.http.stream("GET", "/api/stream", params=query, headers=headers) as answer:
        assert answer.headers["access-control-allow-origin"] == "https://portal.example"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"


async def test_head_opens_no_stream(platform: Platform) -> None:
    person = await platform.register()
    query = {"ticket": await ticket(platform.http, person)}

    answer = await platform.http.head("/api/stream", params=query)

    assert (answer.status_code, answer.content) == (200, b"")
    async with events(platform.http, query["ticket"]) as stream:
        assert stream.of("ready") == [{}]


@pytest.mark.parametrize("closed_by", ["logout", "password change", "suspension", "erasure"])
async def test_closed_session_ends_its_streams_on_every_process(
    platform: Platform, second: httpx.AsyncClient, saving: Saving, valkey: Redis, closed_by: str
) -> None:
    person, other = await platform.register(), await platform.register()
    elsewhere = await platform.login(person)
    unused = await ticket(platform.http, person)
    http = platform.http
    async with (
        events(http, await ticket(http, person)) as first,
        websocket(second, await ticket(second, person)) as by_socket,
        events(second, await ticket(http, elsewhere)) as of_other_session,
        events(http, await ticket(http, other)) as of_other,
    ):
        if closed_by == "logout":
            await http.post("/api/auth/logout", json={"refreshToken": person.refresh_token})
        elif closed_by == "password change":
            change = {"currentPassword": PASSWORD, "newPassword": "another horse battery"}
            answer = await http.post("/api/users/password", json=change, headers=elsewhere.headers)
            assert answer.status_code == 204, answer.text
        elif closed_by == "suspension":
            await _suspend(platform, saving, person)
        else:
            await http.request("DELETE", "/api/users/profile", json={"password": PASSWORD}, headers=person.headers)
        for stream in (first, by_socket):
            await asyncio.wait_for(stream.ended.wait(), 5)
        closes_every_session = closed_by in {"suspension", "erasure"}
        if closes_every_session:
            await asyncio.wait_for(of_other_session.ended.wait(), 5)
        assert of_other_session.ended.is_set() == closes_every_session
        assert not of_other.ended.is_set()

    assert first.of("end") == by_socket.of("end") == [{"reason": "session-closed"}]
    assert by_socket.close_code == 4401
    assert_problem(await http.get("/api/stream", params={"ticket": unused}), "session-closed")
    if closed_by == "erasure":

        async def forgotten() -> bool:
            return not [key async for key in valkey.scan_iter(f"*{person.id}*")]

        await until(forgotten, 60)


async def _suspend(platform: Platform, saving: Saving, person: Person) -> None:
    administrator = await platform.register()

    def command() -> dict[str, Any]:
        return {"command_id": new_id(), "tenant_id": "hyderabad", "issued_at": datetime.now(UTC)}

    await saving.user(ChangeRole(**command(), user_id=UUID(administrator.id), role=UserRole.ADMIN))
    change = {"account_id": UUID(person.id), "status": UserStatus.SUSPENDED}
    await saving.user(ChangeUserStatus(**command(), user_id=UUID(administrator.id), **change))


async def test_ticket_needs_a_token(platform: Platform) -> None:
    assert_problem(await platform.http.post("/api/stream/tickets"), "unauthenticated")


async def test_client_that_is_cut_off_misses_nothing_on_another_process(platform: Platform, victim: Replica) -> None:
    """Its process is killed while it creates listings; it goes on at another one, from the last id that it has."""
    person = await platform.register()
    http, made = platform.http, []
    async with events(victim.http, await ticket(http, person)) as before:
        made += [await create(platform, person) for _ in range(3)]
        await before.until("history", about(made[0]))
        assert victim.process.pid
        os.kill(victim.process.pid, signal.SIGKILL)
        made += [await create(platform, person) for _ in range(3)]
        await asyncio.wait_for(before.ended.wait(), 10)

    last = before.last_id
    ways: list[Callable[[str], AbstractAsyncContextManager[Stream]]] = [
        lambda one: events(http, one, last_event_id=last),
        lambda one: events(http, one, lastEventId=last),
        lambda one: websocket(http, one, f"&lastEventId={last}"),
    ]
    for resume in ways:
        async with resume(await ticket(http, person)) as after:
            made.append(await create(platform, person))
            await after.until("history", about(made[-1]))

        seen = [data["activityData"].get("propertyId") for data in before.of("history") + after.of("history")]
        assert sorted(filter(None, seen)) == sorted(made), "each once"
        assert not after.of("reset")
        stages = [(data["stage"], data["aggregateId"]) for data in before.of("command") + after.of("command")]
        assert {(stage, id) for stage in ("saved", "published") for id in made} <= set(stages)
        assert len(stages) == len(set(stages))


async def test_position_that_is_too_old_is_answered_with_a_reset(platform: Platform) -> None:
    person = await platform.register()
    async with events(platform.http, await ticket(platform.http, person), last_event_id="1700000000000-0") as stream:
        assert [message["type"] for message in stream.messages[:2]] == ["reset", "ready"]


async def test_wiped_redis_resets_the_streams_and_they_go_on(
    platform: Platform, second: httpx.AsyncClient, valkey: Redis
) -> None:
    person = await platform.register()
    http = platform.http
    async with (
        events(http, await ticket(http, person)) as first,
        websocket(second, await ticket(http, person)) as by_socket,
    ):
        await valkey.flushall()
        for stream in (first, by_socket):
            await stream.until("reset")
        listing = await create(platform, person)
        for stream in (first, by_socket):
            await stream.until("history", about(listing))
        resumed_from = first.last_id

    async with events(http, await ticket(http, person), last_event_id=resumed_from) as again:
        assert not again.of("reset")


async def test_streams_end_when_their_process_stops(platform: Platform, victim: Replica) -> None:
    person = await platform.register()
    http = platform.http
    async with (
        events(victim.http, await ticket(http, person)) as stream,
        websocket(victim.http, await ticket(http, person)) as by_socket,
    ):
        await victim.process.stop()
        for one in (stream, by_socket):
            await asyncio.wait_for(one.ended.wait(), 5)

    assert stream.of("end") == by_socket.of("end") == [{"reason": "restart"}]
    assert by_socket.close_code == 1012
    assert "timeout graceful shutdown exceeded" not in victim.process.spec.log.read_text()


async def test_open_streams_of_a_user_and_from_an_address_are_limited(platform: Platform, victim: Replica) -> None:
    """Three of a user, five from an address."""
    people = [await platform.register() for _ in range(2)]
    http = victim.http
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(events(http, await ticket(http, people[0])))
        by_socket = await stack.enter_async_context(websocket(http, await ticket(http, people[0])))
        of_user = await http.get("/api/stream", params={"ticket": await ticket(http, people[0])})
        for _ in range(2):
            await stack.enter_async_context(events(http, await ticket(http, people[1])))
        of_address = await http.get("/api/stream", params={"ticket": await ticket(http, people[1])})
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websocket(http, await ticket(http, people[1])):
                pass
        metrics = (await http.get("/metrics")).text
        assert not by_socket.ended.is_set()
    assert "3 open streams" in assert_problem(of_user, "too-many-streams")["detail"]
    assert "5 streams" in assert_problem(of_address, "too-many-streams")["detail"]
    assert refused.value.response.status_code == 409
    assert 'live_streams{transport="sse"} 4.0' in metrics

    async def all_closed() -> bool:
        return 'live_streams{transport="sse"} 0.0' in (await http.get("/metrics")).text

    await until(all_closed)


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_client_that_does_not_read_is_dropped_and_the_others_are_not(
    platform: Platform, victim: Replica, valkey: Redis, transport: str
) -> None:
    person = await platform.register()
    http, streams = victim.http, LiveStreams(valkey)
    mine = user_stream("hyderabad", UUID(person.id))
    _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port, limit=1)
    path = "/api/stream/ws" if transport == "websocket" else "/api/stream"
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        if transport == "websocket"
        else ""
    )
    one = await ticket(http, person)
    writer.write(f"GET {path}?ticket={one} HTTP/1.1\r\nHost: {http.base_url.netloc.decode()}\r\n{upgrade}\r\n".encode())
    ended = 'live_streams_ended_total{reason="slow"} 1.0'

    async with events(http, await ticket(http, person)) as other:

        async def dropped() -> bool:
            batch = [LiveMessage(mine, "history", str(new_id()), b'{"a":"%s"}' % (b"x" * 20_000)) for _ in range(100)]
            await streams.publish(batch)
            return ended in (await http.get("/metrics")).text

        await until(dropped, 60)

        async def one_is_left() -> bool:
            left = f'live_streams{{transport="{transport}"}} {int(transport == "sse")}.0'
            return left in (await http.get("/metrics")).text

        await until(one_is_left)
        assert not other.ended.is_set()
    writer.close()
