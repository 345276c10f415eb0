"""Every projection by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from adapters.search.opensearch_index import OpenSearchIndex
from projections.counts import Counts
from projections.history import History
from projections.notifications import Notifications
from projections.projection import Projection
from projections.search import Search


@dataclass(frozen=True)
class Clients:
    """The clients of what projections write besides Postgres."""

    redis: Redis
    index: OpenSearchIndex | None = None
    """Where `SEARCH_URL` names an OpenSearch."""


PROJECTIONS: dict[str, Callable[[Clients], Projection[Any]]] = {
    History.name: lambda clients: History(clients.redis),
    Counts.name: lambda _: Counts(),
    Notifications.name: lambda _: Notifications(),
    Search.name: lambda clients: Search(clients.index),
}
