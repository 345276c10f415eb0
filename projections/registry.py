"""Every projection by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from adapters.search.opensearch_index import OpenSearchIndex
from projections.counts import Counts
from projections.history import History
from projections.live import Live
from projections.notifications import Notifications
from projections.projection import Projection
from projections.search import Search
from projections.search_history import SearchHistory


@dataclass(frozen=True)
class Clients:
    """The clients of what projections write besides Postgres."""

    redis: Redis
    index: OpenSearchIndex | None = None
    """Where `SEARCH_URL` names an OpenSearch."""

    async def close(self) -> None:
        await self.redis.aclose()
        if self.index:
            await self.index.close()


PROJECTIONS: dict[str, Callable[[Clients], Projection[Any]]] = {
    History.name: lambda clients: History(clients.redis),
    Counts.name: lambda _: Counts(),
    Notifications.name: lambda _: Notifications(),
    SearchHistory.name: lambda _: SearchHistory(),
    Search.name: lambda clients: Search(clients.index),
    Live.name: lambda clients: Live(clients.redis),
}
