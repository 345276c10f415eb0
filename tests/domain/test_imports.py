"""Imports: what may start, how one ends, and the ids of rows."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.errors import ImportNotFound, TooManyImports
from domain.imports import (
    MAX_UNFINISHED,
    FinishImport,
    Import,
    ImportCommand,
    Importer,
    ImportProperties,
    ImportStatus,
    PropertiesImportFinished,
    PropertiesImportStarted,
    RowCounts,
    RowIdentity,
    decide,
    evolve,
    settings_digest,
)
from domain.property import PropertyDetails
from domain.roles import UserRole
from tests.samples import listing, new_id

NOW = datetime(2026, 11, 30, tzinfo=UTC)
USER = new_id()
SHA = bytes(range(32))


def by(**more: Any) -> Importer:
    return Importer(user_id=USER, role=UserRole.AGENT, **more)


def starting() -> ImportProperties:
    of: dict[str, Any] = {"command_id": new_id(), "tenant_id": "hyderabad", "user_id": USER, "issued_at": NOW}
    return ImportProperties(**of, upload_id=new_id(), file_name="listings.csv", size=100)


def finishing(import_id: UUID, status: Any = ImportStatus.COMPLETED, reason: str | None = None) -> FinishImport:
    of: dict[str, Any] = {"command_id": new_id(), "tenant_id": "hyderabad", "user_id": USER, "issued_at": NOW}
    return FinishImport(**of, import_id=import_id, status=status, reason=reason)


def after(state: Import | None, command: ImportCommand, importer: Importer) -> Import | None:
    for fact in decide(state, command, importer):
        state = evolve(state, fact, (state.version if state else 0) + 1, NOW)
    return state


def test_import_starts_once_and_finishes_once_with_its_counts() -> None:
    command = starting()
    assert decide(None, command, by()) == [PropertiesImportStarted(import_id=command.command_id, user_id=USER)]
    started = after(None, command, by())
    assert started
    assert (started.status, started.version, started.finished_at) == (ImportStatus.RUNNING, 1, None)
    assert decide(started, command, by()) == []

    counts = RowCounts(read=5, saved=2, updated=1, unchanged=1, refused=1)
    [fact] = decide(started, finishing(started.id), by(rows=counts))
    assert isinstance(fact, PropertiesImportFinished)
    assert (fact.status, fact.read, fact.saved, fact.refused) == (ImportStatus.COMPLETED, 5, 2, 1)
    finished = evolve(started, fact, 2, NOW)
    assert finished
    assert (finished.status, finished.version, finished.finished_at) == (ImportStatus.COMPLETED, 2, NOW)
    assert decide(finished, finishing(started.id, ImportStatus.FAILED, "late"), by()) == []


def test_fourth_unfinished_import_is_refused() -> None:
    with pytest.raises(TooManyImports):
        decide(None, starting(), by(unfinished=MAX_UNFINISHED))
    assert decide(None, starting(), by(unfinished=MAX_UNFINISHED - 1))


def test_import_that_is_cancelled_while_its_last_row_is_saved_is_cancelled() -> None:
    started = after(None, starting(), by())
    assert started
    cancelled = started.model_copy(update={"status": ImportStatus.CANCELLED})

    [fact] = decide(cancelled, finishing(started.id), by())

    assert isinstance(fact, PropertiesImportFinished)
    assert fact.status is ImportStatus.CANCELLED


def test_import_that_does_not_exist_cannot_finish() -> None:
    with pytest.raises(ImportNotFound):
        decide(None, finishing(new_id()), by())


def identity(**more: Any) -> RowIdentity:
    return RowIdentity(**{"tenant_id": "hyderabad", "user_id": USER, "sha256": SHA, "settings": "", **more})


def test_same_row_of_the_same_file_has_the_same_ids_and_every_other_has_others() -> None:
    same = identity()
    assert same.property_id(1, None) == identity().property_id(1, None)
    assert same.command_id(1, None) == identity().command_id(1, None)
    others = [
        same.command_id(2, None),
        same.command_id(1, "1"),
        same.property_id(1, None),
        identity(sha256=bytes(32)).command_id(1, None),
        identity(settings="other").command_id(1, None),
        identity(user_id=new_id()).command_id(1, None),
        identity(tenant_id="pune").command_id(1, None),
    ]
    assert len({same.command_id(1, None), *others}) == len(others) + 1


def test_listing_with_an_external_id_keeps_its_id_in_an_edited_file_and_with_another_mapping() -> None:
    edited = identity(sha256=bytes(32), settings="other")
    assert edited.property_id(9, "A-1") == identity().property_id(1, "A-1")
    assert edited.command_id(9, "A-1") != identity().command_id(1, "A-1")
    assert identity(settings="other").property_id(1, None) == identity().property_id(1, None)
    assert edited.property_id(1, None) != identity().property_id(1, None)
    assert identity(user_id=new_id()).property_id(1, "A-1") != identity().property_id(1, "A-1")


def test_change_of_an_existing_listing_has_the_fields_that_are_given() -> None:
    details = PropertyDetails.model_validate(listing(bedrooms=3))

    both = identity().commands(details, 1, "A-1", frozenset({"price", "bedrooms"}), NOW)

    assert both.create.details is details
    assert both.change.changes.model_dump(by_alias=True) == {"price": 8_500_000, "bedrooms": 3}
    assert both.create.command_id == both.change.command_id == both.command_id


def test_settings_are_the_same_in_any_order() -> None:
    one = settings_digest({"Price": "price", "Name": "title"}, {"city": "Hyderabad", "listingType": "SALE"})
    assert one == settings_digest({"Name": "title", "Price": "price"}, {"listingType": "SALE", "city": "Hyderabad"})
    assert one != settings_digest({"Name": "title", "Price": "price"}, {})
