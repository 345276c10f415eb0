"""The activity that saves commands on imports."""

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import Executable, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters import imports
from adapters.postgres import Write
from adapters.tables import imports as table
from adapters.tables import person_keys, users
from domain.command import Saved, SealedCommand
from domain.errors import AccountClosed
from domain.imports import FinishImport, Import, ImportCommand, Importer, ImportProperties, RowCounts, decide, evolve
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, UserStatus

_LOCK_USER = select(users.c.user_id).where(users.c.user_id == bindparam("user_id")).with_for_update(key_share=True)
_LOAD = (
    select(
        users.c.role,
        users.c.status,
        person_keys.c.wrapped_key,
        imports.unfinished_of(bindparam("user_id")).scalar_subquery().label("unfinished"),
    )
    .join(person_keys, person_keys.c.user_id == users.c.user_id)
    .where(users.c.user_id == bindparam("user_id"))
)


class ImportCommands:
    """Saves the commands on imports."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    @activity.defn
    async def save_import(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/imports.py` as ApplicationError."""
        return await self._store.save(_IMPORT, command)


async def _load(connection: AsyncConnection, command: Any) -> Loaded[Import]:
    """Load the import, locked: what is decided is saved before it is cancelled, or another is begun by its user.

    Raises AccountClosed; what has begun is finished also for an account that is closed.
    """
    found = await imports.find(connection, command.aggregate_id, locked=True)
    if isinstance(command, ImportProperties):
        # Another statement than that which counts: it counts what was committed while this one waited.
        await connection.execute(_LOCK_USER, {"user_id": command.user_id})
    row = (await connection.execute(_LOAD, {"user_id": command.user_id})).one_or_none()
    allowed = frozenset(UserStatus) if isinstance(command, FinishImport) else MAY_SIGN_IN
    if row is None or row.status not in allowed:
        raise AccountClosed
    return Loaded(
        state=found.state if found else None,
        version=found.version if found else 0,
        actor=Importer(
            user_id=command.user_id,
            role=UserRole(row.role),
            unfinished=row.unfinished,
            rows=found.counts if found else RowCounts(),
        ),
        person_id=command.user_id,
        key=row.wrapped_key,
    )


def _rows(command: Any, _: Loaded[Import], state: Import | None) -> Sequence[Write]:
    assert state
    key = {"tenant_id": command.tenant_id, "import_id": state.id}
    changed = {"version": state.version, "status": state.status.value, "updated_at": command.issued_at}
    if not isinstance(command, ImportProperties):
        ended = {"reason": state.reason, "finished_at": state.finished_at}
        return [Write(table, {**key, **changed, **ended}, "update")]
    file = {name: getattr(command, name) for name in ("user_id", "upload_id", "file_name", "size", "mapping")}
    begun = {"defaults": orjson.loads(command.defaults), "started_at": state.started_at}
    return [Write(table, {**key, **changed, **file, **begun})]


def _consequences(command: Any) -> Sequence[Executable]:
    return [imports.forget_listings(command.import_id)] if isinstance(command, FinishImport) else []


_IMPORT: Aggregate[Import] = Aggregate(
    commands=TypeAdapter(ImportCommand, config=ConfigDict(hide_input_in_errors=True)),
    load=_load,
    decide=decide,
    evolve=evolve,
    rows=_rows,
    consequences=_consequences,
    locks=True,
)
