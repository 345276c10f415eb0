"""What becomes of each of many commands on listings: a batch that is saved, and a dry run, decide by this alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import batches
from domain.errors import ListingDeleted, Refusal
from domain.import_rows import FieldProblem
from domain.imports import CreateOrChange
from domain.property import Property
from domain.property_commands import CreateProperty, PatchProperty, Sender, decide
from domain.property_events import PropertyFact


class Outcome(StrEnum):
    """What became of one listing of a batch."""

    SAVED = "saved"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REPEATED = "repeated"
    """The command was recorded before."""
    REFUSED = "refused"


COUNTED = {
    Outcome.SAVED: "saved",
    Outcome.UPDATED: "updated",
    Outcome.UNCHANGED: "unchanged",
    Outcome.REPEATED: "unchanged",
    Outcome.REFUSED: "refused",
}
"""The field of RowCounts that counts a row with each outcome."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a command, and the events that it causes."""

    command: CreateProperty | PatchProperty
    outcome: Outcome
    state: Property | None = None
    """Of the listing, before."""
    facts: Sequence[PropertyFact] = ()
    refusal: Refusal | None = None


async def decisions(
    connection: AsyncConnection, tenant_id: str, sender: Sender, commands: Sequence[CreateOrChange]
) -> list[Decision]:
    """Decide commands of one user on different listings, in their order."""
    recorded = await batches.recorded(connection, [one.command_id for one in commands])
    new = [one.property_id for one in commands if one.command_id not in recorded]
    states = await batches.states_of(connection, new)
    unknown = [property_id for property_id in new if property_id not in states]
    deleted = await batches.with_events(connection, tenant_id, unknown)
    return [
        Decision(one.create, Outcome.REPEATED)
        if one.command_id in recorded
        else _decided(one, states.get(one.property_id), one.property_id in deleted, sender)
        for one in commands
    ]


def _decided(one: CreateOrChange, state: Property | None, deleted: bool, sender: Sender) -> Decision:
    command = one.change if state else one.create
    try:
        if state is None and deleted:
            raise ListingDeleted
        facts = decide(state, command, sender)
    except Refusal as refusal:
        return Decision(command, Outcome.REFUSED, state, refusal=refusal)
    if not facts:
        return Decision(command, Outcome.UNCHANGED, state)
    return Decision(command, Outcome.UPDATED if state else Outcome.SAVED, state, facts)


def problem_of(refusal: Refusal) -> FieldProblem:
    """A refusal as what is wrong with a row."""
    return FieldProblem(refusal.field or "row", "", refusal.detail)
