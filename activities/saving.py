"""Saves a command exactly once and returns the recorded answer on every repetition."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError

from adapters import event_store, outbox
from adapters.outbox import PendingDelivery
from adapters.postgres import Database, Write, write_rows
from adapters.sealing import Keyring
from adapters.tables import person_keys
from domain.command import Actor, Command, Saved, SealedCommand
from domain.errors import Refusal
from domain.events import Event, recorded
from domain.model import Fact, Model
from domain.notifications import deliveries_of

S = TypeVar("S", bound=Model)

_ATTEMPTS = 5
"""How often a command that may meet any version is decided anew before its retry policy takes over."""


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """What a command meets: the state with its version, who sends it, and whose personal data the aggregate holds."""

    state: S | None
    version: int
    """Of the newest event; 0 when there is none."""
    actor: Actor
    person_id: UUID
    key: bytes
    """The wrapped key of that person, by which events and answer are sealed."""
    context: Any = None
    """What else the decision depends on."""


@dataclass(frozen=True)
class Aggregate(Generic[S]):
    """How the commands of one kind of aggregate are saved; what differs between them is in `decide` and `evolve`."""

    commands: TypeAdapter[Any]
    load: Callable[[AsyncConnection, Any], Awaitable[Loaded[S]]]
    decide: Callable[[Any, Any, Loaded[S]], Sequence[Fact]]
    evolve: Callable[[Any, Any, int, Any], S | None]
    rows: Callable[[Any, Loaded[S], S | None], list[Write]]
    """The rows that follow from the state after the command."""
    conflicts: Mapping[str, type[Refusal]] = field(default_factory=dict)
    """The refusal for each unique key that a row may violate, with the field's name in `fields`."""


class CommandStore:
    """Saves events, row, deliveries and answer of a command by one statement, which is the transaction."""

    def __init__(
        self, database: Database, keyring: Keyring, enqueued: Callable[[Sequence[PendingDelivery]], None]
    ) -> None:
        """`enqueued` is told of the deliveries of a command when it is saved."""
        self._database = database
        self._keyring = keyring
        self._enqueued = enqueued

    async def save(self, aggregate: Aggregate[S], sealed: SealedCommand) -> Saved:
        """The answer to a command: decided the first time, read from the record ever after.

        Raises ApplicationError named by the refusal's code, not to be retried; DatabaseAway, to be retried.
        """
        command = aggregate.commands.validate_json(orjson.dumps(self._keyring.unseal_in_transit(sealed)))
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.statements(command.tenant_id) as connection:
                    loaded = await aggregate.load(connection, command)
                    saved, writes, pending = self._decided(aggregate, command, loaded)
                    await write_rows(connection, writes)
            except Refusal as refusal:
                return await self._recorded_or_refused(command, refusal)
            except IntegrityError as error:
                if answer := await self._recorded(command):
                    return answer
                violated = violated_constraint(error)
                if conflict := aggregate.conflicts.get(violated):
                    return await self._recorded_or_refused(command, conflict(field=_field_of(violated)))
                if violated != "event_store_version_key":
                    raise
                # Somebody else has changed the aggregate meanwhile.
                conflicting = error
                continue
            self._enqueued(pending)
            return self._in_transit(saved)
        raise conflicting

    def _decided(
        self, aggregate: Aggregate[S], command: Command, loaded: Loaded[S]
    ) -> tuple[Saved, list[Write], list[PendingDelivery]]:
        """The answer with the state in the clear, what is to be written, and the deliveries among it."""
        facts = aggregate.decide(loaded.state, command, loaded)
        events = recorded(command, command.aggregate_id, loaded.version, list(facts))
        state = loaded.state
        for event in events:
            state = aggregate.evolve(state, event.data, event.version, event.timestamp)
        resource = state.model_dump(mode="json", by_alias=True) if state else None
'''+"" if False else '' 
