"""People who upload files, through the real tables and a real S3."""

import hashlib
import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import update
from temporalio.testing import ActivityEnvironment

from activities.documents import CheckingDocument, DocumentFiles, Documents
from activities.saving import CommandStore
from adapters import uploads
from adapters.documents import find_document
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.tables import file_contents
from adapters.tables import uploads as upload_table
from adapters.uploads import Upload
from domain.command import Saved
from domain.documents import AddDocument, DeleteDocument, Document
from tests.samples import new_id

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Filing:
    """Uploads and documents of one tenant."""

    def __init__(
        self, database: Database, all_tenants: Database, objects: Objects, store: CommandStore, tenant: str
    ) -> None:
        self.database = database
        self.all_tenants = all_tenants
        self.objects = objects
        self.tenant = tenant
        self._documents = Documents(store)
        self.files = DocumentFiles(database, objects, store)

    async def uploaded(self, user: UUID, content: bytes, **more: Any) -> Upload:
        """A completed upload."""
        values: dict[str, Any] = {"file_name": "a deed.pdf", "media_type": "application/pdf", "property_id": None}
        values["sha256"] = hashlib.sha256(content).digest()
        upload = Upload(
            tenant_id=self.tenant,
            upload_id=new_id(),
            user_id=user,
            size=len(content),
            created_at=datetime.now(UTC),
            **{**values, **more},
        )
        async with self.database.statements(self.tenant) as connection:
            await uploads.begin(connection, upload)
        await self.objects.put(upload.key, io.BytesIO(content), upload.media_type)
        async with self.database.statements(self.tenant) as connection:
            completed = await uploads.complete(connection, upload.upload_id)
        assert completed
        return completed

    def adding(self, upload: Upload, **more: Any) -> AddDocument:
        return AddDocument(**self._by(upload.user_id), **{"file_id": new_id(), "upload_id": upload.upload_id, **more})

    async def save(self, command: AddDocument | DeleteDocument) -> Saved:
        return await self._documents.save_document(command.model_dump(mode="json", by_alias=True))

    async def check(self, added: AddDocument) -> Saved | None:
        checking = CheckingDocument(
            tenant_id=self.tenant, user_id=added.user_id, file_id=added.file_id, upload_id=added.upload_id
        )
        saved: Saved | None = await ActivityEnvironment().run(self.files.check_document, checking)
        return saved

    async def added(self, user: UUID, content: bytes, **more: Any) -> AddDocument:
        """A document that is checked."""
        command = self.adding(await self.uploaded(user, content), **more)
        await self.save(command)
        await self.check(command)
        return command

    async def delete(self, added: AddDocument) -> None:
        await self.save(DeleteDocument(**self._by(added.user_id), file_id=added.file_id))

    async def document(self, added: AddDocument) -> Document | None:
        async with self.database.statements(self.tenant) as connection:
            found = await find_document(connection, added.file_id)
        return found.document if found else None

    async def age(self) -> None:
        """Let the grace period of every upload and content of the tenant be over."""
        async with self.database.statements(self.tenant) as connection:
            for table in (upload_table, file_contents):
                await connection.execute(update(table).values(claimed_at=LONG_AGO))

    async def keys(self) -> set[str]:
        """The keys of all files of the tenant."""
        prefixes = [f"{kind}/{self.tenant}/" for kind in ("uploads", "incoming", "files")]
        return {key for prefix in prefixes async for key in self.objects.keys(prefix)}

    def _by(self, user: UUID) -> dict[str, Any]:
        return {"command_id": new_id(), "tenant_id": self.tenant, "user_id": user, "issued_at": datetime.now(UTC)}


def original(tenant: str, content: bytes) -> str:
    """The key of the original of some bytes."""
    return f"files/{tenant}/{hashlib.sha256(content).hexdigest()}/original"
