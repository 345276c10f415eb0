"""Addresses to which nothing can be delivered, each known by its digest (`Keyring.address_digest`) only.

A changed address has another digest, so nothing has to be removed when a user changes theirs.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import bad_addresses
from domain.preferences import Channel


async def add(connection: AsyncConnection, tenant_id: str, channel: Channel, digest: bytes, reason: str) -> None:
    """Remember an address; its first reason is kept. `reason` must not contain the address."""
    row = {"tenant_id": tenant_id, "channel": channel.value, "address_digest": digest, "reason": reason}
    await connection.execute(insert(bad_addresses).values(row).on_conflict_do_nothing())


async def bad_ones(connection: AsyncConnection, channel: Channel, digests: Iterable[bytes]) -> set[bytes]:
    """Those of `digests` whose addresses are bad, for the tenant of the connection."""
    wanted = list(digests)
    if not wanted:
        return set()
    c = bad_addresses.c
    query = select(c.address_digest).where(c.channel == channel.value, c.address_digest.in_(wanted))
    return set((await connection.execute(query)).scalars())
