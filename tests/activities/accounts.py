"""Accounts for tests that need an owner, and how their properties are saved."""

from uuid import UUID

from activities.properties import Properties
from activities.saving import Ledger
from activities.users import Users
from adapters.sealing import Keyring
from tests.samples import register_user


async def registered(ledger: Ledger, keyring: Keyring, tenant: str, **more: object) -> UUID:
    """The id of a user who has just registered."""
    saved = await Users(ledger, keyring).save_user(register_user(tenant, **more))
    return saved.user.id


def saving(ledger: Ledger) -> Properties:
    """With no relay: what is promised stays in the outbox."""
    return Properties(ledger, lambda _: None)
