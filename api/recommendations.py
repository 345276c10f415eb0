"""Similar and recommended listings: /api/properties/{property_id}/similar and /api/search/recommendations."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response

from adapters import saved_searches
from adapters.current_state import find_property
from adapters.property_lists import favorites_of
from adapters.search.reading import interpret_query
from api.deps import MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError
from api.openapi import query
from api.property_answers import json_counts_of
from api.search import FoundProperty
from api.search_limits import SEARCH_LIMIT
from api.shown_images import FileUrls, shown_card
from api.tokens import Caller
from domain.command import Actor
from domain.model import Model
from domain.property import Property
from domain.property_commands import may_see
from domain.recommending import (
    Candidate,
    Home,
    Interest,
    Reason,
    ReasonKind,
    Shown,
    popular,
    queries_for,
    queries_of,
    recommended,
    similar,
)
from domain.search import SearchQuery, Sort
from domain.search_history import recalled

router = APIRouter()

_FAVORITES, _VIEWED, _SEARCHES = 3, 3, 2
"""The interests of each kind that are looked at, the newest: some twenty searches."""
_ENTRIES = 200
"""Of a history, in which viewed listings are looked for."""
_NEWEST = 100
"""Listings among which somebody who is not known sees the most viewed."""
_WEIGHTS = {ReasonKind.FAVORITE: 1.0, ReasonKind.SEARCHED: 0.8, ReasonKind.VIEWED: 0.6}
"""Who adds a favourite has decided something; who opens a page may have been curious."""

LimitQuery = Annotated[int, Query(ge=1, le=50, description="The maximum number of listings.")]


class RecommendedItem(Model):
    """A listing, and why it is shown."""

    property: FoundProperty
    reason: Reason


class RecommendationList(Model):
    """Listings, the best first."""

    items: tuple[RecommendedItem, ...]


@router.get(
    "/api/properties/{property_id}/similar",
    tags=["properties"],
    dependencies=[SEARCH_LIMIT],
    **query(RecommendationList, "invalid-request", "not-found", "too-many-requests", signed_in="optional"),
)
async def list_similar_properties(
    property_id: UUID, caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep, limit: LimitQuery = 10
) -> Response:
    """Active listings like this one: near it or in its locality, and in price, size and type. Each says why."""
    tenant_id = caller.tenant_id if caller else tenant_id
    async with parts.database.statements(tenant_id) as connection:
        listing = await find_property(connection, property_id)
    viewer = Actor(user_id=caller.user_id, role=caller.role) if caller else None
    if listing is None or not _is_visible(listing, viewer):
        raise ApiError("not-found", "There is no listing with this id that you may see. Check the id.")
    home = _home(listing)
    cards = await _cards(parts, tenant_id, queries_for(home))
    found = similar(home, [Home.of(card) for card in cards.values()], limit, viewer.user_id if viewer else None)
    return await _answer(parts, tenant_id, found, cards)


@router.get(
    "/api/search/recommendations",
    tags=["search"],
    dependencies=[SEARCH_LIMIT],
    **query(RecommendationList, "invalid-request", "too-many-requests", signed_in="optional"),
)
async def list_recommendations(
    caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep, limit: LimitQuery = 10
) -> Response:
    """Active listings that suit the favourites, views, searches and saved searches of the caller. Each says why.

    Somebody of whom nothing is known sees the most viewed of the newest listings, and then the newest.
    """
    tenant_id = caller.tenant_id if caller else tenant_id
    found: list[Shown] = []
    known: set[UUID] = set()
    cards: dict[UUID, dict[str, Any]] = {}
    if caller:
        interests, known = await _interests(parts, caller)
        candidates = []
        for n, interest in enumerate(interests):
            of_interest = await _cards(parts, tenant_id, queries_of(interest))
            candidates += [Candidate(Home.of(card), n) for card in of_interest.values()]
            cards |= of_interest
        found = recommended(interests, candidates, limit, known, caller.user_id)
    if len(found) < limit:
        newest = await _cards(parts, tenant_id, [SearchQuery(sort=Sort.NEWEST, limit=_NEWEST)])
        known |= {id for id, _ in found}
        fresh = {id: card for id, card in newest.items() if id not in known}
        async with parts.database.statements(tenant_id) as connection:
            counts = await json_counts_of(connection, list(fresh))
        others = [Candidate(Home.of(card), views=counts[id]["viewsCount"]) for id, card in fresh.items()]
        found += popular(others, limit - len(found), caller.user_id if caller else None)
        cards |= fresh
    return await _answer(parts, tenant_id, found, cards)


async def _interests(parts: Parts, caller: Caller) -> tuple[list[Interest], set[UUID]]:
    """What the caller is interested in, and the listings that they know."""
    page = await parts.histories.page(caller.tenant_id, str(caller.user_id), _ENTRIES)
    past = await parts.past_searches.page(caller.tenant_id, caller.user_id, _SEARCHES, reads_deletions=True)
    viewed = _viewed(page.entries)
    async with parts.database.statements(caller.tenant_id) as connection:
        liked = await favorites_of(connection, caller.user_id, 50, None, sees_all=False)
        searches = await saved_searches.of_user(connection, caller.user_id)
        found = [await find_property(connection, id) for id in viewed[:_VIEWED]]
    viewer = Actor(user_id=caller.user_id, role=caller.role)
    # A reason shows the title that a listing has, and its place in the order shows the price.
    seen = [listing for listing in found if listing and _is_visible(listing, viewer)]
    interests = [_interest(ReasonKind.FAVORITE, listing) for listing in liked.items[:_FAVORITES]]
    favorites = {listing.id for listing in liked.items}
    weight = _WEIGHTS[ReasonKind.SEARCHED]
    for search in searches[:_SEARCHES]:
        if filters := recalled(search.filters):
            interests.append(Interest(ReasonKind.SEARCHED, weight, filters=filters, name=search.name))
    interests += [Interest(ReasonKind.SEARCHED, weight, filters=search.filters) for search in past.searches]
    interests += [_interest(ReasonKind.VIEWED, listing) for listing in seen if listing.id not in favorites]
    return interests, favorites | set(viewed)


def _is_visible(listing: Property, viewer: Actor | None) -> bool:
    return listing.is_public or (viewer is not None and may_see(listing, viewer))


def _viewed(entries: Iterable[bytes]) -> list[UUID]:
    """The listings that a history says were viewed, the last first."""
    read = map(orjson.loads, entries)
    views = (entry for entry in read if entry["activityType"] == "PROPERTY_VIEWED")
    return list(dict.fromkeys(UUID(entry["activityData"]["propertyId"]) for entry in views))


def _interest(kind: ReasonKind, listing: Property) -> Interest:
    return Interest(kind, _WEIGHTS[kind], _home(listing))


def _home(listing: Property) -> Home:
    return Home.of(listing.model_dump(mode="json", by_alias=True))


async def _cards(parts: Parts, tenant_id: str, queries: Sequence[SearchQuery]) -> dict[UUID, dict[str, Any]]:
    """What searches find, each listing once. Raises ApiError unavailable."""
    async with parts.search_database.statements(tenant_id) as connection:
        read = [(await interpret_query(connection, query, interpret=True))[0] for query in queries]
    results = await asyncio.gather(*(parts.search.search(tenant_id, query, with_counts=False) for query in read))
    return {hit.id: orjson.loads(hit.card) for result in results for hit in result.hits}


async def _answer(
    parts: Parts, tenant_id: str, found: Sequence[Shown], cards: Mapping[UUID, dict[str, Any]]
) -> Response:
    async with parts.database.statements(tenant_id) as connection:
        counts = await json_counts_of(connection, [id for id, _ in found])
    urls = FileUrls.of(parts.settings, tenant_id)
    items = [
        {
            "property": {**shown_card(cards[id], urls), **counts[id]},
            "reason": reason.model_dump(mode="json", by_alias=True),
        }
        for id, reason in found
    ]
    return Response(orjson.dumps({"items": items}), media_type="application/json")
