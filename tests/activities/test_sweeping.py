"""The sweep of files, on real Postgres and S3: what is referred to stays, whatever happens at the same time."""

import asyncio
import hashlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text, update
from temporalio.testing import ActivityEnvironment

from activities.saving import CommandStore
from activities.sweeping import Sweeping
from adapters import contents, sweeps, tables, uploads
from adapters.contents import FileContent
from adapters.objects import Objects, ObjectsUnavailable
from adapters.postgres import Database
from adapters.settings import Settings
from domain.documents import DocumentStatus
from tests.activities.accounts import Saving
from tests.activities.filing import LONG_AGO, Filing, original
from tests.files import JPEG, pdf
from tests.platform import until
from tests.samples import new_id

CONTENT = b"%PDF-1.4 some bytes"


@pytest.fixture(scope="module")
def objects(settings: Settings) -> Objects:
    return Objects(settings)


@pytest.fixture
def filing(database: Database, all_tenants: Database, objects: Objects, store: CommandStore, tenant: str) -> Filing:
    return Filing(database, all_tenants, objects, store, tenant)


@pytest.fixture
async def user(saving: Saving, tenant: str) -> UUID:
    return await saving.registered(tenant)


@pytest.fixture
def sweeping(all_tenants: Database, objects: Objects) -> Sweeping:
    return Sweeping(all_tenants, objects, 24)


async def sweep(sweeping: Sweeping) -> None:
    await ActivityEnvironment().run(sweeping.sweep_files)


async def uploaded_ids(filing: Filing) -> set[UUID]:
    async with filing.database.statements(filing.tenant) as connection:
        return set((await connection.execute(select(tables.uploads.c.upload_id))).scalars())


async def hashes(filing: Filing) -> set[bytes]:
    async with filing.database.statements(filing.tenant) as connection:
        return set((await connection.execute(select(tables.file_contents.c.sha256))).scalars())


async def stored(filing: Filing, content: bytes = CONTENT) -> FileContent:
    """Content that nothing refers to yet."""
    sha256 = hashlib.sha256(content).digest()
    async with filing.database.statements(filing.tenant) as connection:
        claimed = await contents.claim(connection, filing.tenant, sha256, len(content))
    for key in (claimed.original_key, claimed.variant_key("320.avif"), claimed.variant_key("320.jpg")):
        await filing.objects.put(key, io.BytesIO(content), "image/jpeg")
    async with filing.database.statements(filing.tenant) as connection:
        assert await contents.record_made(connection, claimed, "image/jpeg", {"key": "value"})
    return claimed


async def image(filing: Filing, status: str, upload_id: UUID, sha256: bytes | None = None) -> None:
    row: dict[str, Any] = {
        "tenant_id": filing.tenant,
        "property_id": new_id(),
        "image_id": new_id(),
        "position": 0,
        "status": status,
        "command_id": new_id(),
        "upload_id": upload_id,
        "size": 5,
        "sha256": sha256,
        "added_at": datetime.now(UTC),
    }
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(insert(tables.property_images).values(row))


async def test_unused_uploads_are_deleted_after_the_grace_period_only(
    filing: Filing, sweeping: Sweeping, user: UUID
) -> None:
    completed, young = await filing.uploaded(user, pdf()), await filing.uploaded(user, JPEG)
    pending = await filing.uploaded(user, CONTENT)
    await filing.objects.copy(pending.key, pending.incoming_key)
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(
            update(tables.uploads).where(tables.uploads.c.upload_id == pending.upload_id).values(completed_at=None)
        )

    await sweep(sweeping)
    assert await uploaded_ids(filing) == {completed.upload_id, young.upload_id, pending.upload_id}

    await filing.age()
    async with filing.database.statements(filing.tenant) as connection:
        await uploads.claim(connection, young.upload_id)
    for _ in range(2):
        await sweep(sweeping)
        assert await uploaded_ids(filing) == {young.upload_id}
        assert await filing.keys() == {young.key}


