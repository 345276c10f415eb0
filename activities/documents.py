"""Activities that save commands on documents, and that check the bytes of one and store them."""

import asyncio
import logging
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.beating import heartbeats
from activities.saving import Aggregate, CommandStore, Loaded
from adapters import contents, uploads
from adapters import documents as table
from adapters.document_checks import DocumentRefused, check_document
from adapters.file_access import attached_listing
from adapters.objects import Objects
from adapters.postgres import Database, Write
from adapters.tables import documents, file_contents, person_keys, users
from adapters.uploads import Upload
from domain.command import FAILED, Saved, SealedCommand
from domain.documents import (
    AddDocument,
    Document,
    DocumentChecked,
    DocumentCommand,
    DocumentRefusal,
    DocumentSender,
    RecordDocument,
    decide,
    evolve,
)
from domain.errors import AccountClosed
from domain.model import Fact
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, UserStatus

log = logging.getLogger(__name__)

_OTHERS = documents.alias("others")
_LOAD = (
    select(
        users.c.role,
        users.c.status.label("account_status"),
        person_keys.c.wrapped_key,
        select(func.count()).where(_OTHERS.c.owner_id == bindparam("actor_id")).scalar_subquery().label("documents"),
        *table.DOCUMENT_STATE,
    )
    .select_from(users)
    .join(person_keys, person_keys.c.user_id == users.c.user_id)
    .outerjoin(documents, documents.c.file_id == bindparam("of_file_id"))
    .where(users.c.user_id == bindparam("actor_id"))
)


class CheckingDocument(Fact):
    """The input of the step that checks a document."""

    tenant_id: str
    user_id: UUID
    """The owner."""
    file_id: UUID
    upload_id: UUID


class Documents:
    """Saves the commands on documents."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    @activity.defn
    async def save_document(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/documents.py` as ApplicationError."""
        return await self._store.save(DOCUMENT, command)


class DocumentFiles:
    """Checks the bytes of documents, stores each once for the same bytes, and records the result."""

    def __init__(self, database: Database, objects: Objects, store: CommandStore) -> None:
        self._database = database
        self._objects = objects
        self._store = store

    @activity.defn
    async def check_document(self, checking: CheckingDocument) -> Saved | None:
        """Check a document and record the result; None when nobody needs it any more.

        Raises DatabaseUnavailable or ObjectsUnavailable.
        """
        async with heartbeats("reading the file") as step:
            async with self._database.statements(checking.tenant_id) as connection:
                upload = await uploads.claim(connection, checking.upload_id)
            # Without an upload: a repetition after it was deleted, to whose record this changes nothing; or it is lost.
            checked = await self._checked(upload) if upload else DocumentChecked()
            step("recording the result")
            saved = await self._record(checking, checked)
            if upload:
                await uploads.delete_uploads(self._database, self._objects, [upload])
        return saved

    async def _checked(self, upload: Upload) -> DocumentChecked:
        with tempfile.TemporaryDirectory(prefix="document-") as folder:
            path = Path(folder) / "original"
            if not await self._objects.download(upload.key, path):
                return DocumentChecked()
            try:
                media_type = await asyncio.to_thread(check_document, path)
            except DocumentRefused as refused:
                return DocumentChecked(refused=DocumentRefusal(code=refused.code, detail=refused.detail))
            sha256 = await self._store_content(upload, path, media_type)
            return DocumentChecked(media_type=media_type, key=sha256.hex())

    async def _store_content(self, upload: Upload, path: Path, media_type: str) -> bytes:
        """Store the bytes unless they are; returns their hash.

        From the file that was checked, not by a copy inside the storage, whose source could have changed meanwhile.
        """
        sha256 = await asyncio.to_thread(contents.hash_of, path)
        async with self._database.statements(upload.tenant_id) as connection:
            content = await contents.claim(connection, upload.tenant_id, sha256, upload.size)
        if content.stored_at is None:
            with path.open("rb") as file:
                await self._objects.put(content.original_key, file, media_type)
        async with self._database.statements(upload.tenant_id) as connection:
            if not await contents.record_stored(connection, content, media_type):
                raise contents.ContentSwept
        return sha256

    async def _record(self, checking: CheckingDocument, checked: DocumentChecked) -> Saved | None:
        command = RecordDocument(
            command_id=uuid5(checking.file_id, "record"),
            tenant_id=checking.tenant_id,
            user_id=checking.user_id,
            issued_at=datetime.now(UTC),
            file_id=checking.file_id,
            checked=checked,
        )
        try:
            return await self._store.save(DOCUMENT, command.model_dump(mode="json", by_alias=True))
        except ApplicationError as error:
            if error.type == FAILED:
                raise
            log.info("document %s is not recorded: %s", checking.file_id, error.message)
            return None  # the account is erased


async def _load(connection: AsyncConnection, command: Any) -> Loaded[Document]:
    """Load the document, and what a new one depends on. Raises AccountClosed.

    The upload is claimed here, before the row that refers to it is written.
    """
    ids = {"of_file_id": command.file_id, "actor_id": command.user_id}
    row = (await connection.execute(_LOAD, ids)).mappings().one_or_none()
    # What was begun for an account is finished, also when it is suspended.
    allowed = frozenset(UserStatus) if isinstance(command, RecordDocument) else MAY_SIGN_IN
    if row is None or row["account_status"] not in allowed:
        raise AccountClosed
    state = table.document_of(row) if row["version"] else None
    sender = DocumentSender(user_id=command.user_id, role=UserRole(row["role"]), documents=row["documents"])
    if isinstance(command, AddDocument) and state is None:
        sender = sender.model_copy(update=await _needed(connection, command))
    return Loaded(
        state=state,
        version=state.version if state else 0,
        actor=sender,
        person_id=state.owner_id if state else command.user_id,
        key=row["wrapped_key"],
    )


async def _needed(connection: AsyncConnection, command: AddDocument) -> dict[str, Any]:
    upload = await uploads.claim(connection, command.upload_id)
    if upload is None or upload.user_id != command.user_id:
        return {}
    found: dict[str, Any] = {"upload_size": upload.size, "file_name": upload.file_name}
    if command.property_id:
        found["listing"] = await attached_listing(connection, command.property_id)
    return found


def _rows(command: Any, loaded: Loaded[Document], state: Document | None) -> Sequence[Write]:
    key = {"tenant_id": command.tenant_id, "file_id": command.file_id}
    if state is None:
        deleted = [Write(documents, key, "delete")]
        if loaded.state and loaded.state.key:
            # Its grace period begins, and the sweep does not take it for content that is in use.
            content = {"tenant_id": command.tenant_id, "sha256": bytes.fromhex(loaded.state.key)}
            deleted.append(Write(file_contents, {**content, "claimed_at": datetime.now(UTC)}, "update"))
        return deleted
    row = state.model_dump(exclude={"file_id", "key"})
    row["sha256"] = bytes.fromhex(state.key) if state.key else None
    if not isinstance(command, AddDocument):
        return [Write(documents, {**key, **row}, "update")]
    assert isinstance(loaded.actor, DocumentSender)
    named = {"command_id": command.command_id, "file_name": loaded.actor.file_name}
    return [Write(documents, {**key, **row, **named}, "insert")]


DOCUMENT: Aggregate[Document] = Aggregate(
    commands=TypeAdapter(DocumentCommand, config=ConfigDict(hide_input_in_errors=True)),
    load=_load,
    decide=decide,
    evolve=evolve,
    rows=_rows,
)
