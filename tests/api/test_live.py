"""What a process does with messages: gaps, wiped Redis, slow clients, and who must end. On a real Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from adapters import redis
from adapters.live import FAN_OUT, LAST_ID, Backlog, FanOut, LiveMessage, LiveStreams, property_stream, user_stream
from adapters.settings import Settings
from api.errors import ApiError
from api.live import BLOCK_SECONDS, Live
from api.live_client import Client
from api.live_messages import ClientMessage
from api.revocations import Revocations
from api.shown_images import FileUrls
from api.tokens import Caller
from domain.roles import UserRole
from tests.platform import until
from tests.samples import new_id

HOUR = 3600


class InterruptedStreams(LiveStreams):
    """Runs what a test wants right before the streams are opened next, or right after, before the caller goes on."""

    before: Callable[[], Awaitable[None]] | None = None
    after: Callable[[], Awaitable[None]] | None = None

    async def open(self, positions: Mapping[str, str | None]) -> Backlog:
        before, after, self.before, self.after = self.before, self.after, None, None
        if before:
            await before()
        backlog = await super().open(positions)
        if after:
            await after()
        return backlog


class Process:
    """A process without its loops: it reads when the test says so."""

    def __init__(self, valkey: Redis, settings: Settings) -> None:
        self.streams = InterruptedStreams(valkey)
        self.closed: set[tuple[str, UUID]] = set()
        self.fan_out = FanOut(redis.connect_blocking(settings, BLOCK_SECONDS))
        closed = cast(Revocations, self.closed)
        self.live = Live(self.streams, self.fan_out, closed, 3, 100, lambda _: FileUrls("https://cdn.example"))
        self.aborted: list[Client] = []

    async def open(
        self, tenant: str, user: UUID, *listings: str, position: str | None = None, resumed: bool = True
    ) -> Client:
        """A client that has begun, at a position (from which it resumes, or of its ticket) or at the end."""
        caller = Caller(user, tenant, UserRole.USER, new_id(), expires=int(time.time()) + HOUR)
        client = Client(caller, "192.0.2.1", "sse", lambda: self.aborted.append(client))
        own = user_stream(tenant, user)
        at = position or await self.live.position(own)
        self.live.admit(client)
        await self.live.begin(client, own, listings, at, resumed=resumed and position is not None)
        return client

    async def send(self, stream: str, *data: str) -> None:
        await self.streams.publish([LiveMessage(stream, "history", str(new_id()), one.encode()) for one in data])


@pytest.fixture
async def process(valkey: Redis, settings: Settings) -> AsyncIterator[Process]:
    one = Process(valkey, settings)
    await one.live._read()
    yield one
    await one.live.close()


@pytest.fixture
def user() -> UUID:
    return new_id()


@pytest.fixture
def stream(tenant: str, user: UUID) -> str:
    return user_stream(tenant, user)


async def taken(client: Client) -> list[str]:
    """What waits for a client: the data of messages, the types of others."""
    messages: list[ClientMessage] = await client.take()
    return [message.data.decode() if message.type == "history" else message.type for message in messages]


async def test_messages_come_in_order_and_once(process: Process, tenant: str, user: UUID, stream: str) -> None:
    client = await process.open(tenant, user)
    await process.send(stream, "1", "2")
    await process.live._read()
    await process.send(stream, "3")
    for _ in range(2):
        await process.live._read()

    assert await taken(client) == ["ready", "1", "2", "3"]


@pytest.mark.parametrize("backlog", [0, 3, 7])
async def test_changes_of_a_listing_that_is_no_longer_public_are_not_for_strangers(
    process: Process, tenant: str, user: UUID, backlog: int
) -> None:
    listing, owner = new_id(), new_id()
    stream = property_stream(tenant, listing)
    own = await process.open(tenant, owner, stream)
    position = await process.live.position(user_stream(tenant, user))

    async def change(version: int, is_public: bool) -> None:
        data = {"propertyId": str(listing), "version": version, "change": "PROPERTY_UPDATED", "state": {"price": 1}}
        changed = orjson.dumps(data | {"ownerId": str(owner), "isPublic": is_public})
        await process.streams.publish([LiveMessage(stream, "property", f"property:{version}", changed)])

    shown = [True, False, False, True, False, False, False]
    for n in range(backlog):
        await change(n, shown[n])
    stranger = await process.open(tenant, user, stream, position=position)
    for n in range(backlog, len(shown)):
        await change(n, shown[n])
    await process.live._read()

    def versions(messages: list[ClientMessage]) -> list[tuple[int, bool]]:
        found = [orjson.loads(message.data) for message in messages if message.type == "property"]
        return [(data["version"], data["listing"] is not None) for data in found]

    assert versions(await stranger.take()) == [(0, True), (1, False), (3, True), (4, False)]
    assert versions(await own.take()) == [(n, True) for n in range(len(shown))]


async def test_listing_is_hidden_again_after_it_was_watched_anew(process: Process, tenant: str, user: UUID) -> None:
    """What was between two subscriptions, or is lost, may have made it public."""
    stream = property_stream(tenant, new_id())
    client = await process.open(tenant, user, stream)

    def hidden(n: int) -> ClientMessage:
        return ClientMessage(f"{10**14 + n}-0", "property", b"%d" % n, stream, is_hidden=True)

    for n in range(2):
        client.push(hidden(n))
    process.live.unsubscribe(client, [stream])
    await process.live.subscribe(client, [stream])
    for n in range(2, 4):
        client.push(hidden(n))
    client.reset(f"{10**14 + 4}-0")
    for n in range(5, 7):
        client.push(hidden(n))

    assert [message.data for message in await client.take() if message.type == "property"] == [b"0", b"2", b"5"]


@pytest.mark.parametrize(
    ("resumed", "moment", "expected"),
    [
        (True, "before", ["1", "2", "ready"]),
        (True, "after", ["ready", "1", "2"]),
        (False, "before", ["2", "ready"]),
        (False, "after", ["ready", "1", "2"]),
    ],
)
async def test_message_between_subscribing_and_the_first_read_is_delivered_once(
    process: Process, tenant: str, user: UUID, stream: str, resumed: bool, moment: str, expected: list[str]
) -> None:
    """The process reads the message while the stream is being opened, before Redis reads the backlog or after: 1 of the
    listing, 2 of the user."""
    listing = property_stream(tenant, new_id())
    first = await process.open(tenant, user, listing)
    [ready] = await first.take()

    async def publish() -> None:
        await process.send(listing, "1")
        await process.send(stream, "2")
        await process.live._read()

    setattr(process.streams, moment, publish)
    second = await process.open(tenant, user, listing, position=ready.id, resumed=resumed)
    await process.live._read()

    assert await taken(second) == expected
    assert await taken(first) == ["1", "2"]


async def test_redis_that_is_wiped_while_a_stream_is_opened_resets_its_client(
    process: Process, valkey: Redis, tenant: str, user: UUID, stream: str
) -> None:
    first = await process.open(tenant, user)
    [ready] = await first.take()

    async def wipe() -> None:
        await valkey.flushall()
        await process.live._read()

    process.streams.after = wipe
    client = await process.open(tenant, user, position=ready.id)
    await process.send(stream, "1")
    await process.live._read()

    assert await taken(client) == ["ready", "reset", "1"]


async def test_stream_that_ends_while_it_is_opened_says_why(tenant: str) -> None:
    caller = Caller(new_id(), tenant, UserRole.USER, new_id(), expires=0)
    client = Client(caller, "192.0.2.1", "sse", lambda: None)
    client.end("session-closed", "1-0")
    client.begin("2-0", [ClientMessage("2-0", "ready")])

    assert [(message.type, message.id) for message in await client.take()] == [("ready", "2-0"), ("end", "2-0")]
    assert await client.take() == []


async def test_process_that_is_later_than_the_fan_out_misses_nothing(
    process: Process, valkey: Redis, tenant: str, user: UUID, stream: str
) -> None:
    """It reads the streams of its clients."""
    client, other = await process.open(tenant, user), await process.open(tenant, new_id())
    await process.send(stream, "1", "2")
    await valkey.delete(FAN_OUT)
    await process.live._read()
    await process.send(stream, "3")
    await valkey.delete(FAN_OUT)
    await process.send(stream, "4")
    await process.live._read()

    assert await taken(client) == ["ready", "1", "2", "3", "4"]
    assert await taken(other) == ["ready"]


async def test_lost_last_id_resets_nobody(
    process: Process, valkey: Redis, tenant: str, user: UUID, stream: str
) -> None:
    client = await process.open(tenant, user)
    await process.send(stream, "1")
    await valkey.delete(LAST_ID)
    await process.send(stream, "2")
    await process.live._read()

    assert await taken(client) == ["ready", "1", "2"]


async def test_wiped_redis_resets_clients_which_then_go_on(
    process: Process, valkey: Redis, tenant: str, user: UUID, stream: str
) -> None:
    client = await process.open(tenant, user)
    await process.send(stream, "lost")
    await valkey.flushall()
    await process.send(stream, "lost too")
    await process.live._read()
    await process.send(stream, "1")
    await process.live._read()

    assert await taken(client) == ["ready", "reset", "1"]


async def test_redis_that_was_wiped_and_used_by_others_resets_clients(
    process: Process, valkey: Redis, tenant: str, user: UUID, stream: str
) -> None:
    client = await process.open(tenant, user)
    await valkey.flushall()
    elsewhere = user_stream(tenant, new_id())
    await process.streams.open({elsewhere: None})
    await process.send(elsewhere, "of another")
    await process.live._read()

    assert await taken(client) == ["ready", "reset"]


async def test_evicted_stream_resets_its_subscribers_only(
    process: Process, valkey: Redis, tenant: str, user: UUID, stream: str
) -> None:
    client, other = await process.open(tenant, user), await process.open(tenant, new_id())
    await valkey.delete(stream)
    await process.live.extend()
    await process.send(stream, "1")
    for _ in range(2):
        await process.live._read()

    assert await taken(client) == ["ready", "reset", "1"]
    assert await taken(other) == ["ready"]


async def test_stream_that_was_evicted_and_is_opened_by_another_process_resets_its_earlier_subscribers(
    process: Process, valkey: Redis, settings: Settings, tenant: str, user: UUID, stream: str
) -> None:
    client = await process.open(tenant, user)
    await valkey.delete(stream)
    await process.send(stream, "lost")
    elsewhere = Process(valkey, settings)
    await elsewhere.live._read()
    later = await elsewhere.open(tenant, user)
    await process.send(stream, "1")
    for one in (process, elsewhere):
        await one.live._read()
    await elsewhere.live.close()

    assert await taken(client) == ["ready", "reset", "1"]
    assert await taken(later) == ["ready", "1"]


async def test_streams_of_later_clients_do_not_reset_earlier_ones(process: Process, tenant: str, user: UUID) -> None:
    listing = property_stream(tenant, new_id())
    client = await process.open(tenant, user)
    await process.live.subscribe(client, [listing])
    await process.open(tenant, user, listing)
    await process.live._read()
    await process.live.extend()
    await process.live._read()

    assert await taken(client) == ["ready"]


async def test_client_that_does_not_read_is_dropped(process: Process, tenant: str, user: UUID, stream: str) -> None:
    slow, quick = await process.open(tenant, user), await process.open(tenant, user)
    for _ in range(11):
        await process.send(stream, *map(str, range(100)))
        await process.live._read()
        await taken(quick)

    assert (slow.ended, quick.ended, process.aborted) == ("slow", None, [slow])
    *_, newest = await slow.take()
    again = await process.open(tenant, user, position=newest.id)
    assert len(await taken(again)) == 101, "it goes on where it was"


async def test_backlog_does_not_count_as_slow(process: Process, tenant: str, user: UUID, stream: str) -> None:
    first = await process.open(tenant, user)
    position = (await first.take())[0].id
    await process.send(stream, *map(str, range(900)))
    client = await process.open(tenant, user, position=position)
    await process.send(stream, *map(str, range(900)))
    await process.live._read()

    assert client.ended is None
    assert len(await taken(client)) == 1801


async def test_client_ends_with_its_session_and_its_token(process: Process, tenant: str) -> None:
    clients = [await process.open(tenant, new_id()) for _ in range(3)]
    process.closed.add((tenant, clients[0].caller.session_id))
    object.__setattr__(clients[1].caller, "expires", int(time.time()))
    process.live.check()

    assert [client.ended for client in clients] == ["session-closed", "token-expired", None]
    assert [await taken(client) for client in clients] == [["ready", "end"], ["ready", "end"], ["ready"]]
    assert await clients[0].take() == []


async def test_client_that_does_not_take_its_last_message_is_cut_off(process: Process, tenant: str, user: UUID) -> None:
    client = await process.open(tenant, user)
    process.live.end(client, "too-many-messages")
    process.live.check()
    assert process.aborted == []
    client.ended_at -= 2
    process.live.check()
    assert process.aborted == [client]


async def test_silent_stream_has_a_heartbeat_with_the_position(
    process: Process, tenant: str, user: UUID, stream: str
) -> None:
    client = await process.open(tenant, user)
    await client.take()
    elsewhere = user_stream(tenant, new_id())
    await process.streams.open({elsewhere: None})
    await process.send(elsewhere, "of another")
    await process.live._read()
    client.sent_at -= 15
    process.live.check()
    process.live.check()

    [heartbeat] = await client.take()
    assert (heartbeat.type, heartbeat.id) == ("heartbeat", process.live._position)
    assert heartbeat.as_event == f": heartbeat\nid: {heartbeat.id}\n\n".encode()
    again = await process.open(tenant, user, position=heartbeat.id)
    assert await taken(again) == ["ready"]


async def test_streams_of_a_user_are_limited_until_one_is_closed(process: Process, tenant: str, user: UUID) -> None:
    clients = [await process.open(tenant, user) for _ in range(3)]
    with pytest.raises(ApiError) as refused:
        await process.open(tenant, user)
    assert refused.value.kind == "too-many-streams"
    for _ in range(2):
        process.live.remove(clients[0])
    await process.open(tenant, user)


async def test_listing_without_subscribers_is_forgotten(process: Process, tenant: str, user: UUID) -> None:
    listing = property_stream(tenant, new_id())
    client = await process.open(tenant, user, listing)
    assert listing in process.live._subscribers
    process.live.unsubscribe(client, [listing])
    assert listing not in process.live._subscribers
    process.live.remove(client)
    assert not process.live._subscribers
    assert not process.live._opened_at


async def test_message_of_another_release_is_passed_over(
    process: Process, tenant: str, user: UUID, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await process.open(tenant, user)
    unknown: list[tuple[str, Any]] = [("tour", b"{}"), ("command", b"{}"), ("property", b"[]"), ("notification", b"no")]
    await process.streams.publish([LiveMessage(stream, type, str(new_id()), data) for type, data in unknown])
    await process.send(stream, "1")
    await process.live._read()

    assert await taken(client) == ["ready", "1"]
    assert len(caplog.records) == 4


async def test_without_redis_a_stream_is_refused(settings: Settings, tenant: str, user: UUID) -> None:
    client = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    process = Process(client, settings)
    with pytest.raises(ApiError) as refused:
        await process.open(tenant, user)
    assert refused.value.kind == "unavailable"
    await process.live.close()
    await client.aclose()


async def test_outage_of_redis_is_logged_once_and_reading_goes_on(
    process: Process, settings: Settings, tenant: str, user: UUID, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await process.open(tenant, user)
    nowhere = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    process.live._streams = LiveStreams(nowhere)
    caplog.set_level("INFO", logger="api.live")
    process.live.start()

    async def fails() -> bool:
        return process.live._fails

    await until(fails)
    process.live._streams = process.streams
    await process.send(stream, "1")

    async def goes_on() -> bool:
        return len(client._queue) == 2 and not process.live._fails

    await until(goes_on)
    await nowhere.aclose()

    assert await taken(client) == ["ready", "1"]
    assert [record.levelname for record in caplog.records if record.name == "api.live"] == ["WARNING", "INFO"]


async def test_process_that_stops_ends_its_streams_and_takes_no_more(process: Process, tenant: str, user: UUID) -> None:
    client = await process.open(tenant, user)
    draining = asyncio.create_task(process.live.drain())
    assert await taken(client) == ["ready"]
    assert await taken(client) == ["end"]
    process.live.remove(client)
    await draining

    with pytest.raises(ApiError) as refused:
        await process.open(tenant, new_id())
    assert refused.value.kind == "unavailable"