async def test_uploads_that_are_being_processed_stay(filing: Filing, sweeping: Sweeping, user: UUID) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    await filing.save(added)
    pictured = await filing.uploaded(user, JPEG)
    await image(filing, "PROCESSING", pictured.upload_id)
    before = await filing.keys()
    await filing.age()

    await sweep(sweeping)

    assert await uploaded_ids(filing) == {added.upload_id, pictured.upload_id}
    assert await filing.keys() == before
    await filing.check(added)
    document = await filing.document(added)
    assert document
    assert document.status is DocumentStatus.READY


async def test_upload_of_a_running_import_stays(filing: Filing, sweeping: Sweeping, user: UUID) -> None:
    sheet = await filing.uploaded(user, b"title,price\n", media_type="text/csv")
    row = {
        "tenant_id": filing.tenant,
        "import_id": new_id(),
        "version": 1,
        "user_id": user,
        "upload_id": sheet.upload_id,
        "file_name": "flats.csv",
        "size": 12,
        "status": "RUNNING",
        "started_at": datetime.now(UTC),
        "updated_at": datetime.now(UTC),
    }
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(insert(tables.imports).values(row))
    await filing.age()
    await sweep(sweeping)
    assert await filing.keys() == {sheet.key}

    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(update(tables.imports).values(finished_at=func.now()))
    await filing.age()
    await sweep(sweeping)

    assert await filing.keys() == set()


async def test_upload_of_a_picture_is_emptied_and_keeps_its_name_until_the_picture_is_removed(
    filing: Filing, sweeping: Sweeping, user: UUID
) -> None:
    upload = await filing.uploaded(user, JPEG)
    content = await stored(filing, JPEG)
    await image(filing, "READY", upload.upload_id, content.sha256)
    for _ in range(2):
        await filing.age()
        await sweep(sweeping)

        assert await uploaded_ids(filing) == {upload.upload_id}
        assert upload.key not in await filing.keys()
        assert content.original_key in await filing.keys()
    async with filing.database.statements(filing.tenant) as connection:
        assert await uploads.claim(connection, upload.upload_id) is None  # it has no object any more
        await connection.execute(tables.property_images.delete())

    await filing.age()
    await sweep(sweeping)

    assert await uploaded_ids(filing) == set()
    assert await hashes(filing) == set()
    assert await filing.keys() == set()


async def test_content_is_deleted_with_the_last_that_refers_to_it(
    filing: Filing, sweeping: Sweeping, saving: Saving, user: UUID
) -> None:
    other = await saving.registered(filing.tenant)
    first, second = await filing.added(user, pdf()), await filing.added(other, pdf())
    await filing.delete(first)
    await filing.age()
    await sweep(sweeping)
    assert await filing.keys() == {original(filing.tenant, pdf())}
    async with filing.database.statements(filing.tenant) as connection:
        claimed_at = select(tables.file_contents.c.claimed_at)
        assert (await connection.execute(claimed_at)).scalar_one() > datetime.now(UTC) + timedelta(days=4)

    await filing.delete(second)
    await sweep(sweeping)
    assert await filing.keys() == {original(filing.tenant, pdf())}  # its grace period has begun
    async with filing.database.statements(filing.tenant) as connection:
        assert (await connection.execute(claimed_at)).scalar_one() < datetime.now(UTC) + timedelta(minutes=1)

    await filing.age()
    for _ in range(2):
        await sweep(sweeping)
        assert (await filing.keys(), await hashes(filing)) == (set(), set())


async def test_upload_with_a_hash_refers_to_content(filing: Filing, sweeping: Sweeping, user: UUID) -> None:
    await filing.uploaded(user, CONTENT)
    content = await stored(filing)
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(update(tables.file_contents).values(claimed_at=LONG_AGO))

    await sweep(sweeping)

    assert content.original_key in await filing.keys()


