"""Rows of a file as commands on listings, or with what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from activities.batch_saving import BatchSaved, Outcome
from adapters.imports import Problem
from domain.import_mapping import ImportMapping
from domain.import_reading import SourceRow
from domain.import_rows import FieldProblem, RowRefused, read_row
from domain.imports import CreateOrChange, RowIdentity, settings_digest

_MICROSECONDS_APART = 10
"""Of two rows of a batch: a history is sorted by time, and a row has at most two events, a microsecond apart."""


@dataclass(frozen=True)
class ReadRow:
    """A row with its command, or with what is wrong with it."""

    source: SourceRow
    commands: CreateOrChange | None = None
    problems: tuple[FieldProblem, ...] = ()

    def refused_by_postgres(self) -> "ReadRow":
        problem = FieldProblem("row", "", "It has a character that cannot be stored. Remove what is invisible.")
        return replace(self, commands=None, problems=(problem,))

    def outcome(self, saved: BatchSaved, started_at: datetime) -> tuple[Outcome, list[Problem]]:
        """What became of the row in a batch of an import that has `started_at`, and the lines of its report."""
        if self.commands is None:
            return Outcome.REFUSED, self._lines(self.problems)
        outcome = saved.outcomes[self.commands.command_id]
        if outcome is Outcome.REFUSED:
            refusal = saved.refusals[self.commands.command_id]
            return outcome, self._lines([FieldProblem(refusal.field or "row", "", refusal.detail)])
        if outcome is Outcome.REPEATED and saved.repeated[self.commands.command_id] >= started_at:
            return Outcome.REFUSED, self._lines([_SECOND])
        duplicates = saved.duplicates.get(self.commands.property_id, ())
        return outcome, self._lines([_duplicate(other) for other in duplicates])

    def _lines(self, problems: Sequence[FieldProblem]) -> list[Problem]:
        source = self.source
        return [
            Problem(source.number, n, source.line, one.field, one.value, one.reason)
            for n, one in enumerate(problems[:_MOST_LINES])
        ]


_COMPOSED = frozenset({"title", "description"})
_MOST_LINES = 50
"""Of one row: more than a listing has fields."""
_SECOND = FieldProblem("externalId", "", "An earlier row of the file has the same. Give each listing another one.")


def _duplicate(other: UUID) -> FieldProblem:
    reason = "The row is saved. Another of your listings is at the same place with the same unit: delete one of them."
    return FieldProblem("possibleDuplicate", str(other), reason)


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
                row = ReadRow(source, problems=(_SECOND,))
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
