"""How often somebody may search: by account, or visitors without one from one address."""

from fastapi import Depends, Request

from api.deps import MaybeCallerDep, Parts, PartsDep, TenantDep, address_of
from api.tokens import Caller
from domain.geometry import Polygons

VERTICES_OF_A_SEARCH = 10
"""Of a polygon, that count as another search: a thousand take a hundred times as long as a search without."""


async def _count_search(request: Request, caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep) -> None:
    who = _who(request, caller)
    await parts.limits.count(_tenant(caller, tenant_id), "searches", who, parts.settings.searches_per_minute)


async def _count_suggestion(request: Request, caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep) -> None:
    who = _who(request, caller)
    await parts.limits.count(_tenant(caller, tenant_id), "suggestions", who, parts.settings.suggestions_per_minute)


async def count_polygon(
    request: Request, caller: Caller | None, tenant_id: str, parts: Parts, polygon: Polygons
) -> None:
    """Count the vertices of a polygon, besides the search itself. Raises ApiError too-many-requests."""
    limit = parts.settings.searches_per_minute
    weight = min(limit, polygon.vertices // VERTICES_OF_A_SEARCH)
    if weight:
        tenant = _tenant(caller, tenant_id)
        await parts.limits.count(tenant, "searches", _who(request, caller), limit, weight=weight)


def _who(request: Request, caller: Caller | None) -> str:
    return str(caller.user_id) if caller else address_of(request)


def _tenant(caller: Caller | None, of_host: str) -> str:
    return caller.tenant_id if caller else of_host


SEARCH_LIMIT = Depends(_count_search)
"""For routes that ask the search engine. Raises ApiError too-many-requests."""
SUGGESTION_LIMIT = Depends(_count_suggestion)
"""For completing what is typed, which asks no engine. Raises ApiError too-many-requests."""
