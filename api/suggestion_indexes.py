"""The names that are suggested while somebody types, in memory for each tenant."""

import asyncio
import time
from collections import OrderedDict

from adapters.postgres import Database
from adapters.search.names import listed_names
from domain.gazetteer import hyderabad
from domain.suggestions import SuggestionIndex

_FRESH_SECONDS = 60.0
"""A name that is listed for the first time is suggested after so long."""
_TENANTS = 100
"""Tenants whose names are kept in memory, some 4 MB each."""


class Suggestions:
    """The index of each tenant, rebuilt by the first request that finds it too old; the others use the old one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._built: OrderedDict[str, tuple[float, SuggestionIndex]] = OrderedDict()
        self._building: dict[str, asyncio.Lock] = {}

    async def index(self, tenant_id: str) -> SuggestionIndex:
        """The index of a tenant. Raises DatabaseUnavailable if there is none yet."""
        known = self._built.get(tenant_id)
        lock = self._building.setdefault(tenant_id, asyncio.Lock())
        if known and (lock.locked() or time.monotonic() - known[0] < _FRESH_SECONDS):
            return known[1]
        async with lock:
            known = self._built.get(tenant_id)
            if known is None or time.monotonic() - known[0] >= _FRESH_SECONDS:
                async with self._database.statements(tenant_id) as connection:
                    names = await listed_names(connection)
                # Some 20 ms, in which the event loop serves others.
                index = await asyncio.to_thread(SuggestionIndex, hyderabad(), names)
                known = self._built[tenant_id] = time.monotonic(), index
                self._built.move_to_end(tenant_id)
                if len(self._built) > _TENANTS:
                    self._building.pop(self._built.popitem(last=False)[0], None)
        return known[1]
