"""What became of each row of an import, and the lines of its report."""

from collections.abc import Sequence
from uuid import UUID

from activities.batch_saving import BatchSaved
from adapters.batch_decisions import Outcome, problem_of
from adapters.imports import Problem
from domain.import_batches import ReadRow
from domain.import_rows import FieldProblem

_MOST_LINES = 50
"""Of one row: more than a listing has fields."""
_NOT_STORABLE = FieldProblem("row", "", "It has a character that cannot be stored. Remove what is invisible.")


def outcome_of(row: ReadRow, saved: BatchSaved) -> tuple[Outcome, list[Problem]]:
    """What became of a row in a batch, and the lines of its report."""
    if row.commands is None:
        return Outcome.REFUSED, _lines(row, row.problems)
    command_id = row.commands.command_id
    outcome = saved.outcomes[command_id]
    if outcome is Outcome.REFUSED:
        return outcome, _lines(row, [problem_of(saved.refusals[command_id])])
    duplicates = saved.duplicates.get(row.commands.property_id, ())
    return outcome, _lines(row, [_duplicate(other) for other in duplicates])


def not_storable(row: ReadRow) -> ReadRow:
    """The row, refused because Postgres does not take one of its values."""
    return ReadRow(row.source, problems=(_NOT_STORABLE,))


def _lines(row: ReadRow, problems: Sequence[FieldProblem]) -> list[Problem]:
    source = row.source
    return [
        Problem(source.number, n, source.line, one.field, one.value, one.reason)
        for n, one in enumerate(problems[:_MOST_LINES])
    ]


def _duplicate(other: UUID) -> FieldProblem:
    reason = "The row is saved. Another of your listings is at the same place with the same unit: delete one of them."
    return FieldProblem("possibleDuplicate", str(other), reason)
