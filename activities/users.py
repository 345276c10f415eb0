"""Saving what happens to accounts."""

from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Change, Ledger
from adapters.postgres import Row
from adapters.sealing import Keyring
from adapters.tables import person_keys, user_profiles, users
from domain.errors import EmailTaken, UsernameTaken
from domain.events import recorded
from domain.user import RegisterUser, UserSaved, decide, evolve

_ACCOUNT = {"version", "username", "email", "role", "status", "created_at", "updated_at"}
_TAKEN = {
    "users_email_key": EmailTaken("An account with this e-mail address exists. Sign in instead.", "email"),
    "users_username_key": UsernameTaken("This username is taken. Choose another.", "username"),
}
_PROFILE = {"first_name", "last_name", "phone_number"}


class Users:
    """Saves commands on accounts; each method may be called twice with the same command."""

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._keyring = keyring

    @activity.defn
    async def save_user(self, command: RegisterUser) -> UserSaved:
        """Store account, profile, key, event and answer. Refuses with EmailTaken, UsernameTaken."""

        async def registered(_: AsyncConnection) -> Change[UserSaved]:
            [event] = recorded(command, command.user_id, 0, decide(None, command))
            state = evolve(None, event.data, event.version, event.timestamp)
            key = self._keyring.new_wrapped_key()
            who = {"tenant_id": command.tenant_id, "user_id": command.user_id}
            account = state.model_dump(include=_ACCOUNT)
            rows: list[Row] = [
                (users, {**who, **account, "password_hash": command.password_hash}),
                (user_profiles, {**who, **state.model_dump(include=_PROFILE)}),
                (person_keys, {**who, "wrapped_key": key}),
            ]
            return Change(UserSaved(events=(event.saved(),), user=state), [event], rows, key)

        return await self._ledger.once(command, command.user_id, UserSaved, registered, _TAKEN)
