"""Saves a command exactly once and returns the recorded answer on every repetition."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Executable, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError

from activities.progress import Progress
from adapters import event_store, outbox
from adapters.outbox import PendingEvent
from adapters.postgres import Database, Write, write_rows
from adapters.sealing import Keyring
from adapters.tables import person_keys
from domain.command import FAILED, Command, Saved, SealedCommand
from domain.errors import Refusal
from domain.events import new_events
from domain.model import Fact, Model
from domain.notifications import notices_of

S = TypeVar("S", bound=Model)

_DATA_EXCEPTION = "22"
"""The class of SQLSTATE of values that no column takes, such as a NUL character or a text that is too long."""
_ATTEMPTS = 5
"""Attempts after a version conflict without a pause; after them the activity fails and its retry policy applies."""


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """The state of an aggregate, the user who sends the command, and the key of the person whose data it holds."""

    state: S | None
    version: int
    """The version of the newest event; 0 when there is none."""
    actor: Model | None
    """The user who sends the command, or what else `decide` needs besides the state."""
    person_id: UUID
    key: bytes
    """The wrapped key of that person, which encrypts the personal fields of events and answer."""


@dataclass(frozen=True)
class Aggregate(Generic[S]):
    """How the commands of one type of aggregate are loaded, decided and stored."""

    commands: TypeAdapter[Any]
    load: Callable[[AsyncConnection, Any], Awaitable[Loaded[S]]]
    decide: Callable[[S | None, Any, Any], Sequence[Fact]]
    evolve: Callable[[S | None, Any, int, datetime], S | None]
    rows: Callable[[Any, Loaded[S], S | None], Sequence[Write]]
    """The rows of the state after the command; the state is None for a deleted aggregate."""
    consequences: Callable[[Any], Sequence[Executable]] = lambda command: ()
    """Statements that follow the rows in the same transaction, and so see what waited for the rows' locks."""
    locks: bool = False
    """Whether `load` locks rows, until those of the command are written."""
    conflicts: Mapping[str, Refusal] = field(default_factory=dict)
    """The refusal for each unique constraint that a row may violate, by the constraint's name."""


class CommandStore:
    """Saves the events, rows, notices and answer of a command: all or nothing.

    It is one statement in autocommit mode, which saves two round trips, unless the command has consequences or locks.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        enqueued: Callable[[Sequence[PendingEvent]], None],
        progress: Progress | None = None,
    ) -> None:
        """`enqueued` is called with the events of a command that have notices, after it is saved."""
        self._progress = progress
        self._database = database
        self._keyring = keyring
        self._enqueued = enqueued

    async def save(self, aggregate: Aggregate[S], sealed: SealedCommand) -> Saved:
        """Save a command, or find its recorded answer; personal values in the answer are encrypted for Temporal.

        Raises ApplicationError (not retryable; its type is the refusal's code, or FAILED for a command that cannot be
        read) or DatabaseUnavailable (retryable).
        """
        command = self._read(aggregate, sealed)
        attempt = 0
        while True:
            attempt += 1
            try:
                saved = await self._save(aggregate, command)
                if self._progress:
                    self._progress.saved(command, saved)
                return saved
            except (Refusal, IntegrityError) as error:
                # A repetition violates the primary key of `commands`, or is refused because the change is already made.
                if answer := await self._recorded(command):
                    return answer
                violated = violated_constraint(error) if isinstance(error, IntegrityError) else ""
                if violated == "event_store_version_key" and attempt < _ATTEMPTS:
                    continue  # another command has changed the aggregate in the meantime
                refusal = error if isinstance(error, Refusal) else aggregate.conflicts.get(violated)
                if refusal is None:
                    raise
                if not await self._record_refusal(command, refusal) and (answer := await self._recorded(command)):
                    return answer
                if self._progress:
                    self._progress.refused(command, refusal.code, refusal.detail, refusal.field)
                raise refused(refusal.code, refusal.detail, refusal.field) from error
            except DBAPIError as error:
                sqlstate = str(getattr(error.orig, "sqlstate", None))
                if not sqlstate.startswith(_DATA_EXCEPTION):
                    raise
                # Only a workflow started by hand has values that the API would have refused.
                detail = f"Postgres rejects a value of the command (SQLSTATE {sqlstate})"
                if self._progress:
                    self._progress.failed(sealed)
                raise ApplicationError(detail, type=FAILED, non_retryable=True) from None

    def _read(self, aggregate: Aggregate[S], sealed: SealedCommand) -> Command:
        try:
            unsealed = self._keyring.unseal_in_transit(sealed, UUID(sealed["commandId"]))
            command: Command = aggregate.commands.validate_json(orjson.dumps(unsealed))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # A workflow started by hand can have any input, and a retry does not change it.
            if self._progress:
                self._progress.failed(sealed)
            raise ApplicationError(f"the command cannot be read: {error}", type=FAILED, non_retryable=True) from error
        return command

    async def _save(self, aggregate: Aggregate[S], command: Command) -> Saved:
        consequences = aggregate.consequences(command)
        locked = consequences or aggregate.locks
        begin = self._database.transaction if locked else self._database.statements
        async with begin(command.tenant_id) as connection:
            loaded = await aggregate.load(connection, command)
            facts = aggregate.decide(loaded.state, command, loaded.actor)
            events = new_events(command, command.aggregate_id, loaded.version, list(facts))
            state = loaded.state
            for event in events:
                state = aggregate.evolve(state, event.data, event.version, event.timestamp)
            notices = [notice for event in events for notice in notices_of(event)]
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
                    *(outbox.notice_row(command.tenant_id, command.command_id, notice) for notice in notices),
                    event_store.command_row(command, loaded.person_id, answer=self._answer(saved, state, loaded)),
                ],
            )
            for statement in consequences if events else ():
                await connection.execute(statement)
        of = dict.fromkeys(notice.event_id for notice in notices)
        self._enqueued([PendingEvent(command.tenant_id, event_id, command.command_id) for event_id in of])
        in_transit = self._keyring.seal_in_transit(state, command.command_id) if state else None
        return saved.model_copy(update={"resource": in_transit})

    def _answer(self, saved: Saved, state: S | None, loaded: Loaded[S]) -> dict[str, Any]:
        """The answer as it is stored, its personal values encrypted with the person's key."""
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
        """Record a refusal; False when another attempt has recorded the command in the meantime."""
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
    """The wrapped key of a person of the connection's tenant; None when it was erased."""
    return (
        await connection.execute(select(person_keys.c.wrapped_key).where(person_keys.c.user_id == user_id))
    ).scalar_one_or_none()


def refused(code: str, detail: str, field: str | None) -> ApplicationError:
    """The ApplicationError of a refusal."""
    return ApplicationError(detail, field, type=code, non_retryable=True)


def violated_constraint(error: IntegrityError) -> str:
    """The name of the constraint that a statement violated; empty when Postgres does not name it."""
    return getattr(error.orig.__cause__, "constraint_name", None) or "" if error.orig else ""
