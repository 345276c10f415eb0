"""What an import of a file would do, by the decisions of saving, without saving anything."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.batch_decisions import COUNTED, decisions, problem_of
from domain.import_batches import ReadRow, listings_of, without_repeated
from domain.import_rows import FieldProblem
from domain.imports import RowCounts
from domain.property_commands import Sender


@dataclass
class Preview:
    """What would become of the rows, and what is wrong with those that would be refused, by line."""

    rows: RowCounts = field(default_factory=RowCounts)
    problems: list[tuple[int, FieldProblem]] = field(default_factory=list)
    listings: set[UUID] = field(default_factory=set)
    """Of the rows that were added."""


async def add(
    connection: AsyncConnection, preview: Preview, tenant_id: str, sender: Sender, rows: Sequence[ReadRow]
) -> None:
    """Add a batch of rows to a preview."""
    rows = without_repeated(rows, preview.listings)
    preview.listings |= set(listings_of(rows))
    commands = [row.commands for row in rows if row.commands]
    decided = {one.command.command_id: one for one in await decisions(connection, tenant_id, sender, commands)}
    counts = dict.fromkeys(RowCounts.model_fields, 0)
    for row in rows:
        counts["read"] += 1
        problems = list(row.problems)
        if row.commands is None:
            counts["refused"] += 1
        else:
            decision = decided[row.commands.command_id]
            counts[COUNTED[decision.outcome]] += 1
            if decision.refusal:
                problems.append(problem_of(decision.refusal))
        preview.problems += [(row.source.line, problem) for problem in problems]
    preview.rows = preview.rows.plus(**counts)
