"""Saving what happens to properties."""

from collections.abc import Callable

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.notifications import PROPERTY_CREATED
from activities.relay import Promise
from activities.saving import Change, Ledger
from adapters import outbox
from adapters.tables import person_keys, properties, users
from domain.errors import OwnerUnknown
from domain.events import recorded
from domain.property import CreateProperty, PropertySaved, decide, evolve
from domain.user import MAY_SIGN_IN


class Properties:
    """Saves commands on properties; each method may be called twice with the same command."""

    def __init__(self, ledger: Ledger, promised: Callable[[Promise], None]) -> None:
        """`promised` is told of each mail that a command has promised, when it is saved."""
        self._ledger = ledger
        self._promised = promised

    @activity.defn
    async def save_property(self, command: CreateProperty) -> PropertySaved:
        """Store the row, the event, the promise to tell the owner, and the answer. Refuses with OwnerUnknown."""

        async def listed(connection: AsyncConnection) -> Change[PropertySaved]:
            key = await _owner_key(connection, command)
            [event] = recorded(command, command.property_id, 0, decide(None, command))
            state = evolve(None, event.data, event.version, event.timestamp)
            row = state.model_dump(exclude={"id", "images"})
            row |= {"tenant_id": command.tenant_id, "property_id": state.id, "amenities": list(state.amenities)}
            told = outbox.promise(
                command.tenant_id,
                event.event_id,
                command.command_id,
                PROPERTY_CREATED,
                recipient_id=command.user_id,
                about_id=command.property_id,
            )
            answer = PropertySaved(events=(event.saved(),), property=state, confirmation_promised=True)
            return Change(answer, [event], [(properties, row), told], key)

        saved = await self._ledger.once(command, command.property_id, PropertySaved, listed)
        self._promised(Promise(command.tenant_id, saved.events[-1].event_id, command.command_id))
        return saved


_OWNER_KEY = (
    select(person_keys.c.wrapped_key)
    .join(users, (users.c.tenant_id == person_keys.c.tenant_id) & (users.c.user_id == person_keys.c.user_id))
    .where(users.c.user_id == bindparam("owner_id"), users.c.status.in_(MAY_SIGN_IN))
)


async def _owner_key(connection: AsyncConnection, command: CreateProperty) -> bytes:
    key: bytes | None = (await connection.execute(_OWNER_KEY, {"owner_id": command.user_id})).scalar_one_or_none()
    if key is None:
        raise OwnerUnknown("Your account is closed or suspended. Sign in again, or ask support.")
    return key
