"""Imports of files with listings: the commands and events of an import, with `decide` and `evolve`, and of each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import Field

from domain import fields as f
from domain import ids
from domain.command import Actor, Command
from domain.errors import ImportNotFound, TooManyImports
from domain.model import Fact
from domain.property import PropertyDetails, PropertyPatch
from domain.property_commands import CreateProperty, PatchProperty

WORKFLOW = "import-file"
"""The name of the workflow that reads a file."""
MAX_ROWS = 100_000
MAX_BYTES = 200_000_000
MAX_UNFINISHED = 3
"""Imports of one user that are not finished; more would take turns of others."""
MAX_REPORTED = 10_000
"""Lines of a report: more than anybody reads, and with so many the mapping is wrong, not a row."""


class ImportStatus(StrEnum):
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    """What was saved before stays."""
    FAILED = "FAILED"
    """The file cannot be read, or the account was closed. What was saved before stays."""


Ended = Literal[ImportStatus.COMPLETED, ImportStatus.CANCELLED, ImportStatus.FAILED]


class RowCounts(Fact):
    """Rows of a file by what became of them."""

    read: int = 0
    saved: int = 0
    """New listings."""
    updated: int = 0
    unchanged: int = 0
    """Rows whose listing is as the row says, or that were imported before."""
    refused: int = 0

    def plus(self, **more: int) -> "RowCounts":
        return RowCounts(**{name: count + more.get(name, 0) for name, count in self})


class Import(Fact):
    """The state of an import; how far it has come is not part of it."""

    id: UUID
    user_id: UUID
    version: int
    status: ImportStatus
    reason: str | None = None
    """Why it failed."""
    started_at: datetime
    finished_at: datetime | None = None


class ImportOrder(Fact):
    """The input of the workflow that reads a file."""

    tenant_id: str
    import_id: UUID
    user_id: UUID

    @property
    def workflow_id(self) -> str:
        return f"import/{self.import_id}"


class ImportProperties(Command):
    """List the properties of a file that was uploaded. The id of the import is the command's."""

    type: Literal["import-properties"] = "import-properties"
    upload_id: UUID
    file_name: Annotated[str, f.PERSONAL]
    size: int
    """Bytes."""
    mapping: dict[str, str] | None = None
    """The field of each column; None guesses it from the names of the columns."""
    defaults: Annotated[str, f.PERSONAL] = "{}"
    """The values of fields that a row does not give, as JSON: one may be a telephone number."""

    @property
    def aggregate_id(self) -> UUID:
        return self.command_id


class FinishImport(Command):
    """Record that an import has ended. The rows that were saved stay."""

    type: Literal["finish-import"] = "finish-import"
    import_id: UUID
    status: Ended
    reason: str | None = None

    @property
    def aggregate_id(self) -> UUID:
        return self.import_id


ImportCommand = Annotated[ImportProperties | FinishImport, Field(discriminator="type")]


class PropertiesImportStarted(Fact):
    """PROPERTIES_IMPORT_STARTED: a user has sent a file whose rows become listings."""

    import_id: UUID
    user_id: UUID


class PropertiesImportFinished(Fact):
    """PROPERTIES_IMPORT_FINISHED: an import has read its file, was cancelled, or has failed."""

    import_id: UUID
    user_id: UUID
    status: ImportStatus
    reason: str | None = None
    read: int
    saved: int
    updated: int
    unchanged: int
    refused: int


ImportFact = PropertiesImportStarted | PropertiesImportFinished


class Importer(Actor):
    """The user who sends a command on an import."""

    unfinished: int = 0
    """Imports of the user that are not finished."""
    rows: RowCounts = RowCounts()
    """Of the import, as they are."""


def decide(state: Import | None, command: ImportCommand, by: Importer) -> list[ImportFact]:
    """The events that `command` causes; empty when it changes nothing. Raises ImportNotFound or TooManyImports."""
    if isinstance(command, ImportProperties):
        if state is not None:
            return []
        if by.unfinished >= MAX_UNFINISHED:
            raise TooManyImports
        return [PropertiesImportStarted(import_id=command.aggregate_id, user_id=command.user_id)]
    if state is None:
        raise ImportNotFound
    if state.finished_at:
        return []
    # Whoever cancels while the last row is saved is told that it is cancelled.
    cancelled = state.status is ImportStatus.CANCELLED
    status = ImportStatus.CANCELLED if cancelled else command.status
    reason = None if cancelled else command.reason
    return [
        PropertiesImportFinished(
            import_id=state.id, user_id=state.user_id, status=status, reason=reason, **dict(by.rows)
        )
    ]


def evolve(state: Import | None, fact: ImportFact, version: int, at: datetime) -> Import | None:
    """The state after an event."""
    if isinstance(fact, PropertiesImportStarted) or state is None:
        whose = {"id": fact.import_id, "user_id": fact.user_id, "started_at": at}
        return Import(version=version, status=ImportStatus.RUNNING, **whose)
    ended = {"status": fact.status, "reason": fact.reason, "finished_at": at, "version": version}
    return state.model_copy(update=ended)


@dataclass(frozen=True)
class CreateOrChange:
    """The command of one row: it creates the listing, or if it exists changes it; both have the same id."""

    create: CreateProperty
    change: PatchProperty

    @property
    def command_id(self) -> UUID:
        return self.create.command_id

    @property
    def property_id(self) -> UUID:
        return self.create.property_id


@dataclass(frozen=True)
class RowIdentity:
    """What the ids of the commands and listings of a file are made from: the same file gives the same ids."""

    tenant_id: str
    user_id: UUID
    sha256: bytes
    """Of the file."""
    settings: str
    """A digest of mapping and defaults: the same file with others may change what it has listed."""

    def property_id(self, number: int, external_id: str | None) -> UUID:
        """The listing of a row: it keeps its id in an edited file if the row has an `externalId`."""
        key = ("row", self.sha256.hex(), str(number)) if external_id is None else ("id", external_id)
        return ids.imported_id("property", self.tenant_id, str(self.user_id), *key)

    def command_id(self, number: int, external_id: str | None) -> UUID:
        """The command of a row."""
        key = ("row", str(number)) if external_id is None else ("id", external_id)
        return ids.imported_id("command", self.tenant_id, str(self.user_id), self.sha256.hex(), self.settings, *key)

    def commands(
        self, details: PropertyDetails, number: int, external_id: str | None, given: frozenset[str], at: datetime
    ) -> CreateOrChange:
        """The command of a row. An existing listing changes in the fields that are `given`, and keeps the others."""
        common: dict[str, Any] = {
            "command_id": self.command_id(number, external_id),
            "tenant_id": self.tenant_id,
            "user_id": self.user_id,
            "issued_at": at,
            "property_id": self.property_id(number, external_id),
        }
        changes = PropertyPatch.model_construct(
            _fields_set=set(given), **{name: getattr(details, name) for name in given}
        )
        # Their parts are valid already.
        create = CreateProperty.model_construct(**common, details=details)
        return CreateOrChange(create, PatchProperty.model_construct(**common, changes=changes))


def settings_digest(mapping: Mapping[str, str], defaults: Mapping[str, Any]) -> str:
    """Identifies a mapping with its defaults."""
    return sha256(orjson.dumps([mapping, defaults], option=orjson.OPT_SORT_KEYS)).hexdigest()
