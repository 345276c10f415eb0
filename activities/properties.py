"""Saving what happens to properties."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Ledger
from adapters.tables import person_keys, properties, users
from domain.errors import OwnerUnknown
from domain.events import Event, recorded
from domain.property import CreateProperty, PropertySaved, decide, evolve
from domain.user import MAY_SIGN_IN


class Properties:
    """Saves commands on properties; each method may be called twice with the same command."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn
    async def save_property(self, command: CreateProperty) -> PropertySaved:
        """Store the row, the event and the command's answer. Refuses with OwnerUnknown."""

        async def change(tx: AsyncConnection) -> tuple[PropertySaved, list[Event], bytes]:
            key = await _owner_key(tx, command)
            [event] = recorded(command, command.property_id, 0, decide(None, command))
            state = evolve(None, event.data, event.version, event.timestamp)
            row = state.model_dump(exclude={"id", "images"})
            row["amenities"] = list(state.amenities)
            await tx.execute(insert(properties), {"tenant_id": command.tenant_id, "property_id": state.id, **row})
            return PropertySaved(events=(event.saved(),), property=state), [event], key

        return await self._ledger.once(command, command.property_id, PropertySaved, change)


async def _owner_key(tx: AsyncConnection, command: CreateProperty) -> bytes:
    query = (
        select(person_keys.c.wrapped_key)
        .join(users, (users.c.tenant_id == person_keys.c.tenant_id) & (users.c.user_id == person_keys.c.user_id))
        .where(users.c.user_id == command.user_id, users.c.status.in_(list(MAY_SIGN_IN)))
    )
    key: bytes | None = (await tx.execute(query)).scalar_one_or_none()
    if key is None:
        raise OwnerUnknown("Your account is closed or suspended. Sign in again, or ask support.")
    return key
