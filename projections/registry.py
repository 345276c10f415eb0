"""Every projection by its name; a new one is its own file, its tables and one line here."""

from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from projections.counts import Counts
from projections.history import History
from projections.projection import Projection

PROJECTIONS: dict[str, Callable[[Redis], Projection[Any]]] = {
    History.name: History,
    Counts.name: lambda _: Counts(),
}
