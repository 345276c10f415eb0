"""Rows of a file as commands on listings, or with what is wrong with them."""

from collections.abc import Container, Sequence
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
        return [
            self._read_one(source, now + timedelta(microseconds=n * _MICROSECONDS_APART))
            for n, source in enumerate(batch)
        ]

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


def listings_of(rows: Sequence[ReadRow]) -> list[UUID]:
    """The listings of some rows, each once."""
    return list(dict.fromkeys(row.commands.property_id for row in rows if row.commands))


def without_repeated(rows: Sequence[ReadRow], earlier: Container[UUID]) -> list[ReadRow]:
    """Some rows, of which those are refused whose listing an `earlier` row of the file has, or one before them."""
    kept, seen = [], set[UUID]()
    for row in rows:
        if row.commands:
            listing = row.commands.property_id
            if listing in seen or listing in earlier:
                row = ReadRow(row.source, problems=(SECOND,))
            seen.add(listing)
        kept.append(row)
    return kept
