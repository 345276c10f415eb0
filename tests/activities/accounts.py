"""Commands that are saved by the real activities, and accounts that own what they make."""

from typing import Any
from uuid import UUID

from activities.properties import Properties
from activities.saving import CommandStore
from activities.users import Users
from adapters.sealing import Keyring
from domain.command import Command, Saved
from tests.samples import register_user


class Saving:
    """Saves commands as a worker does: sealed on their way, by the activity of their aggregate."""

    def __init__(self, store: CommandStore, keyring: Keyring) -> None:
        self._properties, self._users = Properties(store), Users(store, keyring.new_wrapped_key)
        self._keyring = keyring

    async def property(self, command: Command) -> Saved:
        return await self._properties.save_property(self._keyring.seal_in_transit(command, command.command_id))

    async def user(self, command: Command) -> Saved:
        return await self._users.save_user(self._keyring.seal_in_transit(command, command.command_id))

    def resource(self, saved: Saved) -> dict[str, Any]:
        """The state in an answer, in the clear."""
        resource: dict[str, Any] = self._keyring.unseal_in_transit(saved.resource, saved.command_id)
        return resource

    async def registered(self, tenant: str, **more: object) -> UUID:
        """The id of a user who has just registered."""
        return (await self.user(register_user(tenant, **more))).aggregate_id
