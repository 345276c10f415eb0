"""The file of an export: written once, with everything of its person and nothing of others, and deleted in time."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.exports import Exporting, Exports, OverdueExports
from adapters import objects as object_storage
from adapters import personal_export
from adapters.exports import Export, delete_of_user, files_of, find_by_token, find_export, read_export_token
from adapters.objects import Objects, ObjectsUnavailable
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import event_store, notices, property_images
from adapters.tables import exports as table
from domain import ids
from domain.events import observation_events
from domain.observations import DeletedSearches, PropertySearched, Search, SearchHistoryDeleted
from domain.property_commands import CreateProperty
from domain.search import SearchFilters
from domain.search_history import remembered
from domain.user_commands import ExportHistory
from projections.generations import generation_of
from projections.past_searches import _wrapped_key
from projections.search_history import SearchHistory
from tests.activities.accounts import Saving
from tests.activities.erased import Account, add_read_models, add_rows
from tests.activities.test_accounts import on
from tests.samples import create_property, new_id, new_tenant, record_activity

NOW = datetime.now(UTC)


class Requested:
    """An export that a person with a listing has requested."""

    def __init__(self, listed: CreateProperty, command: ExportHistory) -> None:
        self.listed, self.command = listed, command
        self.tenant, self.user_id, self.id = command.tenant_id, command.user_id, command.command_id
        self.exporting = Exporting(tenant_id=self.tenant, user_id=self.user_id, command_id=self.id)
        self.event_id = ids.event_id(self.id, 2)

    async def row(self, database: Database) -> Export | None:
        async with database.statements(self.tenant) as connection:
            return await find_export(connection, self.id)

    @property
    def key(self) -> str:
        return f"exports/{self.tenant}/{self.user_id}/{self.id}.jsonl"


@pytest.fixture
async def requested(saving: Saving, tenant: str) -> Requested:
    listed = await saving.listed(tenant, title="A canary by the lake", contactPhone="9848012345")
    command: ExportHistory = on(tenant, listed.user_id, ExportHistory)
    await saving.user(command)
    return Requested(listed, command)


@pytest.fixture(scope="module")
def objects(settings: Settings) -> Objects:
    return Objects(settings)


@pytest.fixture
def exports(database: Database, keyring: Keyring, objects: Objects) -> Exports:
    return Exports(database, keyring, objects, lambda _: None)


@pytest.fixture
def overdue(all_tenants: Database, keyring: Keyring, objects: Objects, temporal_client: Client) -> OverdueExports:
    return OverdueExports(all_tenants, keyring, objects, temporal_client, "nobody-works-here")


async def written(exports: Exports, requested: Requested) -> Any:
    return await ActivityEnvironment().run(exports.write_export, requested.exporting)


async def content(objects: Objects, key: str) -> bytes | None:
    found = await objects.get(key)
    return None if found is None else b"".join([chunk async for chunk in found.chunks])


async def lines(objects: Objects, key: str) -> dict[str, list[Any]]:
    """The lines of a file, by kind."""
    found: dict[str, list[Any]] = {}
    for line in (await content(objects, key) or b"").splitlines():
        one = json.loads(line)
        found.setdefault(one["kind"], []).append(one["data"])
    return found


async def image(database: Database, tenant: str, property_id: UUID, caption: str) -> None:
    """An image of a listing."""
    row: dict[str, Any] = {
        "tenant_id": tenant,
        "property_id": property_id,
        "position": 0,
        "status": "PROCESSING",
        "size": 5,
        "caption": caption,
        "added_at": NOW,
        **{name: new_id() for name in ("image_id", "command_id", "upload_id")},
    }
    async with database.statements(tenant) as connection:
        await connection.execute(property_images.insert().values(row))


async def search(database: Database, all_tenants: Database, keyring: Keyring, tenant: str, user_id: UUID) -> None:
    """Two searches in the read model, of which the user has deleted one."""
    async with database.statements(tenant) as connection:
        key = await _wrapped_key(connection, user_id)
    assert key
    observations: list[Any] = []
    common: dict[str, Any] = {"aggregate_id": user_id, "user_id": user_id, "timestamp": NOW}
    for text in ("2 bhk uppal", "forgotten plot"):
        event_id = new_id()
        fact = PropertySearched(search_id=keyring.search_id(key, text), query=remembered(SearchFilters(q=text)))
        data = PropertySearched.model_validate(keyring.seal(fact, key, event_id))
        observations.append(Search(event_id=event_id, data=data, **common))
    deleted = SearchHistoryDeleted(user_id=user_id, search_id=keyring.search_id(key, "forgotten plot"), up_to=NOW)
    observations.append(DeletedSearches(event_id=new_id(), data=deleted, **common))
    async with all_tenants.transaction() as tx:
        projection = SearchHistory()
        generation = await generation_of(tx, projection.name)
        await projection.apply(tx, observation_events(record_activity(tenant, *observations)), generation)


async def test_file_has_everything_of_its_person_in_plain_values_and_nothing_of_others(
    database: Database,
    all_tenants: Database,
    keyring: Keyring,
    exports: Exports,
    objects: Objects,
    requested: Requested,
    saving: Saving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(personal_export, "_PAGE", 2)
    tenant, user_id = requested.tenant, requested.user_id
    await saving.property(create_property(tenant, user_id, title="A second flat"))
    await saving.property(create_property(tenant, user_id, title="A third flat"))
    await saving.listed(tenant, title="Somebody else's flat")
    await add_rows(database, keyring, tenant, user_id)
    other = await saving.listed(tenant)
    for property_id, caption in ((requested.listed.property_id, "The lake"), (other.property_id, "Somebody else's")):
        await image(database, tenant, property_id, caption)
    await add_read_models(all_tenants, Account(tenant, user_id, requested.listed, saving))
    await search(database, all_tenants, keyring, tenant, user_id)

    await written(exports, requested)

    found = await lines(objects, requested.key)
    assert found["account"][0]["id"] == str(user_id)
    assert found["account"][0]["email"].endswith("@example.com")
    assert [one["title"] for one in found["listing"]] == ["A third flat", "A second flat", "A canary by the lake"]
    assert found["listing"][-1]["contactPhone"] == "+919848012345"
    assert [one["filters"] for one in found["search"]] == [{"q": "2 bhk uppal"}]
    assert [one["name"] for one in found["passkey"]] == ["Canary's phone"]
    assert [one["kind"] for one in found["notification"]] == ["WELCOME"]
    assert [one["caption"] for one in found["image"]] == ["The lake"]
    assert [one["fileName"] for one in (*found["document"], *found["upload"])] == ["canary.pdf", "canary.jpg"]
    assert found["preferences"][0]["userId"] == str(user_id)
    assert len(found["pushSubscription"]) == 1
    assert {one["activityType"] for one in found["activity"]} == {
        "USER_REGISTERED",
        "PROPERTY_CREATED",
        "USER_EXPORT_REQUESTED",
    }
    assert b"Somebody else" not in (await content(objects, requested.key) or b"")
    assert b"sealed" not in (await content(objects, requested.key) or b"")


async def test_file_that_is_written_twice_is_mailed_once(
    database: Database, keyring: Keyring, exports: Exports, objects: Objects, requested: Requested
) -> None:
    first = await written(exports, requested)
    row = await requested.row(database)

    assert await written(exports, requested) == first
    assert await requested.row(database) == row
    assert row
    assert row.size == len(await content(objects, requested.key) or b"")
    assert row.expires_at
    assert row.ready_at
    assert row.expires_at - row.ready_at == timedelta(days=1)
    async with database.statements(requested.tenant) as connection:
        events = select(event_store.c.event_type).where(event_store.c.command_id == requested.id)
        assert set((await connection.execute(events)).scalars()) == {"USER_EXPORT_REQUESTED", "USER_EXPORTED"}
        mailed = select(notices.c.kind).where(notices.c.event_id == requested.event_id)
        assert list((await connection.execute(mailed)).scalars()) == ["EXPORT_READY"]
        tenant_id, hashed = read_export_token(f"{requested.tenant}.{keyring.link_token(requested.event_id)}")
        assert tenant_id == requested.tenant
        assert await find_by_token(connection, hashed, datetime.now(UTC)) == row
        assert await find_by_token(connection, hashed, row.expires_at) is None
    async with database.statements(new_tenant()) as connection:
        assert await find_by_token(connection, hashed, datetime.now(UTC)) is None


async def test_second_export_is_refused_until_the_first_is_written(
    exports: Exports, saving: Saving, requested: Requested
) -> None:
    with pytest.raises(ApplicationError) as refused:
        await saving.user(on(requested.tenant, requested.user_id, ExportHistory))
    assert refused.value.type == "export-running"

    await written(exports, requested)

    assert (await saving.user(on(requested.tenant, requested.user_id, ExportHistory))).events


async def erase(database: Database, objects: Objects, requested: Requested) -> None:
    await delete_of_user(database, objects, requested.tenant, requested.user_id, lambda: None)


@pytest.mark.parametrize("erased", ["before the file is sent", "before it is recorded", "once it is recorded"])
async def test_no_file_is_left_of_a_person_who_is_erased_meanwhile(
    database: Database,
    exports: Exports,
    objects: Objects,
    requested: Requested,
    monkeypatch: pytest.MonkeyPatch,
    erased: str,
) -> None:
    put = objects.put

    async def put_and_erase(*arguments: Any) -> None:
        if erased == "before the file is sent":
            await erase(database, objects, requested)
        await put(*arguments)
        if erased == "before it is recorded":
            await erase(database, objects, requested)

    monkeypatch.setattr(objects, "put", put_and_erase)
    recorded = await written(exports, requested)
    if erased == "once it is recorded":
        await erase(database, objects, requested)

    assert bool(recorded) == (erased == "once it is recorded")
    assert await content(objects, requested.key) is None
    assert await written(exports, requested) is None


async def test_no_file_is_left_when_an_erasure_ends_the_workflow_while_the_file_is_sent(
    database: Database, exports: Exports, objects: Objects, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, sending, erased = objects.put, asyncio.Event(), asyncio.Event()

    async def put_later(*arguments: Any) -> None:
        sending.set()
        await erased.wait()
        await put(*arguments)

    monkeypatch.setattr(objects, "put", put_later)
    environment = ActivityEnvironment()
    running = asyncio.create_task(environment.run(exports.write_export, requested.exporting))
    await sending.wait()
    environment.cancel()
    await erase(database, objects, requested)
    erased.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await content(objects, requested.key) is None


async def test_file_of_an_attempt_that_is_cancelled_is_kept_for_the_next_one(
    database: Database, exports: Exports, objects: Objects, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may have recorded it already."""
    put, environment = objects.put, ActivityEnvironment()

    async def put_and_cancel(*arguments: Any) -> None:
        await put(*arguments)
        environment.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", put_and_cancel)
        with pytest.raises(asyncio.CancelledError):
            await environment.run(exports.write_export, requested.exporting)
    first = await content(objects, requested.key)

    assert await written(exports, requested)
    row = await requested.row(database)
    assert row
    assert len(first or b"") == row.size


