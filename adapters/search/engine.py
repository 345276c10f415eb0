"""What every search engine does."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from domain.clusters import Cluster
from domain.search import Hit, Position, SearchFilters, SearchQuery, SearchResult, Total


class SearchUnavailable(Exception):
    """The search engine cannot be reached, or does not answer in time."""


class SearchEngine(Protocol):
    """Answers searches over the active listings of one tenant. Each method raises SearchUnavailable."""

    async def search(self, tenant_id: str, query: SearchQuery, after: Position | None = None) -> SearchResult:
        """The page of `query` after a position; the first page also has total and facets."""
        ...

    async def count(self, tenant_id: str, filters: SearchFilters) -> Total:
        """How many listings match."""
        ...

    async def counts(self, tenant_id: str, several: Sequence[SearchFilters]) -> list[Total]:
        """How many listings match each of several searches, by one request to the engine."""
        ...

    async def clusters(self, tenant_id: str, filters: SearchFilters, level: int) -> list[Cluster]:
        """The listings that match, counted by the tiles of a level, the fullest first; `filters` has a box."""
        ...

    async def cards(self, tenant_id: str, ids: Sequence[UUID]) -> list[Hit]:
        """The active listings with these ids, in the order of `ids`."""
        ...
