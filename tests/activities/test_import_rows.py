"""The rows of a file become listings: each once, wherever it is stopped, and those that cannot are reported."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment

from activities import import_rows
from activities.import_rows import ImportStep
from activities.overdue_imports import OverdueImports
from activities.placing import Placing
from activities.publishing import Publishing
from activities.saving import CommandStore
from adapters import duplicates, event_store, import_files, import_preview, imports, temporal
from adapters.kafka import Publisher
from adapters.objects import Objects, ObjectsUnavailable
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import event_store as events
from adapters.tables import import_listings, properties, users
from adapters.tables import imports as import_table
from domain.import_batches import Reading
from domain.import_mapping import ImportMapping, guess
from domain.import_reading import RowReader
from domain.imports import FinishImport, ImportOrder, ImportStatus, RowCounts
from domain.property_commands import ChangePropertyStatus, DeleteProperty, Sender
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.user import UserStatus
from tests.activities.accounts import Saving, change
from tests.activities.importing import COLUMNS, Importing, csv_of, row
from tests.platform import until
from tests.samples import create_property, new_id, new_tenant


class Killed(BaseException):
    """Nothing handles it, as nothing runs any more in a process that was killed."""


@pytest.fixture(scope="module")
def objects(settings: Settings) -> Objects:
    return Objects(settings)


@pytest.fixture
def publishing(all_tenants: Database, publisher: Publisher) -> Publishing:
    return Publishing(all_tenants, publisher)


@pytest.fixture
async def importing(
    database: Database,
    objects: Objects,
    keyring: Keyring,
    store: CommandStore,
    publishing: Publishing,
    saving: Saving,
    tenant: str,
) -> Importing:
    user_id = await saving.registered(tenant)
    return Importing(database, objects, keyring, store, publishing, tenant, user_id)


async def event_count(database: Database, tenant: str) -> int:
    async with database.statements(tenant) as connection:
        query = select(func.count()).where(events.c.event_type.like("PROPERTY%"))
        return int((await connection.execute(query)).scalar_one())


async def test_rows_become_listings_and_refused_ones_are_reported(importing: Importing) -> None:
    rows = [row(1), row(2, Price="on request"), row(3, Price="", Area="a lot"), row(4, Price="1.2 Cr")]
    order = await importing.start(csv_of(rows) + b"broken,row\n")

    step = await importing.step(order)

    assert step == ImportStep(
        outcome="ended", status=ImportStatus.COMPLETED, rows=RowCounts(read=5, saved=2, refused=3)
    )
    assert [(one.title, one.price, one.area_sqft, one.status) for one in await importing.listings()] == [
        ("3 BHK flat number 1", 8_500_000, 1001, "ACTIVE"),
        ("3 BHK flat number 4", 12_000_000, 1004, "ACTIVE"),
    ]
    lines = [(one.row, one.line, one.field, one.value) for one in await importing.report(order)]
    assert lines[0] == (2, 3, "price", "on request")
    assert {line[:3] for line in lines[1:-1]} == {(3, 4, "price"), (3, 4, "areaSqft")}
    assert lines[-1] == (5, 6, "row", "broken,row")
    assert all(one.reason for one in await importing.report(order))


async def test_same_file_again_changes_nothing(importing: Importing, database: Database) -> None:
    content = csv_of([row(n) for n in range(5)])
    await importing.imported(content)
    before = await event_count(database, importing.tenant)

    again = await importing.imported(content, known=False)

    assert again.rows == RowCounts(read=5, unchanged=5)
    assert await event_count(database, importing.tenant) == before
    assert len(await importing.listings()) == 5


async def test_edited_file_updates_what_it_states_and_wipes_nothing(importing: Importing, database: Database) -> None:
    await importing.imported(csv_of([row(n) for n in range(3)]))
    edited = [row(0), row(1, Price="90 L"), row(2), row(3)]
    without_rooms = [name for name in COLUMNS if name not in {"BHK", "Title"}]

    step = await importing.imported(csv_of(edited, without_rooms))

    assert step.rows == RowCounts(read=4, saved=1, updated=1, unchanged=2)
    by_area = {one.area_sqft: one for one in await importing.listings()}
    assert by_area[1001].price == 9_000_000
    assert by_area[1001].previous_price == 8_500_000
    assert (by_area[1001].title, by_area[1001].bedrooms) == ("3 BHK flat number 1", 3)
    assert by_area[1003].title == "Flat in Gachibowli"


async def test_same_file_with_another_mapping_changes_what_it_has_listed(importing: Importing) -> None:
    content = csv_of([row(1)], [name for name in COLUMNS if name != "Reference"])
    await importing.imported(content)
    mapping = {
        "Price": "price",
        "Locality": "location",
        "Type": "propertyType",
        "Purpose": "listingType",
        "Area": "title",
    }

    step = await importing.imported(content, mapping={**mapping, "Area": "title"})

    assert step.rows == RowCounts(read=1, updated=1)
    [listing] = await importing.listings()
    assert listing.title == "1001 sft"


async def test_rows_of_sold_and_deleted_listings_are_refused(importing: Importing, saving: Saving) -> None:
    await importing.imported(csv_of([row(n) for n in range(3)]))
    sold, deleted, _ = await importing.listings()
    created = create_property(importing.tenant, importing.user_id)
    of_sold, of_deleted = [created.model_copy(update={"property_id": one.property_id}) for one in (sold, deleted)]
    await saving.property(change(ChangePropertyStatus, of_sold, status=PropertyStatus.SOLD))
    await saving.property(change(DeleteProperty, of_deleted))
    order = await importing.start(csv_of([row(n, Price="95 L") for n in range(3)]))

    step = await importing.step(order)

    assert step.rows == RowCounts(read=3, updated=1, refused=2)
    reasons = [one.reason for one in await importing.report(order)]
    assert "sold or rented" in reasons[0]
    assert "externalId" in reasons[1]


async def test_second_row_with_an_external_id_is_refused_also_in_another_batch(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    rows = [row(1), row(1, Title="The same again"), row(2), row(1, Title="And again")]
    order = await importing.start(csv_of(rows))

    step = await importing.step(order)

    assert step.rows == RowCounts(read=4, saved=2, refused=2)
    assert [(one.row, one.field) for one in await importing.report(order)] == [(2, "externalId"), (4, "externalId")]
    assert [one.title for one in await importing.listings()] == ["3 BHK flat number 1", "3 BHK flat number 2"]


async def test_second_row_is_refused_also_when_the_first_changes_nothing(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 1)
    await importing.imported(csv_of([row(1)]))
    order = await importing.start(csv_of([row(1), row(1, Price="99 L")]))

    step = await importing.step(order)

    assert step.rows == RowCounts(read=2, unchanged=1, refused=1)
    assert [listing.price for listing in await importing.listings()] == [8_500_000]


async def test_same_file_in_two_imports_at_once_is_listed_once_and_refused_nowhere(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    content = csv_of([row(n) for n in range(6)])
    orders = [await importing.start(content) for _ in range(2)]

    for order in orders:
        await importing.step(order)

    first, second = [(await importing.found(order)).counts for order in orders]
    assert (first, second) == (RowCounts(read=6, saved=6), RowCounts(read=6, unchanged=6))
    assert [await importing.report(order) for order in orders] == [[], []]


async def test_dry_run_says_what_the_import_does(
    importing: Importing, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of rows with an `externalId` of an earlier batch, whose first one changes nothing."""
    monkeypatch.setattr(import_rows, "BATCH", 2)
    await importing.imported(csv_of([row(1), row(2)]))
    content = csv_of([row(1), row(2, Price="90 L"), row(3), row(4, Price="?"), row(1, Price="1 Cr"), row(3)])
    layout, columns = import_files.columns_of(content)
    reader = RowReader(layout)
    sources = [*reader.feed(content[layout.start.offset :]), *reader.finish()]
    mapping = ImportMapping(columns=guess(columns), defaults={})
    reading = Reading(mapping, importing.tenant, importing.user_id, sha256(content).digest())
    sender, preview = Sender(user_id=importing.user_id, role=UserRole.AGENT), import_preview.Preview()

    async with database.statements(importing.tenant) as connection:
        for n in range(0, len(sources), 2):
            rows = reading.read(sources[n : n + 2], datetime.now(UTC))
            await import_preview.add(connection, preview, importing.tenant, sender, rows)
    order = await importing.start(content)
    step = await importing.step(order)

    assert preview.rows == step.rows == RowCounts(read=6, saved=1, updated=1, unchanged=1, refused=3)
    assert [(line, problem.field, problem.reason) for line, problem in preview.problems] == [
        (one.line, one.field, one.reason) for one in await importing.report(order)
    ]


