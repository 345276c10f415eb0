"""Accounts for tests that need an owner."""

from uuid import UUID

from activities.saving import Ledger
from activities.users import Users
from adapters.sealing import Keyring
from tests.samples import register_user


async def registered(ledger: Ledger, keyring: Keyring, tenant: str, **more: object) -> UUID:
    """The id of a user who has just registered."""
    saved = await Users(ledger, keyring).save_user(register_user(tenant, **more))
    return saved.user.id
