"""Suggestions while somebody types: /api/search/suggestions."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import MaybeCallerDep, PartsDep, TenantDep
from api.openapi import query
from api.search_limits import SUGGESTION_LIMIT
from domain import fields as f
from domain.model import Model
from domain.suggestions import MOST, Kind

router = APIRouter(prefix="/api/search", tags=["search"])

_PAST = 20
"""Newest searches of a user that are completed."""


class SuggestedText(Model):
    """A text to search for."""

    text: str
    kind: Kind
    latitude: float | None = None
    longitude: float | None = None


class SuggestionList(Model):
    """Suggestions, the likeliest first."""

    items: tuple[SuggestedText, ...]


@router.get(
    "/suggestions",
    response_model_exclude_none=True,
    dependencies=[SUGGESTION_LIMIT],
    **query(SuggestionList, "invalid-request", "too-many-requests", signed_in="optional"),
)
async def suggestions(
    q: Annotated[f.SearchText, Query(description="What is typed so far; its last word may be incomplete")],
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 10,
) -> SuggestionList:
    """Localities, projects and one's own past searches that what is typed may become, also with typing errors."""
    tenant_id = caller.tenant_id if caller else tenant_id
    index = await parts.suggestions.index(tenant_id)
    past: list[str] = []
    if caller:
        page = await parts.past_searches.page(tenant_id, caller.user_id, _PAST)
        past = [search.filters.q for search in page.searches if search.filters.q]
    return SuggestionList(items=tuple(SuggestedText(**asdict(one)) for one in index.complete(q, past, limit)))
