"""Records the searches of users: those of a moment are saved by one `record-activity` workflow."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.client import Client

from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import person_keys
from adapters.telemetry import OBSERVATIONS
from api.batching import BatchedCalls
from api.commands import new_id
from api.observation_batches import by_size, save_observations
from domain.observations import PropertySearched, Search
from domain.search import SearchFilters
from domain.search_history import remembered, sameness

_BATCH_SECONDS = 0.25
"""Longer than for views, because nobody waits for a search to be remembered."""
_MAX_BATCH = 25
"""Searches that are saved at once, by a few workflows if they have large polygons: of 1,000 vertices, 100 kB sealed."""
_MAX_WAITING = 1000
"""Searches of one process that wait to be saved; further ones are left out, which a user hardly notices."""


@dataclass(frozen=True)
class _Asked:
    """A search to save."""

    user_id: UUID
    filters: SearchFilters
    total: int | None
    at: datetime


class SearchObservations:
    """Records searches after their requests."""

    def __init__(self, client: Client, database: Database, keyring: Keyring, wait_seconds: float) -> None:
        self._client = client
        self._database = database
        self._keyring = keyring
        self._wait_seconds = wait_seconds
        self._batches: dict[str, BatchedCalls[_Asked, None]] = {}
        self._recordings: set[asyncio.Task[None]] = set()

    def searched(self, tenant_id: str, user_id: UUID, filters: SearchFilters, total: int | None = None) -> None:
        """Record a search of a user, within about half a second; nothing of it waits, or fails.

        A search without a filter is a look at the list, and is not recorded.
        """
        if not filters.given:
            return
        if len(self._recordings) >= _MAX_WAITING:
            OBSERVATIONS.labels("PROPERTY_SEARCHED", "failed").inc()
            return
        asked = _Asked(user_id, filters, total, datetime.now(UTC))
        recording = asyncio.create_task(self._batches_of(tenant_id).call(asked))
        self._recordings.add(recording)
        recording.add_done_callback(self._recorded)

    def _recorded(self, recording: asyncio.Task[None]) -> None:
        self._recordings.discard(recording)
        # Read the exception, which is logged and counted; otherwise asyncio logs it as never retrieved.
        if not recording.cancelled():
            recording.exception()

    async def close(self) -> None:
        """Wait until the pending batches are saved."""
        await asyncio.sleep(0)  # a recording that has just begun is not in its batch yet
        await asyncio.gather(*(batches.close() for batches in self._batches.values()))

    def _batches_of(self, tenant_id: str) -> BatchedCalls[_Asked, None]:
        if tenant_id not in self._batches:

            async def save(batch: list[_Asked]) -> list[None]:
                async with self._database.statements(tenant_id) as connection:
                    keys = await _wrapped_keys(connection, {asked.user_id for asked in batch})
                # Without a key, the person was erased in the meantime.
                known = [self._observation(asked, keys[asked.user_id]) for asked in batch if asked.user_id in keys]
                saving = (
                    save_observations(self._client, tenant_id, some, self._wait_seconds) for some in by_size(known)
                )
                for outcome in await asyncio.gather(*saving, return_exceptions=True):
                    if outcome is not None:
                        raise outcome
                return [None] * len(batch)

            self._batches[tenant_id] = BatchedCalls(save, seconds=_BATCH_SECONDS, max_size=_MAX_BATCH, max_concurrent=1)
        return self._batches[tenant_id]

    def _observation(self, asked: _Asked, key: bytes) -> Search:
        """The observation, sealed before Temporal sees it: its workflow is of many users, so no erasure deletes it."""
        event_id = new_id()
        fact = PropertySearched(
            search_id=self._keyring.search_id(key, sameness(asked.filters)),
            query=remembered(asked.filters),
            total=asked.total,
        )
        return Search(
            event_id=event_id,
            aggregate_id=asked.user_id,
            user_id=asked.user_id,
            timestamp=asked.at,
            data=PropertySearched.model_validate(self._keyring.seal(fact, key, event_id)),
        )


async def _wrapped_keys(connection: AsyncConnection, user_ids: Collection[UUID]) -> dict[UUID, bytes]:
    query = select(person_keys.c.user_id, person_keys.c.wrapped_key).where(person_keys.c.user_id.in_(list(user_ids)))
    return {row.user_id: row.wrapped_key for row in await connection.execute(query)}
