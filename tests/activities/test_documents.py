"""Commands on documents and the check of their bytes, on real Postgres and S3."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, update
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.overdue_files import OverdueFiles
from activities.saving import CommandStore
from adapters import tables
from adapters.documents import documents_of, find_document
from adapters.objects import Objects, ObjectsUnavailable
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.uploads import find_upload
from domain.documents import MOST_DOCUMENTS, AddDocument, DocumentStatus
from tests.activities.accounts import Saving
from tests.activities.filing import LONG_AGO, Filing, original
from tests.files import JPEG, pdf
from tests.samples import new_id, new_tenant


@pytest.fixture(scope="module")
def objects(settings: Settings) -> Objects:
    return Objects(settings)


@pytest.fixture
def filing(database: Database, all_tenants: Database, objects: Objects, store: CommandStore, tenant: str) -> Filing:
    return Filing(database, all_tenants, objects, store, tenant)


@pytest.fixture
async def user(saving: Saving, tenant: str) -> UUID:
    return await saving.registered(tenant)


async def test_document_is_stored_by_its_content_and_its_upload_is_deleted(filing: Filing, user: UUID) -> None:
    upload = await filing.uploaded(user, pdf())
    added = filing.adding(upload)
    saved = await filing.save(added)
    waiting = await filing.document(added)

    checked = await filing.check(added)

    document = await filing.document(added)
    assert [event.event_type for event in saved.events] == ["DOCUMENT_UPLOADED"]
    assert waiting
    assert waiting.status is DocumentStatus.PROCESSING
    assert checked
    assert [event.event_type for event in checked.events] == ["DOCUMENT_ADDED"]
    assert document
    assert (document.status, document.media_type) == (DocumentStatus.READY, "application/pdf")
    assert await filing.keys() == {original(filing.tenant, pdf())}
    async with filing.database.statements(filing.tenant) as connection:
        assert await find_upload(connection, upload.upload_id) is None
        [named], _ = await documents_of(connection, user, 20, None)
    assert named.file_name == "a deed.pdf"


async def test_everything_can_run_twice(filing: Filing, user: UUID) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    first = await filing.save(added), await filing.check(added)
    again = await filing.save(added), await filing.check(added)

    assert again == first
    document = await filing.document(added)
    assert document
    assert (document.status, document.version) == (DocumentStatus.READY, 2)


async def test_attempts_at_the_same_time_make_one_document(filing: Filing, user: UUID) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    await filing.save(added)

    answers = await asyncio.gather(*(filing.check(added) for _ in range(3)))

    document = await filing.document(added)
    assert document
    assert (document.status, document.version) == (DocumentStatus.READY, 2)
    assert answers == [answers[0]] * 3


async def test_same_bytes_are_stored_once_for_a_tenant(filing: Filing, saving: Saving, user: UUID) -> None:
    other = await saving.registered(filing.tenant)
    for owner in (user, other, user):
        await filing.added(owner, pdf())

    assert await filing.keys() == {original(filing.tenant, pdf())}


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"just text", "unknown-type"), (pdf()[:-40], "truncated"), (b"<html></html>", "unknown-type")],
)
async def test_file_that_is_no_document_is_refused_and_not_kept(
    filing: Filing, user: UUID, content: bytes, code: str
) -> None:
    added = await filing.added(user, content)

    document = await filing.document(added)
    assert document
    assert document.refused
    assert (document.status, document.refused.code) == (DocumentStatus.REFUSED, code)
    assert await filing.keys() == set()


async def test_document_whose_upload_is_lost_is_refused(filing: Filing, user: UUID) -> None:
    upload = await filing.uploaded(user, pdf())
    added = filing.adding(upload)
    await filing.save(added)
    await filing.objects.delete(upload.key)

    await filing.check(added)

    document = await filing.document(added)
    assert document
    assert document.refused
    assert document.refused.code == "lost"


async def test_document_waits_while_the_storage_is_unavailable(
    filing: Filing, user: UUID, settings: Settings, store: CommandStore
) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    await filing.save(added)
    nowhere = Objects(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    unlucky = Filing(filing.database, filing.all_tenants, nowhere, store, filing.tenant)

    with pytest.raises(ObjectsUnavailable):
        await unlucky.check(added)

    document = await filing.document(added)
    assert document
    assert document.status is DocumentStatus.PROCESSING
    await filing.check(added)
    document = await filing.document(added)
    assert document
    assert document.status is DocumentStatus.READY


async def test_content_that_was_swept_meanwhile_is_stored_again(filing: Filing, user: UUID) -> None:
    first = await filing.added(user, JPEG)
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(update(tables.file_contents).values(stored_at=None))
    await filing.objects.delete(original(filing.tenant, JPEG))

    await filing.added(user, JPEG)

    assert await filing.document(first)
    assert await filing.keys() == {original(filing.tenant, JPEG)}


async def refusal(filing: Filing, command: AddDocument) -> str | None:
    with pytest.raises(ApplicationError) as refused:
        await filing.save(command)
    return refused.value.type


async def test_upload_of_somebody_else_or_of_another_tenant_becomes_no_document(
    filing: Filing, saving: Saving, store: CommandStore, user: UUID
) -> None:
    other = await saving.registered(filing.tenant)
    theirs = await filing.uploaded(other, pdf())
    elsewhere = Filing(filing.database, filing.all_tenants, filing.objects, store, new_tenant())
    foreign = await elsewhere.uploaded(user, pdf())

    for upload in (theirs, foreign):
        command = filing.adding(upload).model_copy(update={"user_id": user})
        assert await refusal(filing, command) == "not-found"


async def test_document_is_attached_to_an_own_listing_only(filing: Filing, saving: Saving) -> None:
    listed, other = await saving.listed(filing.tenant), await saving.listed(filing.tenant)

    added = await filing.added(listed.user_id, pdf(), property_id=listed.property_id)

    document = await filing.document(added)
    assert document
    assert document.property_id == listed.property_id
    for property_id, code in ((other.property_id, "forbidden"), (new_id(), "not-found")):
        command = filing.adding(await filing.uploaded(listed.user_id, pdf()), property_id=property_id)
        assert await refusal(filing, command) == code


async def test_user_has_a_bounded_number_of_documents(filing: Filing, user: UUID) -> None:
    added = await filing.added(user, pdf())
    async with filing.database.statements(filing.tenant) as connection:
        row = (await connection.execute(select(tables.documents))).mappings().one()
        copies = [{**row, "file_id": new_id()} for _ in range(MOST_DOCUMENTS - 1)]
        await connection.execute(tables.documents.insert(), copies)

    assert await refusal(filing, filing.adding(await filing.uploaded(user, pdf()))) == "too-many-documents"
    await filing.delete(added)
    await filing.added(user, pdf())


async def test_deleted_document_is_gone_and_its_late_check_changes_nothing(filing: Filing, user: UUID) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    await filing.save(added)
    await filing.delete(added)

    checked = await filing.check(added)

    assert checked
    assert checked.events == ()
    assert await filing.document(added) is None


async def test_document_of_an_erased_account_is_left(filing: Filing, user: UUID) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    await filing.save(added)
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(delete(tables.person_keys).where(tables.person_keys.c.user_id == user))

    assert await filing.check(added) is None


async def test_document_is_of_its_tenant(filing: Filing, user: UUID) -> None:
    added = await filing.added(user, pdf())

    async with filing.database.statements(new_tenant()) as connection:
        assert await find_document(connection, added.file_id) is None
        assert await documents_of(connection, user, 20, None) == ([], None)
        assert (await connection.execute(select(func.count()).select_from(tables.file_contents))).scalar_one() == 0


async def test_lost_workflow_of_a_document_is_started_again(
    filing: Filing, all_tenants: Database, keyring: Keyring, temporal_client: Client, user: UUID
) -> None:
    added = filing.adding(await filing.uploaded(user, pdf()))
    await filing.save(added)
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(update(tables.documents).values(created_at=LONG_AGO))
    overdue = OverdueFiles(all_tenants, keyring, temporal_client, "nobody-works-here")

    await ActivityEnvironment().run(overdue.start_overdue_documents)

    described = await temporal_client.get_workflow_handle(f"add-document/{added.command_id}").describe()
    assert described.workflow_type == "add-document"
    async with filing.database.statements(filing.tenant) as connection:
        await connection.execute(delete(tables.documents))
