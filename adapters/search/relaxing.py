"""What to ask for less, where a search finds nothing."""

from adapters.search.engine import SearchEngine
from domain.facets import relaxations as ordered
from domain.facets import relaxed
from domain.search import Relaxation, SearchFilters


async def relaxations(engine: SearchEngine, tenant_id: str, filters: SearchFilters) -> tuple[Relaxation, ...]:
    """What dropping each of the filters would bring, the most first. Raises SearchUnavailable."""
    searches = relaxed(filters)
    totals = await engine.counts(tenant_id, list(searches.values()))
    return ordered(dict(zip(searches, totals, strict=True)))
