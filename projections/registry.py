"""Every projection by name."""

from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from projections.counts import Counts
from projections.history import History
from projections.live import Live
from projections.notifications import Notifications
from projections.projection import Projection
from projections.search import Search
from projections.search_history import SearchHistory

PROJECTIONS: dict[str, Callable[[Redis], Projection[Any]]] = {
    History.name: History,
    Counts.name: lambda _: Counts(),
    Notifications.name: lambda _: Notifications(),
    SearchHistory.name: lambda _: SearchHistory(),
    Search.name: lambda _: Search(),
    Live.name: Live,
}
