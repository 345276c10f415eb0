"""Making pictures: twice, from the same bytes, without an upload, and what is started again."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment

from activities import overdue_files
from activities.images import Images, MakePicture
from activities.overdue_files import OverdueFiles
from activities.saving import CommandStore
from adapters.current_state import find_property
from adapters.objects import Objects
from adapters.pictures import Pictures
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import file_contents, property_images, users
from adapters.uploads import Upload
from domain.image_commands import AddImages, ImageMade, NewImage, RecordImage, RemoveImage
from domain.images import ImageStatus
from domain.user import UserStatus
from tests.activities.accounts import Saving
from tests.activities.filing import Filing
from tests.api.test_images import photo
from tests.samples import create_property, new_id


class Making:
    """A listing of a person, whose files become pictures."""

    def __init__(self, filing: Filing, saving: Saving, images: Images) -> None:
        self.filing, self.saving, self.images = filing, saving, images
        self.owner: UUID
        self.property_id: UUID

    async def begin(self) -> None:
        self.owner = await self.saving.registered(self.filing.tenant)
        listed = create_property(self.filing.tenant, self.owner)
        self.property_id = listed.property_id
        await self.saving.property(listed)

    async def added(self, content: bytes, **more: Any) -> tuple[AddImages, Upload]:
        """The saved command that adds an image."""
        upload = await self.filing.uploaded(self.owner, content, **more)
        image = NewImage(id=new_id(), upload_id=upload.upload_id, file_name="a.jpg", size=upload.size)
        command = AddImages(**self._by(new_id()), images=(image,))
        await self.saving.property(command)
        return command, upload

    async def make(self, command: AddImages) -> ImageMade:
        [image] = command.images
        making = MakePicture(
            tenant_id=self.filing.tenant,
            property_id=self.property_id,
            image_id=image.id,
            upload_id=image.upload_id,
        )
        made: ImageMade = await ActivityEnvironment().run(self.images.make_picture, making)
        return made

    async def record(self, command: AddImages, made: ImageMade) -> None:
        [image] = command.images
        await self.saving.property(RecordImage(**self._by(image.record_id), image_id=image.id, made=made))

    async def statuses(self) -> list[ImageStatus]:
        async with self.filing.database.statements(self.filing.tenant) as connection:
            listing = await find_property(connection, self.property_id)
        assert listing
        return [image.status for image in listing.images]

    def _by(self, command_id: UUID) -> dict[str, Any]:
        return {
            "command_id": command_id,
            "tenant_id": self.filing.tenant,
            "user_id": self.owner,
            "issued_at": datetime.now(UTC),
            "property_id": self.property_id,
        }


@pytest.fixture(scope="module")
async def pictures() -> AsyncIterator[Pictures]:
    made = Pictures(1)
    yield made
    await made.close()


@pytest.fixture
async def making(
    settings: Settings,
    database: Database,
    all_tenants: Database,
    keyring: Keyring,
    saving: Saving,
    tenant: str,
    pictures: Pictures,
) -> Making:
    objects = Objects(settings)
    filing = Filing(database, all_tenants, objects, CommandStore(database, keyring, lambda _: None), tenant)
    making = Making(filing, saving, Images(database, objects, pictures))
    await making.begin()
    return making


async def test_picture_is_made_once_for_the_same_bytes(making: Making) -> None:
    content = photo(str(new_id()))
    command, upload = await making.added(content)
    first = await making.make(command)
    assert first.picture
    assert first.picture.key == hashlib.sha256(content).hexdigest()
    async with making.filing.all_tenants.transaction() as tx:
        made_at = (await tx.execute(_stored_at(making, content))).scalar_one()
    await making.filing.objects.delete(upload.key)

    other, _ = await making.added(content)
    assert await making.make(command) == first, "also without the upload, whose bytes are stored"
    assert await making.make(other) == first
    async with making.filing.all_tenants.transaction() as tx:
        assert (await tx.execute(_stored_at(making, content))).scalar_one() == made_at
    for _ in range(2):
        await making.record(command, first)
    assert await making.statuses() == [ImageStatus.READY, ImageStatus.PROCESSING]


def _stored_at(making: Making, content: bytes) -> Any:
    return select(file_contents.c.stored_at).where(
        file_contents.c.tenant_id == making.filing.tenant,
        file_contents.c.sha256 == hashlib.sha256(content).digest(),
    )


async def test_what_is_stored_below_a_hash_has_it(making: Making) -> None:
    """Whatever the row of the upload says."""
    content = photo(str(new_id()))
    command, _ = await making.added(content, sha256=b"\x07" * 32)
    made = await making.make(command)
    assert made.picture
    assert made.picture.key == hashlib.sha256(content).hexdigest()


async def test_grace_period_begins_once_a_picture_is_removed(making: Making) -> None:
    """The sweep leaves contents for days that it has found in use."""
    command, _ = await making.added(photo("teal"))
    await making.record(command, await making.make(command))
    async with making.filing.database.statements(making.filing.tenant) as connection:
        later = datetime.now(UTC) + timedelta(days=7)
        await connection.execute(update(file_contents).values(claimed_at=later))
        [image] = command.images
        await making.saving.property(RemoveImage(**making._by(new_id()), image_id=image.id))

        claimed_at: datetime = (await connection.execute(select(file_contents.c.claimed_at))).scalar_one()
    assert claimed_at < datetime.now(UTC) + timedelta(minutes=1)


async def test_file_that_is_gone_or_broken_is_refused(making: Making) -> None:
    command, upload = await making.added(photo(str(new_id())), sha256=None)
    await making.filing.objects.delete(upload.key)
    gone = await making.make(command)
    assert gone.refused
    assert gone.refused.code == "file-gone"
    broken, _ = await making.added(photo(str(new_id()))[:500])
    refused = await making.make(broken)
    assert refused.refused
    assert refused.refused.code == "truncated"
    assert await making.make(broken) == refused
    await making.record(broken, refused)
    assert await making.statuses() == [ImageStatus.PROCESSING, ImageStatus.REFUSED]


async def test_picture_is_recorded_for_an_owner_who_is_suspended(making: Making) -> None:
    command, _ = await making.added(photo(str(new_id())))
    made = await making.make(command)
    async with making.filing.database.statements(making.filing.tenant) as connection:
        suspended = update(users).where(users.c.user_id == making.owner).values(status=UserStatus.SUSPENDED.value)
        await connection.execute(suspended)
    await making.record(command, made)
    assert await making.statuses() == [ImageStatus.READY]


async def test_lost_images_are_started_again_once(
    making: Making, all_tenants: Database, keyring: Keyring, temporal_client: Client
) -> None:
    command, _ = await making.added(photo(str(new_id())))
    queue = f"nobody-{new_id()}"
    overdue = OverdueFiles(all_tenants, keyring, temporal_client, queue)
    await ActivityEnvironment().run(overdue.start_overdue_images)
    handle = temporal_client.get_workflow_handle(f"add-images/{command.command_id}")
    await make_old(making, command)

    await ActivityEnvironment().run(overdue.start_overdue_images)
    started = await handle.describe()
    await ActivityEnvironment().run(overdue.start_overdue_images)
    assert (await handle.describe()).run_id == started.run_id
    [begun, *_] = (await handle.fetch_history()).events
    [sent] = begun.workflow_execution_started_event_attributes.input.payloads
    assert AddImages.model_validate_json(sent.data).images == tuple(
        image.model_copy(update={"file_name": "a deed.pdf"}) for image in command.images
    )
    await stop(handle)


async def test_lost_images_are_found_behind_those_that_are_processed_still(
    making: Making,
    all_tenants: Database,
    keyring: Keyring,
    temporal_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overdue_files, "_LIMIT", 1)
    overdue = OverdueFiles(all_tenants, keyring, temporal_client, f"nobody-{new_id()}")
    added = [(await making.added(photo(str(new_id()))))[0] for _ in range(3)]
    for command in added:
        await make_old(making, command)

    while await ActivityEnvironment().run(overdue.start_overdue_images):
        pass

    for command in added:
        handle = temporal_client.get_workflow_handle(f"add-images/{command.command_id}")
        assert (await handle.describe()).workflow_type == "add-images"
        await stop(handle)


async def make_old(making: Making, command: AddImages) -> None:
    """Let it be an hour since the images of a command were added."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    async with making.filing.database.statements(making.filing.tenant) as connection:
        of_command = property_images.c.command_id == command.command_id
        await connection.execute(update(property_images).where(of_command).values(added_at=long_ago))


async def stop(handle: WorkflowHandle[Any, Any]) -> None:
    """Stop a workflow, which the platform beside the tests may have found and run."""
    with suppress(RPCError):
        await handle.terminate()
