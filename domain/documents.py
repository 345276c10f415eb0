"""A document: a private file of a user, a PDF or an image. Its commands and events, with `decide` and `evolve`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from domain.command import Actor, Command
from domain.errors import NotOwner, PropertyNotFound, Refusal
from domain.model import Fact

MOST_DOCUMENTS = 200
"""Of a user: the papers of many homes. Of two that are added at the same moment both may be saved."""


class TooManyDocuments(Refusal):
    code = "too-many-documents"
    advice = f"You have {MOST_DOCUMENTS} documents. Delete one first."


class DocumentNotFound(Refusal):
    code = "not-found"
    advice = "You have no document with this id. Check the id."


class UploadNotFound(Refusal):
    code = "not-found"
    advice = (
        "There is no complete upload with this id; one that is not used is deleted after a day. Send the file again."
    )


class DocumentStatus(StrEnum):
    PROCESSING = "PROCESSING"
    READY = "READY"
    REFUSED = "REFUSED"


class DocumentRefusal(Fact):
    """Why a file is refused."""

    code: str
    """Such as `not-a-pdf`."""
    detail: str
    """A sentence for the owner."""


class DocumentChecked(Fact):
    """What was found in the bytes of a document: their type, or why they are refused."""

    media_type: str | None = None
    key: str | None = None
    """SHA-256 of the bytes, in hexadecimal digits."""
    refused: DocumentRefusal | None = None


class _WholeDocument(Fact):
    file_id: UUID
    owner_id: UUID
    property_id: UUID | None = None
    """The listing that it is attached to: who may see the listing may read the document."""
    upload_id: UUID
    size: int
    """Bytes."""


class Document(_WholeDocument):
    """The state of a document. The name of the file is personal, and in no event."""

    version: int
    status: DocumentStatus
    media_type: str | None = None
    key: str | None = None
    """SHA-256 of the bytes, in hexadecimal digits."""
    refused: DocumentRefusal | None = None
    created_at: datetime
    updated_at: datetime


class _DocumentCommand(Command):
    file_id: UUID

    @property
    def aggregate_id(self) -> UUID:
        return self.file_id


class AddDocument(_DocumentCommand):
    """Make a document of a completed upload."""

    type: Literal["add-document"] = "add-document"
    upload_id: UUID
    property_id: UUID | None = None
    size: int | None = None
    """Bytes, as its step in the Temporal UI says."""


class RecordDocument(_DocumentCommand):
    """Record what was found in the bytes of a document. Sent by the workflow of AddDocument."""

    type: Literal["record-document"] = "record-document"
    checked: DocumentChecked


class DeleteDocument(_DocumentCommand):
    """Delete a document."""

    type: Literal["delete-document"] = "delete-document"


DocumentCommand = Annotated[AddDocument | RecordDocument | DeleteDocument, Field(discriminator="type")]


class AttachedListing(Fact):
    """What attaching to a listing depends on."""

    owner_id: UUID
    is_public: bool

    def is_seen_by(self, user_id: UUID | None) -> bool:
        """Whether a user, or anybody without one, may see the listing. Administrators always may."""
        return self.is_public or user_id == self.owner_id


class DocumentSender(Actor):
    """The user who sends a command, and what a new document depends on."""

    documents: int = 0
    """How many the user has."""
    upload_size: int | None = None
    """Bytes of the upload; None if the user has no such completed upload."""
    file_name: str | None = None
    """Of the upload."""
    listing: AttachedListing | None = None
    """The owner of the listing that it is to be attached to; None if there is no such listing."""


class DocumentUploaded(_WholeDocument):
    """DOCUMENT_UPLOADED: a user has sent a document, whose bytes are not checked yet."""


class DocumentAdded(_WholeDocument):
    """DOCUMENT_ADDED: a document is what it says, and can be read."""

    media_type: str
    key: str


class DocumentRefused(_WholeDocument):
    """DOCUMENT_REFUSED: a file is no document that is kept."""

    refused: DocumentRefusal


class DocumentDeleted(Fact):
    """DOCUMENT_DELETED: a tombstone, the last event of a document."""

    file_id: UUID
    owner_id: UUID


DocumentFact = DocumentUploaded | DocumentAdded | DocumentRefused | DocumentDeleted


def decide(state: Document | None, command: DocumentCommand, by: DocumentSender) -> list[DocumentFact]:
    """The events that `command` causes; empty when it changes nothing.

    Raises UploadNotFound, TooManyDocuments, PropertyNotFound, NotOwner or DocumentNotFound.
    """
    match command:
        case AddDocument():
            return [] if state else [_uploaded(command, by)]
        case RecordDocument():
            # One that is deleted in the meantime, or was recorded before.
            waits = state is not None and state.status is DocumentStatus.PROCESSING
            return [_recorded(state, command.checked)] if state and waits else []
        case DeleteDocument():
            if state is None or not (by.is_admin or state.owner_id == by.user_id):
                raise DocumentNotFound
            return [DocumentDeleted(file_id=state.file_id, owner_id=state.owner_id)]


def check_attaching(listing: AttachedListing | None, by: Actor) -> None:
    """Whether a file may be attached to a listing, by its owner and administrators as every change.

    Raises PropertyNotFound or NotOwner.
    """
    if listing and (by.is_admin or listing.owner_id == by.user_id):
        return
    raise NotOwner if listing and listing.is_public else PropertyNotFound


def evolve(state: Document | None, fact: DocumentFact, version: int, at: datetime) -> Document | None:
    """The state after an event; None after a tombstone."""
    if isinstance(fact, DocumentUploaded):
        times = {"created_at": at, "updated_at": at}
        return Document(**dict(fact), version=version, status=DocumentStatus.PROCESSING, **times)
    if isinstance(fact, DocumentDeleted) or state is None:
        return None
    changed: dict[str, Any] = {"version": version, "updated_at": at}
    if isinstance(fact, DocumentAdded):
        changed |= {"status": DocumentStatus.READY, "media_type": fact.media_type, "key": fact.key}
    else:
        changed |= {"status": DocumentStatus.REFUSED, "refused": fact.refused}
    return state.model_copy(update=changed)


def _uploaded(command: AddDocument, by: DocumentSender) -> DocumentUploaded:
    if by.upload_size is None:
        raise UploadNotFound
    if by.documents >= MOST_DOCUMENTS:
        raise TooManyDocuments
    if command.property_id:
        check_attaching(by.listing, by)
    return DocumentUploaded(
        file_id=command.file_id,
        owner_id=command.user_id,
        property_id=command.property_id,
        upload_id=command.upload_id,
        size=by.upload_size,
    )


def _recorded(state: Document, checked: DocumentChecked) -> DocumentFact:
    whole = {name: getattr(state, name) for name in _WholeDocument.model_fields}
    if checked.refused or not (checked.media_type and checked.key):
        lost = DocumentRefusal(code="lost", detail="The file is no longer there. Send it again.")
        return DocumentRefused(**whole, refused=checked.refused or lost)
    return DocumentAdded(**whole, media_type=checked.media_type, key=checked.key)