async def test_file_of_an_attempt_that_was_killed_is_deleted_by_the_next_one_after_an_erasure(
    database: Database, exports: Exports, objects: Objects, requested: Requested
) -> None:
    await erase(database, objects, requested)
    await objects.put(requested.key, io.BytesIO(b"x"), "text/plain")

    assert await written(exports, requested) is None
    assert await content(objects, requested.key) is None


async def test_erasure_deletes_every_file_of_its_person_and_no_other(
    database: Database, objects: Objects, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that have no row, on every page of the listing."""
    monkeypatch.setattr(object_storage, "_PAGE", 2)
    own = files_of(requested.tenant, requested.user_id)
    others = [
        f"{files_of(tenant, user)}1"
        for tenant, user in ((requested.tenant, new_id()), (new_tenant(), requested.user_id))
    ]
    for key in [*(f"{own}{n}.jsonl" for n in range(5)), *others]:
        await objects.put(key, io.BytesIO(b"x"), "text/plain")

    assert len([key async for key in objects.keys(own)]) == 5
    await erase(database, objects, requested)

    assert [key async for key in objects.keys(own)] == []
    for key in others:
        assert await content(objects, key) == b"x"
        await objects.delete(key)


async def test_export_is_not_ready_while_the_object_storage_is_unavailable(
    database: Database, keyring: Keyring, settings: Settings, requested: Requested
) -> None:
    nowhere = Objects(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"}))

    with pytest.raises(ObjectsUnavailable):
        await written(Exports(database, keyring, nowhere, lambda _: None), requested)

    row = await requested.row(database)
    assert row
    assert row.ready_at is None


async def test_file_is_deleted_once_its_link_has_ended(
    database: Database, exports: Exports, overdue: OverdueExports, objects: Objects, requested: Requested
) -> None:
    await written(exports, requested)
    await ActivityEnvironment().run(overdue.delete_expired_exports)
    kept = await content(objects, requested.key)
    async with database.statements(requested.tenant) as connection:
        ended = update(table).where(table.c.export_id == requested.id).values(expires_at=NOW - timedelta(days=1))
        await connection.execute(ended)

    deleted = [await ActivityEnvironment().run(overdue.delete_expired_exports) for _ in range(2)]

    assert kept
    assert deleted == [1, 0]
    assert await content(objects, requested.key) is None
    row = await requested.row(database)
    assert row
    assert row.ready_at
    assert row.expires_at is None


async def test_files_are_left_to_a_later_run_while_the_object_storage_is_unavailable(
    all_tenants: Database, keyring: Keyring, settings: Settings, temporal_client: Client
) -> None:
    nowhere = Objects(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"}))
    overdue = OverdueExports(all_tenants, keyring, nowhere, temporal_client, "nobody-works-here")

    assert await ActivityEnvironment().run(overdue.delete_expired_exports) == 0


async def test_file_without_a_row_is_deleted_after_two_days(objects: Objects, requested: Requested) -> None:
    await objects.put(requested.key, io.BytesIO(b"x"), "text/plain")
    own, now = files_of(requested.tenant, requested.user_id), datetime.now(UTC)

    young = [key async for key in objects.keys(own, older_than=now - timedelta(days=2))]
    old = [key async for key in objects.keys(own, older_than=now + timedelta(days=2))]

    assert (young, old) == ([], [requested.key])
    await objects.delete(requested.key)


async def test_export_whose_workflow_is_lost_is_started_again_once(
    database: Database, overdue: OverdueExports, objects: Objects, temporal_client: Client, requested: Requested
) -> None:
    assert await ActivityEnvironment().run(overdue.start_overdue_exports) == 0
    async with database.statements(requested.tenant) as connection:
        lost = update(table).where(table.c.export_id == requested.id)
        await connection.execute(lost.values(requested_at=NOW - timedelta(hours=3)))

    started = [await ActivityEnvironment().run(overdue.start_overdue_exports) for _ in range(2)]

    assert started == [1, 0]
    handle = temporal_client.get_workflow_handle(f"export-history/{requested.id}")
    assert (await handle.describe()).workflow_type == "export-history"
    await handle.terminate()
    await erase(database, objects, requested)
