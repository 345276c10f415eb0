"""Streams of live messages, on a real Valkey."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis

from adapters import live, redis
from adapters.live import (
    FAN_OUT,
    LAST_ID,
    RETENTION_SECONDS,
    Entry,
    FanOut,
    LiveMessage,
    LiveStreams,
    order_of,
    property_stream,
    user_stream,
)
from adapters.settings import Settings
from tests.samples import new_id


@pytest.fixture
def streams(valkey: Redis) -> LiveStreams:
    return LiveStreams(valkey)


@pytest.fixture
def stream(tenant: str) -> str:
    return user_stream(tenant, new_id())


def message(stream: str, key: str = "", data: bytes = b"{}") -> LiveMessage:
    return LiveMessage(stream, "history", key or str(new_id()), data)


def data_of(entries: list[Entry]) -> list[bytes]:
    return [entry.data for entry in entries if entry.type]


async def test_message_for_nobody_is_not_written(streams: LiveStreams, valkey: Redis, stream: str, tenant: str) -> None:
    assert await streams.publish([message(stream)]) == 0
    assert [key async for key in valkey.scan_iter(f"*{tenant}*")] == []


async def test_subscriber_finds_what_came_after_its_position(streams: LiveStreams, stream: str) -> None:
    begun = await streams.open({stream: None})
    await streams.publish([message(stream, data=b"1"), message(stream, data=b"2")])
    first = await streams.open({stream: begun.last})
    await streams.publish([message(stream, data=b"3")])

    assert (data_of(first.entries), first.incomplete) == ([b"1", b"2"], frozenset())
    assert data_of((await streams.open({stream: first.entries[0].id})).entries) == [b"2", b"3"]
    assert (await streams.open({stream: first.last})).entries[0].data == b"3"


async def test_message_is_written_once(streams: LiveStreams, stream: str) -> None:
    begun = await streams.open({stream: None})
    assert await streams.publish([message(stream, "a"), message(stream, "a"), message(stream, "b")]) == 2
    assert await streams.publish([message(stream, "b"), message(stream, "a")]) == 0
    assert len((await streams.open({stream: begun.last})).entries) == 2


async def test_ids_rise_over_all_streams(streams: LiveStreams, tenant: str) -> None:
    names = [user_stream(tenant, new_id()), property_stream(tenant, new_id())]
    begun = await streams.open(dict.fromkeys(names))
    await streams.publish([message(names[n % 2], data=b"%d" % n) for n in range(20)])

    entries = (await streams.open(dict.fromkeys(names, begun.last))).entries

    assert data_of(entries) == [b"%d" % n for n in range(20)]
    assert len({entry.order for entry in entries}) == 20
    _, fanned_out = await streams.read(begun.last)
    assert [entry for entry in fanned_out if entry.stream in names] == [
        Entry(entry.id, entry.stream, entry.type, entry.data, previous)
        for entry, previous in zip(entries, [begun.last, *(entry.id for entry in entries)], strict=False)
    ]


async def test_tenants_have_streams_of_their_own(streams: LiveStreams, tenant: str) -> None:
    user = new_id()
    ours, theirs = user_stream(tenant, user), user_stream(f"{tenant}-2", user)
    begun = await streams.open({ours: None, theirs: None})
    await streams.publish([message(ours)])

    assert [entry.stream for entry in (await streams.open({ours: begun.last, theirs: begun.last})).entries] == [ours]
    assert str(user) in ours, "an erasure finds it"


@pytest.mark.parametrize("position", ["0-0", "1700000000000-0", "99999999999999-0"])
async def test_position_that_the_stream_does_not_cover_is_incomplete(
    streams: LiveStreams, stream: str, position: str
) -> None:
    await streams.open({stream: None})
    assert (await streams.open({stream: position})).incomplete == {stream}


async def test_stream_keeps_the_newest_messages(
    streams: LiveStreams, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MAX_LENGTH", 10)
    begun = await streams.open({stream: None})
    await streams.publish([message(stream) for _ in range(9)])
    assert (await streams.open({stream: begun.last})).incomplete == frozenset()
    await streams.publish([message(stream) for _ in range(2)])

    assert (await streams.open({stream: begun.last})).incomplete == {stream}
    assert (await streams.open({stream: None})).incomplete == frozenset()


async def test_five_minutes_of_the_most_commands_are_kept(settings: Settings) -> None:
    """Each is saved, published and in the history."""
    assert 5 * settings.commands_per_minute * 3 <= live._MAX_LENGTH
    assert RETENTION_SECONDS > 5 * 60


async def test_old_messages_are_deleted(streams: LiveStreams, valkey: Redis, stream: str) -> None:
    """By the next message, and without one when the life of the stream is extended."""
    seconds, _ = await valkey.time()
    old = (seconds - RETENTION_SECONDS - 1) * 1000

    async def begin_with_an_old_message() -> None:
        await valkey.delete(stream)
        await valkey.xadd(stream, {"type": "history", "data": "old"}, id=f"{old}-1")
        await valkey.set(f"{stream}:since", f"{old}-0")

    await begin_with_an_old_message()
    await streams.publish([message(stream, data=b"new")])
    assert [fields[b"data"] for _, fields in await valkey.xrange(stream)] == [b"new"]  # type: ignore[index,union-attr]

    await begin_with_an_old_message()
    assert await streams.extend([stream]) == set()
    assert await valkey.xrange(stream) == []
    assert (await streams.open({stream: f"{old + 30_000}-0"})).incomplete == frozenset()
    assert (await streams.open({stream: f"{old}-1"})).incomplete == {stream}


async def test_client_that_reconnects_within_five_minutes_misses_nothing_and_a_later_one_is_told(
    streams: LiveStreams, valkey: Redis, stream: str
) -> None:
    seconds, _ = await valkey.time()

    def ago(age: int) -> str:
        return f"{(seconds - age) * 1000}-0"

    await streams.open({stream: None})
    await valkey.delete(stream)
    for age in (400, 290, 10):
        await valkey.xadd(stream, {"type": "history", "data": str(age)}, id=ago(age))
    await valkey.set(f"{stream}:since", ago(410))
    await streams.publish([message(stream, data=b"0")])

    in_time, late = await streams.open({stream: ago(300)}), await streams.open({stream: ago(405)})

    assert (data_of(in_time.entries), in_time.incomplete) == ([b"290", b"10", b"0"], frozenset())
    assert late.incomplete == {stream}


async def test_subscriber_of_a_quiet_stream_finds_the_first_message_that_it_missed(
    streams: LiveStreams, valkey: Redis, stream: str
) -> None:
    """Its position is later than everything that was deleted meanwhile."""
    begun = await streams.open({stream: None})
    seconds, _ = await valkey.time()
    old = (seconds - RETENTION_SECONDS - 60) * 1000
    await valkey.delete(stream)
    await valkey.xadd(stream, {"type": "", "data": ""}, id=f"{old}-0")
    await valkey.set(f"{stream}:since", f"{old}-0")
    await streams.publish([message(stream, data=b"missed")])

    found = await streams.open({stream: begun.last})

    assert (data_of(found.entries), found.incomplete) == ([b"missed"], frozenset())


async def test_everything_expires_without_subscribers(streams: LiveStreams, valkey: Redis, stream: str) -> None:
    await streams.open({stream: None})
    await streams.publish([message(stream)])

    for key in (stream, f"{stream}:since"):
        assert RETENTION_SECONDS < await valkey.ttl(key) <= 480
    assert RETENTION_SECONDS <= await valkey.ttl(f"{stream}:seen") <= 480
    assert 0 < await valkey.ttl(FAN_OUT) <= 60


async def test_lost_streams_are_reported(streams: LiveStreams, valkey: Redis, tenant: str) -> None:
    names = [user_stream(tenant, UUID(int=n)) for n in range(3)]
    await streams.open(dict.fromkeys(names))
    await valkey.delete(names[1])

    assert await streams.extend(names) == {names[1]}


async def test_creation_of_a_stream_is_fanned_out_once(streams: LiveStreams, stream: str) -> None:
    last = await streams.last_id()
    created = await streams.open({stream: None})
    await streams.open({stream: None})

    _, entries = await streams.read(last)
    [entry] = [entry for entry in entries if entry.stream == stream]
    assert (entry.id, entry.is_creation) == (created.last, True)


async def test_streams_are_opened_at_one_moment(streams: LiveStreams, valkey: Redis, tenant: str, stream: str) -> None:
    """One with a position and one without: a message is in the backlog, or follows it."""
    other = property_stream(tenant, new_id())
    begun = await streams.open({stream: None})
    await streams.publish([message(stream, data=b"1")])
    opened = await streams.open({stream: begun.last, other: None})
    await streams.publish([message(stream, data=b"2"), message(other, data=b"3")])
    _, entries = await streams.read(opened.last)

    assert data_of(opened.entries) == [b"1"]
    assert [entry.data for entry in entries if entry.stream in {stream, other}] == [b"2", b"3"]


@pytest.fixture
async def empty(settings: Settings) -> AsyncIterator[Redis]:
    """A database of Redis without keys, which no other process writes."""
    client = redis.connect(settings.model_copy(update={"redis_url": f"{settings.redis_url.removesuffix('/0')}/9"}))
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.mark.parametrize("made_again", [False, True])
async def test_ids_rise_when_the_last_one_is_lost(empty: Redis, stream: str, tenant: str, made_again: bool) -> None:
    """Readers of the fan-out learn it: the message follows none. The clock may be behind what was written."""
    streams = LiveStreams(empty)
    begun = await streams.open({stream: None})
    await streams.publish([message(stream)])
    seconds, _ = await empty.time()
    await empty.xadd(stream, {"type": "history", "data": "ahead"}, id=f"{(seconds + 60) * 1000}-5")
    await empty.delete(LAST_ID, FAN_OUT)

    again = (await streams.open({user_stream(tenant, new_id()): None})).last if made_again else ""
    await streams.publish([message(stream, data=b"next")])
    entries = (await streams.open({stream: begun.last})).entries
    _, fanned_out = await streams.read(again or begun.last)

    assert [entry.data for entry in entries][1:] == [b"ahead", b"next"]
    assert entries[2].id == f"{(seconds + 60) * 1000}-6"
    assert [entry.previous for entry in fanned_out] == [again]


async def test_waiting_ends_with_a_message(streams: LiveStreams, settings: Settings, stream: str) -> None:
    fan_out = FanOut(redis.connect_blocking(settings, 30))
    begun = await streams.open({stream: None})
    await streams.publish([message(stream)])

    await fan_out.wait(begun.last, 30)
    last, _ = await streams.read(begun.last)
    assert last
    await fan_out.wait(last, 0.001)
    await fan_out.close()


async def test_wiped_redis_has_no_last_id_until_a_process_starts_to_read(empty: Redis) -> None:
    streams = LiveStreams(empty)
    assert await streams.read("0-0") == (None, [])
    begun = await streams.last_id()
    assert await streams.last_id() == begun
    assert order_of(begun) > (1_700_000_000_000, 0)


@pytest.fixture
async def nowhere(settings: Settings) -> AsyncIterator[LiveStreams]:
    client = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    yield LiveStreams(client)
    await client.aclose()


async def test_unavailable_redis_is_reported(nowhere: LiveStreams, stream: str) -> None:
    for asked in (nowhere.publish([message(stream)]), nowhere.open({stream: None}), nowhere.extend([stream])):
        with pytest.raises(redis.RedisError):
            await asked
