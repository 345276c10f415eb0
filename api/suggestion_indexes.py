"""The names that are suggested while somebody types, in memory for each tenant."""

import asyncio
import logging
import time
from collections import OrderedDict

from sqlalchemy import text

from adapters import tasks
from adapters.postgres import Database
from adapters.search.names import listed_names
from domain.gazetteer import hyderabad
from domain.suggestions import SuggestionIndex

log = logging.getLogger(__name__)

_FRESH_SECONDS = 300.0
"""After so long a name that is listed for the first time is suggested; to count the names takes up to seconds."""
_TIMEOUT = text("SET LOCAL statement_timeout = '10s'")
_TENANTS = 100
"""Tenants whose names are kept in memory, some 4 MB each."""


class Suggestions:
    """The index of each tenant. One that is too old is still used while it is built anew in the background."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._built: OrderedDict[str, tuple[float, SuggestionIndex]] = OrderedDict()
        self._building: dict[str, asyncio.Task[SuggestionIndex]] = {}

    async def index(self, tenant_id: str) -> SuggestionIndex:
        """The index of a tenant. Raises DatabaseUnavailable if there is none yet."""
        known = self._built.get(tenant_id)
        is_old = known is None or time.monotonic() - known[0] >= _FRESH_SECONDS
        if is_old and tenant_id not in self._building:
            task = self._building[tenant_id] = asyncio.create_task(self._build(tenant_id))
            task.add_done_callback(lambda done: self._end(tenant_id, done))
        if known:
            return known[1]
        # Shielded: a client that goes away must not end what others wait for.
        return await asyncio.shield(self._building[tenant_id])

    async def close(self) -> None:
        """Stop what is being built."""
        await tasks.cancel(list(self._building.values()))

    async def _build(self, tenant_id: str) -> SuggestionIndex:
        # Nobody waits for it but the first one of a tenant.
        async with self._database.transaction(tenant_id) as tx:
            await tx.execute(_TIMEOUT)
            names = await listed_names(tx)
        # Some 20 ms, in which the event loop serves others.
        index = await asyncio.to_thread(SuggestionIndex, hyderabad(), names)
        self._built[tenant_id] = time.monotonic(), index
        self._built.move_to_end(tenant_id)
        if len(self._built) > _TENANTS:
            self._built.popitem(last=False)
        return index

    def _end(self, tenant_id: str, done: asyncio.Task[SuggestionIndex]) -> None:
        del self._building[tenant_id]
        if not done.cancelled() and (error := done.exception()):
            log.warning("suggestions of %s are not rebuilt: %s", tenant_id, error)
