"""Saving what happens to accounts."""

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Ledger, violated
from adapters.sealing import Keyring
from adapters.tables import person_keys, user_profiles, users
from domain.errors import EmailTaken, UsernameTaken
from domain.events import Event, recorded
from domain.user import RegisterUser, UserSaved, decide, evolve

_ACCOUNT = {"version", "username", "email", "role", "status", "created_at", "updated_at"}
_PROFILE = {"first_name", "last_name", "phone_number"}


class Users:
    """Saves commands on accounts; each method may be called twice with the same command."""

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._keyring = keyring

    @activity.defn
    async def save_user(self, command: RegisterUser) -> UserSaved:
        """Store account, profile, key, event and answer. Refuses with EmailTaken, UsernameTaken."""

        async def change(tx: AsyncConnection) -> tuple[UserSaved, list[Event], bytes]:
            [event] = recorded(command, command.user_id, 0, decide(None, command))
            state = evolve(None, event.data, event.version, event.timestamp)
            key = self._keyring.new_wrapped_key()
            who = {"tenant_id": command.tenant_id, "user_id": command.user_id}
            account = state.model_dump(include=_ACCOUNT)
            try:
                await tx.execute(insert(users), {**who, **account, "password_hash": command.password_hash})
            except IntegrityError as error:
                match violated(error):
                    case "users_email_key":
                        raise EmailTaken(
                            "An account with this e-mail address exists. Sign in instead.", "email"
                        ) from error
                    case "users_username_key":
                        raise UsernameTaken("This username is taken. Choose another.", "username") from error
                raise
            await tx.execute(insert(user_profiles), {**who, **state.model_dump(include=_PROFILE)})
            await tx.execute(insert(person_keys), {**who, "wrapped_key": key})
            return UserSaved(events=(event.saved(),), user=state), [event], key

        return await self._ledger.once(command, command.user_id, UserSaved, change)