async def finish(importing: Importing, order: ImportOrder) -> None:
    command = FinishImport(
        command_id=new_id(),
        tenant_id=importing.tenant,
        user_id=importing.user_id,
        issued_at=datetime.now(UTC),
        import_id=order.import_id,
        status=ImportStatus.COMPLETED,
    )
    await importing.commands.save_import(command.model_dump(mode="json", by_alias=True))


async def test_import_that_is_cancelled_while_it_finishes_is_cancelled(
    importing: Importing, database: Database
) -> None:
    order = await importing.start(csv_of([row(1)]))
    await importing.step(order)
    async with database.transaction(importing.tenant) as tx:
        cancelled = await imports.set_status(tx, order.import_id, ImportStatus.CANCELLED, [ImportStatus.RUNNING])
        finishing = asyncio.create_task(finish(importing, order))
        waiting = select(func.count()).select_from(text("pg_locks")).where(text("NOT granted"))
        async with database.statements() as connection:

            async def is_waiting() -> bool:
                return finishing.done() or bool((await connection.execute(waiting)).scalar_one())

            await until(is_waiting)
    await finishing

    assert cancelled
    assert (await importing.found(order)).status == ImportStatus.CANCELLED
    async with database.statements(importing.tenant) as connection:
        left = select(func.count()).select_from(import_listings)
        assert (await connection.execute(left)).scalar_one() == 0