async def test_content_of_another_tenant_stays(
    filing: Filing, sweeping: Sweeping, saving: Saving, user: UUID, store: CommandStore
) -> None:
    elsewhere = Filing(filing.database, filing.all_tenants, filing.objects, store, f"{filing.tenant}-2")
    added = await elsewhere.added(await saving.registered(elsewhere.tenant), pdf())
    await filing.delete(await filing.added(user, pdf()))
    for each in (filing, elsewhere):
        await each.age()

    await sweep(sweeping)

    assert await filing.keys() == set()
    assert await elsewhere.keys() == {original(elsewhere.tenant, pdf())}
    assert await elsewhere.document(added)


class Paused(Objects):
    """Stops before it deletes, until it may go on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def _pause(self) -> None:
        self.reached.set()
        await self.go_on.wait()

    async def delete_prefix(self, prefix: str) -> int:
        await self._pause()
        return await super().delete_prefix(prefix)

    async def delete_keys(self, keys: Any) -> None:
        if keys:
            await self._pause()
        await super().delete_keys(keys)


async def is_waiting(all_tenants: Database) -> bool:
    """Whether a session waits for the lock of a row."""
    async with all_tenants.statements() as connection:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')")
        return bool((await connection.execute(waiting)).scalar_one())


async def test_claim_waits_for_the_sweep_and_then_finds_no_content(
    filing: Filing, all_tenants: Database, settings: Settings
) -> None:
    content, paused = await stored(filing), Paused(settings)
    await filing.age()
    sweeping = asyncio.create_task(sweep(Sweeping(all_tenants, paused, 24)))
    await paused.reached.wait()

    async def claim() -> FileContent:
        async with filing.database.statements(filing.tenant) as connection:
            return await contents.claim(connection, filing.tenant, content.sha256, content.size)

    claiming = asyncio.create_task(claim())
    await until(lambda: is_waiting(all_tenants))
    assert not claiming.done()
    paused.go_on.set()
    claimed = await claiming
    await sweeping

    assert (claimed.stored_at, claimed.made) == (None, None)  # so its objects are written again
    assert await filing.keys() == set()
    assert await hashes(filing) == {content.sha256}
    await stored(filing)
    await sweep(Sweeping(all_tenants, filing.objects, 24))
    assert content.original_key in await filing.keys()


async def test_claim_of_an_upload_waits_for_the_sweep_and_then_finds_none(
    filing: Filing, all_tenants: Database, settings: Settings, user: UUID
) -> None:
    upload, paused = await filing.uploaded(user, pdf()), Paused(settings)
    added = filing.adding(upload)
    await filing.age()
    sweeping = asyncio.create_task(sweep(Sweeping(all_tenants, paused, 24)))
    await paused.reached.wait()

    saving = asyncio.create_task(filing.save(added))
    await until(lambda: is_waiting(all_tenants))
    paused.go_on.set()
    with pytest.raises(Exception, match="no complete upload"):
        await saving
    await sweeping

    assert await filing.document(added) is None
    assert await filing.keys() == set()


async def test_sweep_leaves_what_somebody_is_claiming(
    filing: Filing, all_tenants: Database, objects: Objects, user: UUID
) -> None:
    content, upload = await stored(filing), await filing.uploaded(user, pdf())
    await filing.age()
    async with filing.database.transaction(filing.tenant) as tx:
        claimed = await contents.claim(tx, filing.tenant, content.sha256, content.size)
        assert await uploads.claim(tx, upload.upload_id)
        await sweep(Sweeping(all_tenants, objects, 24))  # while the locks are held

        assert claimed.made
    await sweep(Sweeping(all_tenants, objects, 24))

    assert {content.original_key, upload.key} <= await filing.keys()


async def test_content_that_is_claimed_between_the_two_steps_of_the_sweep_is_made_again(
    filing: Filing, all_tenants: Database, objects: Objects
) -> None:
    content = await stored(filing)
    await filing.age()
    before = datetime.now(UTC) - timedelta(hours=24)
    found, unused = await sweeps._retire(all_tenants, before)
    assert (filing.tenant, content.sha256) in unused
    assert found

    async with filing.database.statements(filing.tenant) as connection:
        claimed = await contents.claim(connection, filing.tenant, content.sha256, content.size)
    deleted = await sweeps._delete_content(all_tenants, objects, filing.tenant, content.sha256, before)

    assert not deleted
    assert (claimed.stored_at, claimed.made) == (None, None)
    assert content.original_key in await filing.keys()


async def test_interrupted_sweep_leaves_nothing_that_is_relied_on(
    filing: Filing, all_tenants: Database, settings: Settings
) -> None:
    class Failing(Objects):
        async def delete_prefix(self, prefix: str) -> int:
            await self.delete(f"{prefix}320.avif")
            raise ObjectsUnavailable("in the middle")

    content = await stored(filing)
    await filing.age()
    await sweep(Sweeping(all_tenants, Failing(settings), 24))

    async with filing.database.statements(filing.tenant) as connection:
        claimed = await contents.claim(connection, filing.tenant, content.sha256, content.size)

    assert (claimed.stored_at, claimed.made) == (None, None)


async def test_cancelled_sweep_holds_its_locks_until_the_objects_are_deleted(
    filing: Filing, all_tenants: Database, settings: Settings
) -> None:
    content, paused = await stored(filing), Paused(settings)
    await filing.age()
    sweeping = asyncio.create_task(sweep(Sweeping(all_tenants, paused, 24)))
    await paused.reached.wait()
    sweeping.cancel()

    async def claim() -> FileContent:
        async with filing.database.statements(filing.tenant) as connection:
            return await contents.claim(connection, filing.tenant, content.sha256, content.size)

    claiming = asyncio.create_task(claim())
    await until(lambda: is_waiting(all_tenants))
    paused.go_on.set()

    assert (await claiming).made is None
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert await filing.keys() == set()


async def test_objects_without_a_row_are_deleted(
    filing: Filing, all_tenants: Database, objects: Objects, user: UUID
) -> None:
    kept, known = await stored(filing), await filing.uploaded(user, pdf())
    sha256 = hashlib.sha256(b"lost").digest()
    lost = f"files/{filing.tenant}/{sha256.hex()}/original", f"uploads/{filing.tenant}/{user}/{new_id()}"
    for key in (*lost, f"incoming/{filing.tenant}/{user}/{new_id()}", f"uploads/{filing.tenant}/{user}/nonsense"):
        await objects.put(key, io.BytesIO(b"lost"), "image/jpeg")
    past, future = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)

    for before, left in ((past, True), (future, False)):
        async for _ in sweeps.record_lost_contents(all_tenants, objects, sha256[0], before):
            pass
        await sweeps.sweep_contents(all_tenants, objects, past, lambda: True)
        assert (lost[0] in await filing.keys()) == left
    # Not with a time in the future, which would delete what other tests have just written.
    async with all_tenants.statements() as connection:
        of_tenant = select(tables.uploads.c.upload_id).where(tables.uploads.c.tenant_id == filing.tenant)
        assert set((await connection.execute(of_tenant)).scalars()) == {known.upload_id}
    assert {kept.original_key, known.key} <= await filing.keys()


async def test_lost_objects_of_uploads_are_deleted(filing: Filing, all_tenants: Database, user: UUID) -> None:
    class OfTenant(Objects):
        """Lists the uploads of this test only, as old ones."""

        async def pages(self, prefix: str, *, older_than: datetime | None = None) -> Any:
            async for page in super().pages(f"{prefix}{filing.tenant}/"):
                yield page

    known = await filing.uploaded(user, pdf())
    await filing.objects.copy(known.key, f"uploads/{filing.tenant}/{user}/{new_id()}")
    await filing.objects.copy(known.key, f"incoming/{filing.tenant}/{user}/nonsense")
    objects = OfTenant(filing.objects._settings)

    assert sum([n async for n in sweeps.sweep_lost_uploads(all_tenants, objects, LONG_AGO)]) == 2

    assert await filing.keys() == {known.key}


async def test_what_is_in_use_is_looked_at_again_after_days(filing: Filing, sweeping: Sweeping, user: UUID) -> None:
    pictured, content = await filing.uploaded(user, JPEG), await stored(filing, JPEG)
    await image(filing, "PROCESSING", pictured.upload_id, content.sha256)
    await filing.age()
    await sweep(sweeping)

    async with filing.database.statements(filing.tenant) as connection:
        for table in (tables.uploads, tables.file_contents):
            claimed: datetime = (await connection.execute(select(table.c.claimed_at))).scalar_one()
            assert claimed > datetime.now(UTC) + timedelta(days=4)
        await contents.claim(connection, filing.tenant, content.sha256, content.size)
        await uploads.claim(connection, pictured.upload_id)
        for table in (tables.uploads, tables.file_contents):
            claimed = (await connection.execute(select(table.c.claimed_at))).scalar_one()
            assert claimed <= datetime.now(UTC) + timedelta(minutes=1)


async def test_one_run_deletes_only_for_its_time_and_the_next_one_goes_on(
    filing: Filing, all_tenants: Database, objects: Objects, monkeypatch: pytest.MonkeyPatch, user: UUID
) -> None:
    monkeypatch.setattr(sweeps, "_PAGE", 1)
    for _ in range(3):
        await filing.uploaded(user, pdf())
    await filing.age()

    left = []
    for _ in range(3):
        await sweep(Sweeping(all_tenants, objects, 24, seconds=0))
        left.append(len(await uploaded_ids(filing)))

    # Other tests may leave some that are as old, which a run finds first.
    assert left[0] >= 2
    assert left == sorted(left, reverse=True)


async def test_unavailable_storage_delays_the_sweep(
    filing: Filing, all_tenants: Database, settings: Settings, user: UUID
) -> None:
    upload = await filing.uploaded(user, pdf())
    await filing.age()
    nowhere = Objects(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    await sweep(Sweeping(all_tenants, nowhere, 24))
    assert await uploaded_ids(filing) == {upload.upload_id}

    await sweep(Sweeping(all_tenants, filing.objects, 24))

    assert await uploaded_ids(filing) == set()


async def test_nothing_that_is_referred_to_is_ever_deleted(
    filing: Filing, all_tenants: Database, objects: Objects, saving: Saving
) -> None:
    """Owners add and delete documents of the same few files, while sweeps without a grace period run beside them.

    The upload of a document refers to its content until the document does.
    """
    owners = [await saving.registered(filing.tenant) for _ in range(3)]
    files = [pdf(b"%d 0 obj <<>> endobj\n" % n) for n in range(4, 6)]
    ended, swept = asyncio.Event(), 0

    async def live(owner: UUID, n: int) -> None:
        for turn in range(4):
            content = files[(n + turn) % len(files)]
            added = await filing.added(owner, content)
            document = await filing.document(added)
            assert document
            assert document.status is DocumentStatus.READY, document.refused
            found = await objects.find(original(filing.tenant, content))
            assert found is not None, "a document lost its content"
            await filing.delete(added)

    async def sweep_on() -> None:
        while not ended.is_set():
            nonlocal swept
            swept += await sweeps.sweep_contents(all_tenants, objects, datetime.now(UTC), lambda: True)

    sweepers = [asyncio.create_task(sweep_on()) for _ in range(2)]
    try:
        await asyncio.gather(*(live(owner, n) for n, owner in enumerate(owners)))
    finally:
        ended.set()
        await asyncio.gather(*sweepers)
    assert swept
