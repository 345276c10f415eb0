"""What every save shares: the first answer to a command is its answer for good, and so is a refusal."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError

from adapters import event_store
from adapters.postgres import Database, Row, insert_rows
from adapters.sealing import Keyring
from adapters.tables import event_store as store
from adapters.tables import person_keys
from domain.command import Command, Saved
from domain.errors import REFUSALS, Refusal
from domain.events import Event

S = TypeVar("S", bound=Saved)


@dataclass(frozen=True)
class Change(Generic[S]):
    """What a command does: its answer, its events, the rows it adds, and the wrapped key of whom it is about."""

    saved: S
    events: list[Event]
    rows: list[Row]
    key: bytes


Decide = Callable[[AsyncConnection], Awaitable[Change[S]]]
"""Looks at what is stored and says what is to change. Raises Refusal.

What it has seen may change before the rows are there; the unique keys, an aggregate's version first, refuse those then.
"""


Publish = Callable[[list[dict[str, Any]]], Awaitable[bool]]
"""Publishes messages, if that is possible now."""


class Ledger:
    """Saves rows, events and the record of the command by one statement, which is the transaction."""

    def __init__(self, database: Database, keyring: Keyring, publish: Publish | None = None) -> None:
        """`publish` is given the messages of a new aggregate; without it they are left to the workflow."""
        self._database = database
        self._keyring = keyring
        self._publish = publish

    async def once(
        self,
        command: Command,
        aggregate_id: UUID,
        answer: type[S],
        decide: Decide[S],
        taken: Mapping[str, Refusal] = MappingProxyType({}),
    ) -> S:
        """The answer to `command`: made by `decide` the first time, read from the record ever after.

        `taken` says which unique key refuses the command, and how. The record is only read when something objects: a
        command that was saved before cannot be saved again, for its own row is in the way. Raises ApplicationError
        named by the refusal's code, not to be retried; DatabaseAway, to be retried.
        """
        try:
            async with self._database.statements(command.tenant_id) as connection:
                change = await decide(connection)
                records = self._records(command, aggregate_id, change)
                await insert_rows(connection, [*change.rows, *records])
        except (Refusal, IntegrityError) as objection:
            async with self._database.statements(command.tenant_id) as connection:
                if recorded := await event_store.recorded_command(connection, command.command_id):
                    return await self._first_answer(connection, recorded, answer)
            refusal = taken.get(violated(objection)) if isinstance(objection, IntegrityError) else objection
            if refusal is None:
                raise
            await self._keep_refusal(command, aggregate_id, refusal)
            raise refused(refusal) from objection
        return change.saved.model_copy(update={"published": await self._published(records)})

    async def _published(self, records: list[Row]) -> bool:
        """Try to publish what is stored, while it is at hand, unless events of before may have to go first."""
        events = [event_store.message_of(row) for table, row in records if table is store]
        new = bool(events) and events[0]["version"] == 1
        return new and self._publish is not None and await self._publish(events)

    def _records(self, command: Command, aggregate_id: UUID, change: Change[S]) -> list[Row]:
        sealed = [(event, self._keyring.seal(event.data, change.key, event.event_id)) for event in change.events]
        answer = self._keyring.seal(change.saved, change.key, command.command_id)
        return [
            *(event_store.event_row(event, data) for event, data in sealed),
            event_store.command_row(command, aggregate_id, answer=answer),
        ]

    async def _first_answer(
        self, connection: AsyncConnection, recorded: event_store.RecordedCommand, answer: type[S]
    ) -> S:
        if recorded.problem:
            raise refused(REFUSALS[recorded.problem["code"]](recorded.problem["detail"], recorded.problem["field"]))
        key = await wrapped_key(connection, recorded.user_id)
        return answer.model_validate(self._keyring.unseal(recorded.answer, key, recorded.command_id))

    async def _keep_refusal(self, command: Command, aggregate_id: UUID, refusal: Refusal) -> None:
        problem = {"code": refusal.code, "detail": refusal.detail, "field": refusal.field}
        try:
            async with self._database.statements(command.tenant_id) as connection:
                await insert_rows(connection, [event_store.command_row(command, aggregate_id, problem=problem)])
        except IntegrityError as error:
            # Another attempt recorded the command meanwhile; its record is the one that counts.
            if violated(error) != "commands_pkey":
                raise


async def wrapped_key(connection: AsyncConnection, user_id: UUID) -> bytes | None:
    """The wrapped key of a person of the connection's tenant; None when the person was erased."""
    return (
        await connection.execute(select(person_keys.c.wrapped_key).where(person_keys.c.user_id == user_id))
    ).scalar_one_or_none()


def refused(refusal: Refusal) -> ApplicationError:
    """A refusal as it travels through Temporal."""
    return ApplicationError(refusal.detail, refusal.field, type=refusal.code, non_retryable=True)


def violated(error: IntegrityError) -> str:
    """The name of the constraint or index that a statement violated; empty when Postgres does not say."""
    return getattr(error.orig.__cause__, "constraint_name", None) or "" if error.orig else ""