async def test_imports_that_begin_at_once_are_at_most_three(importing: Importing) -> None:
    content = csv_of([row(1)])

    begun = await asyncio.gather(*(importing.start(content) for _ in range(8)), return_exceptions=True)

    refused = [one for one in begun if isinstance(one, ApplicationError)]
    assert (len(begun) - len(refused), {one.type for one in refused}) == (3, {"too-many-imports"})


async def test_import_whose_workflow_is_lost_is_started_once_and_a_paused_one_is_not(
    importing: Importing, database: Database, all_tenants: Database, settings: Settings
) -> None:
    lost, paused = [await importing.start(csv_of([row(n)])) for n in range(2)]
    await importing.set_status(paused, ImportStatus.PAUSED)
    async with database.transaction(importing.tenant) as tx:
        await tx.execute(update(import_table).values(updated_at=datetime(2000, 1, 1, tzinfo=UTC)))
    client = await temporal.connect_when_up(settings)
    twenty_years = timedelta(days=20 * 365).total_seconds()  # so it finds these alone
    overdue = OverdueImports(all_tenants, client, f"nobody-{importing.tenant}", twenty_years)

    for _ in range(2):
        await ActivityEnvironment().run(overdue.start_overdue_imports)

    handle = client.get_workflow_handle(lost.workflow_id)
    history = await handle.fetch_history()
    assert len([one for one in history.events if one.HasField("workflow_execution_started_event_attributes")]) == 1
    with pytest.raises(RPCError, match=r"(?i)not found"):
        await client.get_workflow_handle(paused.workflow_id).describe()
    with suppress(RPCError):  # a platform that runs beside it may have finished it
        await handle.terminate()


async def test_duplicates_of_a_listing_are_its_oldest_twenty(importing: Importing, database: Database) -> None:
    same = {"Address": "Flat 402, Lake View Towers", "Area": "1500 sft"}
    await importing.imported(csv_of([row(n, **same) for n in range(25)], [*COLUMNS, "Address"]))
    oldest = sorted(await importing.listings(), key=lambda one: (one.created_at, one.property_id))
    ids = [one.property_id for one in oldest]

    async with database.statements(importing.tenant) as connection:
        found = await duplicates.among(connection, importing.user_id, [ids[0], ids[-1]])

    assert found == {ids[0]: ids[1:21], ids[-1]: ids[:20]}


