"""Saves commands by the real activities, and creates accounts that own listings."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from activities.properties import Properties
from activities.saving import CommandStore
from activities.users import Users
from adapters.sealing import Keyring
from domain.command import Change, Command, Saved
from domain.property_commands import CreateProperty
from tests.samples import create_property, new_id, register_user

C = TypeVar("C", bound=Change)


class Saving:
    """Saves commands as a worker does: encrypted for Temporal, by the activity of their aggregate."""

    def __init__(self, store: CommandStore, keyring: Keyring, verified_email_tenants: Collection[str] = ()) -> None:
        self._properties = Properties(store, verified_email_tenants)
        self._users = Users(store, keyring)
        self._keyring = keyring

    async def property(self, command: Command) -> Saved:
        return await self._properties.save_property(self._keyring.seal_in_transit(command, command.command_id))

    async def user(self, command: Command) -> Saved:
        return await self._users.save_user(self._keyring.seal_in_transit(command, command.command_id))

    def resource(self, saved: Saved) -> dict[str, Any]:
        """The state in an answer, decrypted."""
        resource: dict[str, Any] = self._keyring.unseal_in_transit(saved.resource, saved.command_id)
        return resource

    def answer(self, saved: Saved) -> Saved:
        """An answer, decrypted: the ciphertexts of two equal answers differ."""
        return saved.model_copy(update={"resource": self.resource(saved)})

    async def registered(self, tenant: str, **more: object) -> UUID:
        """The id of a user who has just registered."""
        return (await self.user(register_user(tenant, **more))).aggregate_id

    async def listed(self, tenant: str, **more: object) -> CreateProperty:
        """List a property of a new owner; returns the command."""
        command = create_property(tenant, await self.registered(tenant), **more)
        await self.property(command)
        return command


def change(command: Callable[..., C], listed: CreateProperty, by: UUID | None = None, **fields: Any) -> C:
    """A command on a listing by its owner, or by the user `by`; it accepts any version unless `fields` has versions."""
    return command(
        command_id=new_id(),
        tenant_id=listed.tenant_id,
        user_id=by or listed.user_id,
        issued_at=datetime.now(UTC),
        property_id=listed.property_id,
        **fields,
    )
