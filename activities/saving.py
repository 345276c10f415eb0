"""What every save shares: the first answer to a command is its answer for good, and so is a refusal."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError

from adapters import event_store
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import person_keys
from domain.command import Command, Saved
from domain.errors import REFUSALS, Refusal
from domain.events import Event

S = TypeVar("S", bound=Saved)
Change = Callable[[AsyncConnection], Awaitable[tuple[S, list[Event], bytes]]]
"""Writes the rows; returns the answer, the events and the wrapped key of the person they are about."""


class Ledger:
    """Saves rows, events and the record of the command in one transaction."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def once(self, command: Command, aggregate_id: UUID, answer: type[S], change: Change[S]) -> S:
        """The answer to `command`: made by `change` the first time, read from the record ever after.

        Raises ApplicationError named by the refusal's code, not to be retried; DatabaseAway, to be retried.
        """
        try:
            async with self._database.transaction(command.tenant_id) as tx:
                recorded = await event_store.recorded_command(tx, command.command_id)
                if recorded:
                    return await self._first_answer(tx, recorded, answer)
                saved, events, key = await change(tx)
                sealed = [self._keyring.seal(event.data, key, event.event_id) for event in events]
                await event_store.append(tx, events, sealed)
                sealed_answer = self._keyring.seal(saved, key, command.command_id)
                await event_store.record_command(tx, command, aggregate_id, answer=sealed_answer)
                return saved
        except Refusal as refusal:
            await self._keep_refusal(command, aggregate_id, refusal)
            raise refused(refusal) from refusal

    async def _first_answer(self, tx: AsyncConnection, recorded: event_store.RecordedCommand, answer: type[S]) -> S:
        if recorded.problem:
            raise refused(REFUSALS[recorded.problem["code"]](recorded.problem["detail"], recorded.problem["field"]))
        key = await wrapped_key(tx, recorded.user_id)
        return answer.model_validate(self._keyring.unseal(recorded.answer, key, recorded.command_id))

    async def _keep_refusal(self, command: Command, aggregate_id: UUID, refusal: Refusal) -> None:
        problem = {"code": refusal.code, "detail": refusal.detail, "field": refusal.field}
        try:
            async with self._database.transaction(command.tenant_id) as tx:
                await event_store.record_command(tx, command, aggregate_id, problem=problem)
        except IntegrityError as error:
            # Another attempt recorded the command meanwhile; its record is the one that counts.
            if violated(error) != "commands_pkey":
                raise


async def wrapped_key(tx: AsyncConnection, user_id: UUID) -> bytes | None:
    """The wrapped key of a person of the transaction's tenant; None when the person was erased."""
    return (
        await tx.execute(select(person_keys.c.wrapped_key).where(person_keys.c.user_id == user_id))
    ).scalar_one_or_none()


def refused(refusal: Refusal) -> ApplicationError:
    """A refusal as it travels through Temporal."""
    return ApplicationError(refusal.detail, refusal.field, type=refusal.code, non_retryable=True)


def violated(error: IntegrityError) -> str | None:
    """The name of the constraint or index that a statement violated."""
    name: str | None = getattr(error.orig.__cause__, "constraint_name", None) if error.orig else None
    return name