async def test_listings_from_before_the_release_get_their_place(
    importing: Importing, database: Database, all_tenants: Database
) -> None:
    same = {"Address": "Flat 402, Lake View Towers", "Area": "1500 sft"}
    await importing.imported(csv_of([row(1, **same), row(2, **same), row(3, Area="")], [*COLUMNS, "Address"]))
    before = {one.property_id: one.place_key for one in await importing.listings()}
    assert None in before.values()
    async with database.transaction(importing.tenant) as tx:
        await tx.execute(update(properties).values(place_key=duplicates.UNPLACED))
    async with database.statements(importing.tenant) as connection:
        assert await duplicates.among(connection, importing.user_id, list(before)) == {}
    placing = Placing(database, all_tenants)

    await ActivityEnvironment().run(placing.fill_places)

    assert {one.property_id: one.place_key for one in await importing.listings()} == before


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
async def test_step_that_dies_in_a_batch_loses_and_doubles_no_row(
    importing: Importing, database: Database, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    order = await importing.start(csv_of([row(n) for n in range(7)]))
    batches = 0

    def dying(then: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*arguments: Any) -> Any:
            nonlocal batches
            batches += 1
            result = await then(*arguments)
            if batches == 2:
                raise Killed
            return result

        return wrapped

    with monkeypatch.context() as patch:
        if moment == "before the commit":
            patch.setattr(importing.rows, "_report", dying(importing.rows._report))
        else:
            patch.setattr(
                importing.rows._publishing, "publish_listings", dying(importing.rows._publishing.publish_listings)
            )
        with pytest.raises(Killed):
            await importing.step(order)
    assert (await importing.found(order)).row == (2 if moment == "before the commit" else 4)

    step = await importing.step(order)

    assert step.rows == RowCounts(read=7, saved=7)
    assert len(await importing.listings()) == 7
    assert await event_count(database, importing.tenant) == 7


async def test_two_steps_at_the_same_time_save_each_row_once(
    importing: Importing, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is thought to be lost may go on."""
    monkeypatch.setattr(import_rows, "BATCH", 3)
    order = await importing.start(csv_of([row(n) for n in range(30)]))

    steps = await asyncio.gather(importing.step(order), importing.step(order))

    assert "ended" in {step.outcome for step in steps}
    assert (await importing.found(order)).counts == RowCounts(read=30, saved=30)
    assert await event_count(database, importing.tenant) == 30


async def test_paused_import_stops_after_its_batch_and_goes_on_where_it_was(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    order = await importing.start(csv_of([row(n) for n in range(6)]))
    save = importing.rows._save_once

    async def pausing(*arguments: Any) -> None:
        await save(*arguments)
        await importing.set_status(order, ImportStatus.PAUSED)

    with monkeypatch.context() as patch:
        patch.setattr(importing.rows, "_save_once", pausing)
        assert await importing.step(order) == ImportStep(outcome="paused", rows=RowCounts(read=2, saved=2))
    assert (await importing.step(order)).outcome == "paused"
    assert len(await importing.listings()) == 2

    await importing.set_status(order, ImportStatus.RUNNING)

    assert (await importing.step(order)).rows == RowCounts(read=6, saved=6)


async def test_cancelled_import_leaves_what_it_has_saved(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    order = await importing.start(csv_of([row(n) for n in range(6)]))
    save = importing.rows._save_once

    async def cancelling(*arguments: Any) -> None:
        await save(*arguments)
        await importing.set_status(order, ImportStatus.CANCELLED)

    monkeypatch.setattr(importing.rows, "_save_once", cancelling)
    step = await importing.step(order)

    assert step == ImportStep(outcome="ended", status=ImportStatus.CANCELLED, rows=RowCounts(read=2, saved=2))
    assert len(await importing.listings()) == 2


async def test_long_file_is_read_in_several_steps(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    monkeypatch.setattr(import_rows, "_STEP_SECONDS", 0.0)
    order = await importing.start(csv_of([row(n) for n in range(5)]))

    steps = [await importing.step(order) for _ in range(3)]

    assert [(step.outcome, step.rows.read) for step in steps] == [("more", 2), ("more", 4), ("ended", 5)] or [
        (step.outcome, step.rows.read) for step in steps
    ] == [("more", 2), ("more", 4), ("more", 5)]


async def test_import_stops_when_the_account_is_closed(
    importing: Importing, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await importing.start(csv_of([row(n) for n in range(3)]))
    async with database.transaction(importing.tenant) as tx:
        closed = update(users).where(users.c.user_id == importing.user_id)
        await tx.execute(closed.values(status=UserStatus.SUSPENDED.value))

    step = await importing.step(order)

    assert (step.outcome, step.status, step.rows) == ("ended", ImportStatus.FAILED, RowCounts())
    assert "suspended" in (step.reason or "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 a workbook", "workbook"),
        (b"Title,Price\nFlat,85 L\n", "location"),
    ],
)
async def test_file_that_cannot_be_read_fails_with_a_reason(importing: Importing, content: bytes, reason: str) -> None:
    step = await importing.imported(content)

    assert (step.outcome, step.status) == ("ended", ImportStatus.FAILED)
    assert reason in (step.reason or "")


async def test_file_with_too_many_rows_fails_after_those_that_are_allowed(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_rows, "MAX_ROWS", 3)
    step = await importing.imported(csv_of([row(n) for n in range(5)]))

    assert (step.status, step.rows) == (ImportStatus.FAILED, RowCounts(read=3, saved=3))


async def test_report_ends_after_its_last_line(importing: Importing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_rows, "BATCH", 2)
    monkeypatch.setattr(import_rows, "MAX_REPORTED", 3)
    order = await importing.start(csv_of([row(n, Price="?") for n in range(6)]))

    step = await importing.step(order)

    assert step.rows.refused == 6
    assert len(await importing.report(order)) == 3
    assert (await importing.found(order)).reported == 3


async def test_value_that_postgres_does_not_take_refuses_its_row_alone(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await importing.start(csv_of([row(1), row(2), row(3)]))
    read = Reading._read_one

    def with_nul(self: Any, source: Any, at: Any) -> Any:
        found: Any = read(self, source, at)
        if source.number == 2:
            bad = found.commands.create.details.model_copy(update={"description": "NUL \x00"})
            found.commands.create.__dict__["details"] = bad
        return found

    monkeypatch.setattr(Reading, "_read_one", with_nul)
    step = await importing.step(order)

    assert step.rows == RowCounts(read=3, saved=2, refused=1)
    [line] = await importing.report(order)
    assert (line.row, line.field) == (2, "row")


async def test_same_place_and_unit_is_flagged_and_saved(importing: Importing) -> None:
    same = {"Address": "Flat 402, Lake View Towers", "Area": "1500 sft"}
    rows = [row(1, **same), row(2, **same), row(3, Address="Flat 403, Lake View Towers", Area="1500 sft")]
    order = await importing.start(csv_of(rows, [*COLUMNS, "Address"]))

    step = await importing.step(order)

    assert step.rows == RowCounts(read=3, saved=3)
    first, second, _ = [str(one.property_id) for one in await importing.listings()]
    lines = [(one.row, one.field, one.value) for one in await importing.report(order)]
    assert lines == [(1, "possibleDuplicate", second), (2, "possibleDuplicate", first)]


async def test_storage_that_is_unavailable_delays_and_loses_nothing(
    importing: Importing, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await importing.start(csv_of([row(n) for n in range(3)]))

    async def unavailable(*_: object) -> None:
        raise ObjectsUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "get", unavailable)
        with pytest.raises(ObjectsUnavailable):
            await importing.step(order)

    assert (await importing.step(order)).rows == RowCounts(read=3, saved=3)


async def test_events_are_published_in_order_and_marked(
    importing: Importing, database: Database, publishing: Publishing
) -> None:
    await importing.imported(csv_of([row(n) for n in range(3)]))
    await publishing.close()

    async with database.statements(importing.tenant) as connection:
        unpublished = select(func.count()).where(
            events.c.published_at.is_(None), events.c.event_type == "PROPERTY_CREATED"
        )
        assert (await connection.execute(unpublished)).scalar_one() == 0
        found = await event_store.of_user(connection, importing.user_id, cursor=None, limit=10)
    titles = [one["data"]["title"] for one in found if one["eventType"] == "PROPERTY_CREATED"]
    assert titles == ["3 BHK flat number 2", "3 BHK flat number 1", "3 BHK flat number 0"]


async def test_file_of_another_tenant_is_not_found(
    importing: Importing, database: Database, objects: Objects, keyring: Keyring, store: CommandStore,
    publishing: Publishing, saving: Saving,
) -> None:  # fmt: skip
    order = await importing.start(csv_of([row(1)]))
    other = new_tenant()
    elsewhere = Importing(database, objects, keyring, store, publishing, other, await saving.registered(other))

    assert (await elsewhere.step(order.model_copy(update={"tenant_id": other}))).outcome == "gone"
    async with database.statements(other) as connection:
        assert (await connection.execute(select(func.count()).select_from(properties))).scalar_one() == 0
