"""Saves a command exactly once and returns the recorded answer on every repetition."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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
from domain.command import FAILED, Actor, Command, Saved, SealedCommand
from domain.errors import Refusal
from domain.events import recorded
from domain.model import Fact, Model
from domain.notifications import deliveries_of

S = TypeVar("S", bound=Model)

_ATTEMPTS = 5
"""How often a command that accepts any version is decided anew at once; then its retry policy takes over."""


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """What a command meets: the state with its version, who sends it, and whose personal data the aggregate holds."""

    state: S | None
    version: int
    """Of the newest event; 0 when there is none."""
    actor: Actor | None
    """None for a command that nobody with an account sends."""
    person_id: UUID
    key: bytes
    """The wrapped key of that person, by which events and answer are sealed."""


@dataclass(frozen=True)
class Aggregate(Generic[S]):
    """How the commands of one kind of aggregate are saved; what differs between them is in `decide` and `evolve`."""

    commands: TypeAdapter[Any]
    load: Callable[[AsyncConnection, Any], Awaitable[Loaded[S]]]
    decide: Callable[[S | None, Any, Any], Sequence[Fact]]
    evolve: Callable[[S | None, Any, int, datetime], S | None]
    rows: Callable[[Any, Loaded[S], S | None], Sequence[Write]]
    """The rows that follow from the state after the command, which is None for an aggregate that is gone."""
    conflicts: Mapping[str, Refusal] = field(default_factory=dict)
    """The refusal by the name of the unique key that a row violates."""


class CommandStore:
    """Saves events, row, deliveries and answer of a command by one statement, which is the transaction."""

    def __init__(
        self, database: Database, keyring: Keyring, enqueued: Callable[[Sequence[PendingDelivery]], None]
    ) -> None:
        """`enqueued` is given the deliveries of a command when it is saved."""
        self._database = database
        self._keyring = keyring
        self._enqueued = enqueued

    async def save(self, aggregate: Aggregate[S], sealed: SealedCommand) -> Saved:
        """The answer to a command, its personal values sealed for the way through Temporal.

        Raises ApplicationError, not to be retried: named by the refusal's code, or FAILED for a command that cannot be
        read. Raises DatabaseUnavailable, to be retried.
        """
        command = self._read(aggregate, sealed)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._save(aggregate, command)
            except (Refusal, IntegrityError) as error:
                # The command's own row is in the way of a repetition, and its own change may refuse it.
                if answer := await self._recorded(command):
                    return answer
                violated = violated_constraint(error) if isinstance(error, IntegrityError) else ""
                if violated == "event_store_version_key" and attempt < _ATTEMPTS:
                    continue  # another command has changed the aggregate meanwhile
                refusal = error if isinstance(error, Refusal) else aggregate.conflicts.get(violated)
                if refusal is None:
                    raise
                if not await self._record_refusal(command, refusal) and (answer := await self._recorded(command)):
                    return answer
                raise refused(refusal.code, refusal.detail, refusal.field) from error

    def _read(self, aggregate: Aggregate[S], sealed: SealedCommand) -> Command:
        try:
            unsealed = self._keyring.unseal_in_transit(sealed, UUID(sealed["commandId"]))
            command: Command = aggregate.commands.validate_json(orjson.dumps(unsealed))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # A workflow that somebody started by hand may be given anything. No repetition makes it readable.
            raise ApplicationError(f"the command cannot be read: {error}", type=FAILED, non_retryable=True) from error
        return command

    async def _save(self, aggregate: Aggregate[S], command: Command) -> Saved:
        async with self._database.statements(command.tenant_id) as connection:
            loaded = await aggregate.load(connection, command)
            facts = aggregate.decide(loaded.state, command, loaded.actor)
            events = recorded(command, command.aggregate_id, loaded.version, list(facts))
            state = loaded.state
            for event in events:
                state = aggregate.evolve(state, event.data, event.version, event.timestamp)
            pending = [delivery for event in events for delivery in deliveries_of(event)]
            saved = Saved(
                tenant_id=command.tenant_id,
                command_id=command.command_id,
                aggregate_id=command.aggregate_id,
                version=loaded.version + len(events),
                events=tuple(event.saved() for event in events),
                resource=None,
            )
            await write_rows(
                connection,
                [
                    *(aggregate.rows(command, loaded, state) if events else ()),
                    *(
                        event_store.event_row(event, self._sealed(event.data, loaded, event.event_id))
                        for event in events
                    ),
                    *(outbox.delivery_row(command, delivery) for delivery in pending),
                    event_store.command_row(command, loaded.person_id, answer=self._answer(saved, state, loaded)),
                ],
            )
        self._enqueued([PendingDelivery(command.tenant_id, one.event_id, command.command_id) for one in pending])
        in_transit = self._keyring.seal_in_transit(state, command.command_id) if state else None
        return saved.model_copy(update={"resource": in_transit})

    def _answer(self, saved: Saved, state: S | None, loaded: Loaded[S]) -> dict[str, Any]:
        """The answer as it is kept: personal values sealed by the person's own key."""
        resource = self._sealed(state, loaded, saved.command_id) if state else None
        return saved.model_copy(update={"resource": resource}).model_dump(mode="json", by_alias=True)

    def _sealed(self, value: Model, loaded: Loaded[S], context: UUID) -> dict[str, Any]:
        return self._keyring.seal(value, loaded.key, context)

    async def _recorded(self, command: Command) -> Saved | None:
        """The recorded answer, if there is one. Raises the recorded refusal."""
        async with self._database.statements(command.tenant_id) as connection:
            found = await event_store.recorded_command(connection, command.command_id)
            if found is None:
                return None
            if found.fingerprint != command.fingerprint:
                raise refused("idempotency-key-reused", "Use a new key for a new command.", None)
            if found.problem:
                raise refused(**found.problem)
            key = await wrapped_key(connection, found.person_id)
        answer = self._keyring.for_transit(found.answer, key, command.command_id)
        return Saved.model_validate(answer)

    async def _record_refusal(self, command: Command, refusal: Refusal) -> bool:
        """Record a refusal; False when another attempt recorded the command meanwhile."""
        problem = {"code": refusal.code, "detail": refusal.detail, "field": refusal.field}
        try:
            async with self._database.statements(command.tenant_id) as connection:
                row = event_store.command_row(command, command.user_id, problem=problem)
                await write_rows(connection, [row])
        except IntegrityError as error:
            if violated_constraint(error) != "commands_pkey":
                raise
            return False
        return True


async def wrapped_key(connection: AsyncConnection, user_id: UUID) -> bytes | None:
    """The wrapped key of a person of the connection's tenant; None when the person was erased."""
    return (
        await connection.execute(select(person_keys.c.wrapped_key).where(person_keys.c.user_id == user_id))
    ).scalar_one_or_none()


def refused(code: str, detail: str, field: str | None) -> ApplicationError:
    """A refusal as it travels through Temporal."""
    return ApplicationError(detail, field, type=code, non_retryable=True)


def violated_constraint(error: IntegrityError) -> str:
    """The name of the constraint or index that a statement violated; empty when Postgres does not say."""
    return getattr(error.orig.__cause__, "constraint_name", None) or "" if error.orig else ""
