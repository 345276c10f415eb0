"""Rows of a file as commands on listings, or with what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.import_mapping import ImportMapping
from domain.import_reading import SourceRow
from domain.import_rows import FieldProblem, RowRefused, read_row
from domain.imports import CreateOrChange, RowIdentity, settings_digest

_MICROSECONDS_APART = 10
"""Of two rows of a batch: a history is sorted by time, and a row has at most two events, a microsecond apart."""
_COMPOSED = frozenset({"title", "description"})
SECOND = FieldProblem("externalId", "", "An earlier row of the file has the same. Give each listing another one.")


@dataclass(frozen=True)
class ReadRow:
    """A row with its command, or with what is wrong with it."""

    source: SourceRow
    commands: CreateOrChange | None = None
    problems: tuple[FieldProblem, ...] = ()


class Reading:
    """Reads the rows of one file."""

    def __init__(self, mapping: ImportMapping, tenant_id: str, user_id: UUID, sha256: bytes) -> None:
        self._mapping = mapping
        settings = settings_digest(mapping.columns, mapping.defaults)
        self._identity = RowIdentity(tenant_id, user_id, sha256, settings)

    def read(self, batch: Sequence[SourceRow], now: datetime) -> list[ReadRow]:
        """The rows of a batch, whose commands are given from `now` on."""
        rows, seen = [], set[UUID]()
        for n, source in enumerate(batch):
            row = self._read_one(source, now + timedelta(microseconds=n * _MICROSECONDS_APART))
            if row.commands and row.commands.property_id in seen:
                row = ReadRow(source, problems=(SECOND,))
            elif row.commands:
                seen.add(row.commands.property_id)
            rows.append(row)
        return rows

    def _read_one(self, source: SourceRow, at: datetime) -> ReadRow:
        if source.values is None:
            return ReadRow(source, problems=(FieldProblem("row", source.text, source.problem or ""),))
        try:
            read = read_row(source.values, self._mapping)
        except RowRefused as error:
            return ReadRow(source, problems=error.errors)
        # What was composed does not replace what the owner has written since.
        composed = _COMPOSED.intersection(read.derived)
        given = frozenset(read.details.model_fields_set) - composed
        return ReadRow(source, self._identity.commands(read.details, source.number, read.external_id, given, at))
