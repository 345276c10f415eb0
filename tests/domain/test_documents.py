"""The rules of documents."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.documents import (
    MOST_DOCUMENTS,
    AddDocument,
    AttachedListing,
    DeleteDocument,
    Document,
    DocumentAdded,
    DocumentChecked,
    DocumentCommand,
    DocumentDeleted,
    DocumentNotFound,
    DocumentRefusal,
    DocumentRefused,
    DocumentSender,
    DocumentStatus,
    DocumentUploaded,
    RecordDocument,
    TooManyDocuments,
    UploadNotFound,
    decide,
    evolve,
)
from domain.errors import NotOwner, PropertyNotFound
from domain.roles import UserRole

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OWNER, OTHER, FILE, UPLOAD, LISTING = (UUID(int=n) for n in range(1, 6))
COMMAND: dict[str, Any] = {"command_id": UUID(int=9), "tenant_id": "t", "issued_at": NOW, "file_id": FILE}
READY = DocumentChecked(media_type="application/pdf", key="5f" * 32)
REFUSED = DocumentChecked(refused=DocumentRefusal(code="truncated", detail="The end is missing. Send it again."))


def listing(owner: UUID, *, is_public: bool = True) -> AttachedListing:
    return AttachedListing(owner_id=owner, is_public=is_public)


def sender(user: UUID = OWNER, role: UserRole = UserRole.USER, **more: Any) -> DocumentSender:
    return DocumentSender(user_id=user, role=role, **{"upload_size": 5, **more})


def adding(**more: Any) -> AddDocument:
    return AddDocument(user_id=OWNER, upload_id=UPLOAD, **COMMAND, **more)


def recording(checked: DocumentChecked) -> RecordDocument:
    return RecordDocument(user_id=OWNER, checked=checked, **COMMAND)


def deleting(user: UUID) -> DeleteDocument:
    return DeleteDocument(user_id=user, **COMMAND)


def document(*checked: DocumentChecked) -> Document:
    """A document after its upload, and what was found in it."""
    state: Document | None = None
    commands: list[DocumentCommand] = [adding(), *(recording(each) for each in checked)]
    for version, command in enumerate(commands, start=1):
        for fact in decide(state, command, sender()):
            state = evolve(state, fact, version, NOW)
    assert state
    return state


def test_document_is_checked_before_it_is_ready() -> None:
    [uploaded] = decide(None, adding(), sender())
    waiting = document()

    assert isinstance(uploaded, DocumentUploaded)
    assert (waiting.status, waiting.media_type, waiting.key) == (DocumentStatus.PROCESSING, None, None)
    assert (waiting.owner_id, waiting.size) == (OWNER, 5)

    ready = document(READY)

    assert (ready.status, ready.media_type, ready.version) == (DocumentStatus.READY, "application/pdf", 2)


def test_refused_document_says_why() -> None:
    [refused] = decide(document(), recording(REFUSED), sender())
    state = document(REFUSED)

    assert isinstance(refused, DocumentRefused)
    assert (state.status, state.refused) == (DocumentStatus.REFUSED, REFUSED.refused)


def test_document_whose_file_is_lost_is_refused() -> None:
    [refused] = decide(document(), recording(DocumentChecked()), sender())

    assert isinstance(refused, DocumentRefused)
    assert refused.refused.code == "lost"


@pytest.mark.parametrize("first", [READY, REFUSED])
def test_what_was_found_is_recorded_once(first: DocumentChecked) -> None:
    assert decide(document(first), recording(READY), sender()) == []
    assert decide(document(first), recording(DocumentChecked()), sender()) == []


def test_result_for_a_deleted_document_changes_nothing() -> None:
    assert decide(None, recording(READY), sender()) == []


def test_same_command_adds_nothing_twice() -> None:
    assert decide(document(), adding(), sender()) == []


@pytest.mark.parametrize(
    ("more", "by", "refusal"),
    [
        ({}, {"upload_size": None}, UploadNotFound),
        ({}, {"documents": MOST_DOCUMENTS}, TooManyDocuments),
        ({"property_id": LISTING}, {"listing": None}, PropertyNotFound),
        ({"property_id": LISTING}, {"listing": None, "role": UserRole.ADMIN}, PropertyNotFound),
        ({"property_id": LISTING}, {"listing": listing(OTHER)}, NotOwner),
        ({"property_id": LISTING}, {"listing": listing(OTHER, is_public=False)}, PropertyNotFound),
    ],
)
def test_document_that_may_not_be_added_is_refused(
    more: dict[str, Any], by: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        decide(None, adding(**more), sender(**by))


@pytest.mark.parametrize("by", [{"listing": "own"}, {"listing": "other", "role": UserRole.ADMIN}])
def test_owner_or_administrator_attaches_a_document_to_a_listing(by: dict[str, Any]) -> None:
    of = listing(OWNER if by["listing"] == "own" else OTHER, is_public=False)
    [uploaded] = decide(None, adding(property_id=LISTING), sender(**by | {"listing": of}, documents=MOST_DOCUMENTS - 1))

    assert isinstance(uploaded, DocumentUploaded)
    assert uploaded.property_id == LISTING


@pytest.mark.parametrize(
    ("user", "role", "allowed"),
    [(OWNER, UserRole.USER, True), (OTHER, UserRole.ADMIN, True), (OTHER, UserRole.AGENT, False)],
)
def test_owner_and_administrators_delete_a_document(user: UUID, role: UserRole, allowed: bool) -> None:
    if not allowed:
        with pytest.raises(DocumentNotFound):
            decide(document(READY), deleting(user), sender(user, role))
        return
    [deleted] = decide(document(READY), deleting(user), sender(user, role))

    assert isinstance(deleted, DocumentDeleted)
    assert (deleted.owner_id, evolve(document(READY), deleted, 3, NOW)) == (OWNER, None)


def test_deleted_document_is_not_found() -> None:
    with pytest.raises(DocumentNotFound):
        decide(None, deleting(OWNER), sender())


def test_no_event_has_the_name_of_a_file() -> None:
    assert all("name" not in name for kind in (DocumentUploaded, DocumentAdded) for name in kind.model_fields)
