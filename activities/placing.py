"""The activity that finds the places of listings that were saved before duplicates were looked for."""

from temporalio import activity

from adapters import places
from adapters.postgres import Database

_PAGE = 500
"""Listings of a statement: some ten milliseconds."""
_LIMIT = 5_000
"""Of one run, some seconds: reconcile runs again after a minute."""


class Placing:
    """Gives listings the key by which duplicates are found, of which `all_tenants` finds those that have none."""

    def __init__(self, database: Database, all_tenants: Database) -> None:
        self._database = database
        self._all_tenants = all_tenants

    @activity.defn
    async def fill_places(self) -> int:
        """Fill the keys of some thousand listings; returns how many. Once all have one it is a look into an index."""
        filled = 0
        while filled < _LIMIT:
            async with self._all_tenants.statements() as connection:
                unplaced = await places.unplaced(connection, _PAGE)
            before = filled
            for tenant_id, keys in unplaced.items():
                async with self._database.statements(tenant_id) as connection:
                    filled += await places.place(connection, keys)
                activity.heartbeat(filled)
            if filled == before:  # none is left, or others have saved these
                break
        return filled
