"""What an import of a file would do, by the rules of saving, without saving anything."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import batches
from domain.errors import ListingDeleted, Refusal
from domain.import_batches import ReadRow
from domain.import_rows import FieldProblem
from domain.imports import RowCounts
from domain.property_commands import Sender, decide


@dataclass
class Preview:
    """What would become of the rows, and what is wrong with those that would be refused, by line."""

    rows: RowCounts = field(default_factory=RowCounts)
    problems: list[tuple[int, FieldProblem]] = field(default_factory=list)


async def add(
    connection: AsyncConnection, preview: Preview, tenant_id: str, sender: Sender, rows: Sequence[ReadRow]
) -> None:
    """Add a batch of rows to a preview."""
    commands = [row.commands for row in rows if row.commands]
    recorded = await batches.recorded(connection, [one.command_id for one in commands])
    states = await batches.states_of(connection, [one.property_id for one in commands])
    unknown = [one.property_id for one in commands if one.property_id not in states]
    deleted: set[UUID] = await batches.with_events(connection, tenant_id, unknown)
    counts = dict.fromkeys(RowCounts.model_fields, 0)
    for row in rows:
        counts["read"] += 1
        problems = list(row.problems)
        if row.commands is None:
            outcome = "refused"
        elif row.commands.command_id in recorded:
            outcome = "unchanged"
        else:
            state = states.get(row.commands.property_id)
            try:
                if state is None and row.commands.property_id in deleted:
                    raise ListingDeleted
                facts = decide(state, row.commands.change if state else row.commands.create, sender)
                outcome = ("updated" if state else "saved") if facts else "unchanged"
            except Refusal as refusal:
                outcome = "refused"
                problems.append(FieldProblem(refusal.field or "row", "", refusal.detail))
        counts[outcome] += 1
        preview.problems += [(row.source.line, problem) for problem in problems]
    preview.rows = preview.rows.plus(**counts)
