"""The progress of commands: each stage is sent once to the sender, and holds no command up."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis
from temporalio.exceptions import ApplicationError

from activities import progress
from activities.progress import Progress
from activities.properties import Properties
from activities.saving import CommandStore
from adapters import redis
from adapters.live import LiveMessage, LiveStreams, user_stream
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from domain.property_commands import DeleteProperty
from tests.activities.accounts import Saving, change
from tests.platform import until
from tests.samples import create_property, new_id


class Watched:
    """Saves commands with their progress, and reads it as their sender."""

    def __init__(self, database: Database, keyring: Keyring, valkey: Redis) -> None:
        self.streams = LiveStreams(valkey)
        self.progress = Progress(self.streams)
        self.store = CommandStore(database, keyring, lambda _: None, self.progress)
        self.saving = Saving(self.store, keyring)

    async def watch(self, tenant: str, user: UUID) -> None:
        await self.streams.open({user_stream(tenant, user): None})

    async def seen(self, tenant: str, user: UUID) -> list[dict[str, Any]]:
        await self.progress.close()
        entries = (await self.streams.open({user_stream(tenant, user): "0-0"})).entries
        assert {entry.type for entry in entries} <= {"", "command"}
        return [orjson.loads(entry.data) for entry in entries if entry.type]


@pytest.fixture
async def watched(database: Database, keyring: Keyring, valkey: Redis) -> AsyncIterator[Watched]:
    one = Watched(database, keyring, valkey)
    yield one
    await one.progress.close()


async def test_saved_command_is_published_once(watched: Watched, saving: Saving, tenant: str) -> None:
    user = await saving.registered(tenant)
    await watched.watch(tenant, user)
    command = create_property(tenant, user)
    for _ in range(2):
        await watched.saving.property(command)

    [seen] = await watched.seen(tenant, user)

    assert seen == {
        "commandId": str(command.command_id),
        "type": "create-property",
        "stage": "saved",
        "aggregateId": str(command.property_id),
        "problem": None,
    }


async def test_refused_command_is_published_once_with_the_reason(watched: Watched, saving: Saving, tenant: str) -> None:
    listed, other = await saving.listed(tenant), await saving.registered(tenant)
    await watched.watch(tenant, other)
    command = change(DeleteProperty, listed, by=other)
    for _ in range(2):
        with pytest.raises(ApplicationError):
            await watched.saving.property(command)

    [seen] = await watched.seen(tenant, other)

    assert (seen["stage"], seen["problem"]["code"]) == ("refused", "forbidden")


async def test_failed_command_is_published_to_the_user_that_it_names(watched: Watched, tenant: str) -> None:
    user, command = new_id(), new_id()
    await watched.watch(tenant, user)
    unreadable: dict[str, Any] = {
        "type": "create-property",
        "commandId": str(command),
        "tenantId": tenant,
        "userId": str(user),
    }
    properties = Properties(watched.store)
    for sealed in (unreadable, {**unreadable, "userId": "nobody"}, {"commandId": str(command)}):
        with pytest.raises(ApplicationError):
            await properties.save_property(sealed)

    [seen] = await watched.seen(tenant, user)

    assert (seen["stage"], seen["commandId"]) == ("failed", str(command))


async def test_progress_that_cannot_be_sent_delays_no_command(
    database: Database, keyring: Keyring, settings: Settings, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    watched = Watched(database, keyring, client)

    await watched.saving.listed(tenant)
    await watched.progress.close()
    await client.aclose()

    assert "is not sent" in caplog.text


class Interrupted(LiveStreams):
    """Cannot write twice, as while Redis is unavailable."""

    failures = 2

    async def publish(self, messages: Sequence[LiveMessage]) -> int:
        if self.failures:
            self.failures -= 1
            raise redis.RedisError("unavailable")
        return await super().publish(messages)


async def test_streams_that_lack_progress_are_reset_once_redis_is_available(
    valkey: Redis, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_RETRY_SECONDS", 0.001)
    streams, user = Interrupted(valkey), new_id()
    own = user_stream(tenant, user)
    await streams.open({own: None})
    sender = Progress(streams)
    sender.failed({"type": "x", "commandId": str(new_id()), "tenantId": tenant, "userId": str(user)})

    async def received() -> list[str]:
        return [entry.type for entry in (await streams.open({own: "0-0"})).entries if entry.type]

    assert await until(received) == ["reset"]
    await sender.close()
