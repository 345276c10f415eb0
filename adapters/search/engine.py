"""What every search engine does."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

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

    async def cards(self, tenant_id: str, ids: Sequence[UUID]) -> list[Hit]:
        """The active listings with these ids, in the order of `ids`."""
        ...
