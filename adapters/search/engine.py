"""What every search engine does."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.clusters import Counted
from domain.search import Hit, Position, SearchFilters, SearchQuery, SearchResult, Total


class SearchUnavailable(Exception):
    """The search engine cannot be reached, or does not answer in time."""


class SearchTooSlow(SearchUnavailable):
    """The search takes longer than somebody waits for it."""


class IndexMissing(SearchUnavailable):
    """The listings are being indexed: the engine is new, or has lost them."""


class ListingRejected(Exception):
    """The engine cannot store a listing; the message has the reason."""


class SearchEngine(Protocol):
    """Answers searches over the active listings of one tenant. Each method raises SearchUnavailable."""

    name: str
    """Positions are good for the engine that made them."""

    async def search(
        self, tenant_id: str, query: SearchQuery, after: Position | None = None, *, with_counts: bool = True
    ) -> SearchResult:
        """The page of `query` after a position; the first page also has total and facets, but for `with_counts`."""
        ...

    async def count(self, tenant_id: str, filters: SearchFilters) -> Total:
        """How many listings match."""
        ...

    async def counts(self, tenant_id: str, several: Sequence[SearchFilters]) -> list[Total]:
        """How many listings match each of several searches, by one request to the engine."""
        ...

    async def clusters(self, tenant_id: str, filters: SearchFilters, level: int) -> Counted:
        """The listings that match, counted by the tiles of a level; `filters` has a box."""
        ...

    async def changes(
        self, tenant_id: str, filters: SearchFilters, since: datetime, after: Position | None = None
    ) -> SearchResult:
        """The listings that match with a change applied at `since` or later: a page after a position, the latest last.

        A listing that is changed while pages are read comes again on a later one, so none is missed.
        """
        ...

    async def last_change(self, tenant_id: str) -> datetime | None:
        """When the last change of an active listing was applied; None without listings."""
        ...

    async def refresh(self) -> None:
        """Let searches find every listing that was written before."""
        ...

    async def make_findable(self, tenant_id: str, property_id: UUID, version: int) -> None:
        """Let searches find this version of a listing, which was written before; costs little if they do already."""
        ...

    async def ping(self) -> None:
        """Raises IndexMissing while the listings are being indexed."""
        ...

    async def close(self) -> None:
        """Close the engine's own connections."""
        ...

    async def cards(self, tenant_id: str, ids: Sequence[UUID]) -> list[Hit]:
        """The active listings with these ids, in the order of `ids`."""
        ...
