"""The judged queries, asked of a search that has the made listings."""

from collections.abc import Awaitable, Callable, Sequence
from statistics import mean
from uuid import UUID

from adapters.postgres import Database
from adapters.search.engine import SearchEngine
from adapters.search.reading import interpret_query
from adapters.search.rows import IndexedListing, indexed
from domain.search import SearchQuery
from tests.relevance.judged import grade
from tests.relevance.listings import made_listings
from tests.relevance.loading import saved
from tests.relevance.ndcg import ndcg
from tests.relevance.queries import QUERIES

Find = Callable[[str], Awaitable[Sequence[UUID]]]
"""The ids of the first ten listings for what is typed."""


class Judged:
    """The made listings of a tenant, and how well a search of them ranks."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.made = list(made_listings())
        events = list(saved(tenant_id, (made.facts for made in self.made)))
        self.ids = [event.aggregate_id for event in events]
        self.indexed: list[IndexedListing] = [indexed(event) for event in events]

    async def ndcg(self, find: Find) -> dict[str, float]:
        """nDCG@10 of each query."""
        measured = {}
        for typed, want in QUERIES.items():
            grades = {each: grade(made, want) for each, made in zip(self.ids, self.made, strict=True)}
            measured[typed] = ndcg([grades[each] for each in await find(typed)], grades.values())
        return measured

    async def mean_ndcg(self, find: Find) -> float:
        return mean((await self.ndcg(find)).values())


async def found_by(database: Database, engine: SearchEngine, tenant_id: str, typed: str) -> list[UUID]:
    """The first ten listings for what is typed, read as the API reads it."""
    async with database.statements(tenant_id) as connection:
        read, _ = await interpret_query(connection, SearchQuery(q=typed, limit=10), interpret=True)
    found = await engine.search(tenant_id, read)
    return [hit.id for hit in found.hits]
