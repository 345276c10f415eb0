"""Searching listings: /api/search."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response

from adapters.search.reading import interpret_query
from adapters.search.relaxing import relaxations
from api.bodies import BodyOf
from api.deps import MaybeCallerDep, Parts, PartsDep, TenantDep, consistency_cursor
from api.errors import ApiError
from api.openapi import query
from api.paging import opened
from api.property_answers import json_counts_of
from api.search_limits import SEARCH_LIMIT, count_polygon
from api.search_parameters import SearchBody, SearchParameters
from api.shown_images import FileUrls, ShownImage, shown_card_json
from api.tokens import Caller
from domain.facets import Facet
from domain.gazetteer import hyderabad
from domain.interpretation import changes_by_reading, read_before
from domain.model import Model
from domain.search import FacetValue, Hit, ListingCard, Position, SearchQuery, SearchResult
from domain.words import words
from projections.search import is_searchable, version_of

router = APIRouter(prefix="/api/search", tags=["search"])

_PROBLEMS = ("invalid-request", "invalid-cursor", "invalid-consistency-token", "too-many-requests")

ConsistencyToken = Annotated[
    str | None,
    Header(
        alias="Consistency-Token",
        max_length=200,
        description="Of the response to a command on a listing: the search includes what the command wrote",
    ),
]


class FoundProperty(ListingCard):
    """A listing that a search has found, with its counts, which are updated within about a second."""

    images: tuple[ShownImage, ...] = ()  # type: ignore[assignment]
    views_count: int = 0
    favorites_count: int = 0


class FoundItem(Model):
    """A listing with what the search says about it."""

    property: FoundProperty
    distance_km: float | None = None
    """From `near`, if it was given."""
    highlights: dict[str, str] | None = None
    """By field: HTML with the words of `q` in `<mark>`; absent without them."""


class SearchTotal(Model):
    """How many listings match: exactly, or at least so many."""

    value: int
    exact: bool


class FacetCount(Model):
    """How many listings have a value, under the filters on other fields: exactly, or at least so many."""

    value: str
    """As the filter takes it; of `price`, the least and the most with a hyphen between, of which one may be missing."""
    count: int
    exact: bool


class Interpretation(Model):
    """How the search was read."""

    filters: dict[str, Any]
    """By the names of the parameters."""
    terms: tuple[str, ...]
    """The words that are searched in the texts of listings."""
    words: dict[str, tuple[str, ...]]
    """By the names of parameters: what was typed in `q` that a filter was read from. To take a filter away, send the
    other `filters` and the `terms` as `q`, with `interpret=false`."""


class Relaxation(Model):
    """What the search finds without one of its filters."""

    drop: str
    """The name of the parameter."""
    total: SearchTotal


class SearchPage(Model):
    """A page of the listings that a search has found."""

    items: tuple[FoundItem, ...]
    next_cursor: str | None
    """The cursor of the next page; null on the last page."""
    total: SearchTotal | None
    """On the first page."""
    facets: dict[str, tuple[FacetCount, ...]]
    """By the name of the parameter, the most frequent values first; on the first page."""
    interpretation: Interpretation
    relax: tuple[Relaxation, ...]
    """When nothing is found: what to drop, the most promising first."""


@dataclass(frozen=True)
class _Reading:
    """A search as it was read, and the page that is asked for."""

    query: SearchQuery
    read_from: Mapping[str, Sequence[str]]
    """By field: the words that it was read from."""
    after: Position | None

    def position(self, asked: SearchQuery, next: Position) -> Sequence[Any]:
        """What the cursor of the next page has: the reading too, because the vocabulary changes with the listings."""
        return next, changes_by_reading(asked, self.query), self.read_from


@router.get("/properties", dependencies=[SEARCH_LIMIT], **query(SearchPage, *_PROBLEMS, signed_in="optional"))
async def search_properties(
    parameters: Annotated[SearchParameters, Query()],
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    consistency_token: ConsistencyToken = None,
) -> Response:
    """The active listings that meet all of the filters."""
    return await _answer(parts, caller, tenant_id, parameters, consistency_token)


@router.post("/properties", dependencies=[SEARCH_LIMIT], **query(SearchPage, *_PROBLEMS, signed_in="optional"))
async def search_properties_in_polygon(
    request: Request,
    body: BodyOf[SearchBody],
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    consistency_token: ConsistencyToken = None,
) -> Response:
    """The same as the search by URL, also within a polygon that was drawn on a map (GeoJSON).

    For the limit of searches every ten vertices count as another search.
    """
    if body.polygon:
        await count_polygon(request, caller, tenant_id, parts, body.polygon)
    return await _answer(parts, caller, tenant_id, body, consistency_token)


async def _answer(
    parts: Parts,
    caller: Caller | None,
    tenant_id: str,
    sent: SearchParameters | SearchBody,
    token: str | None,
) -> Response:
    """The response with a page. Raises ApiError invalid-cursor, invalid-consistency-token or unavailable."""
    tenant_id = caller.tenant_id if caller else tenant_id
    asked = sent.query
    await wait_until_searchable(parts, tenant_id, token)
    purpose = _purpose(parts.search.name, tenant_id, asked, sent.interpret)
    position = opened(parts.signer.open_position, purpose, sent.cursor)
    reading = await _read(parts, tenant_id, asked, sent.interpret, position)
    async with parts.polygon_searches.place() if reading.query.polygon else nullcontext():
        found = await parts.search.search(tenant_id, reading.query, reading.after)
        relax = () if found.hits or reading.after else await relaxations(parts.search, tenant_id, reading.query)
    if caller and reading.after is None:
        parts.searches.searched(tenant_id, caller.user_id, asked, found.total.value if found.total else None)
    async with parts.database.statements(tenant_id) as connection:
        counts = await json_counts_of(connection, [hit.id for hit in found.hits])
    urls = FileUrls.of(parts.settings, tenant_id)
    items = b",".join(_item(hit, counts[hit.id], urls) for hit in found.hits)
    rest = {
        "nextCursor": parts.signer.sign_position(purpose, reading.position(asked, found.next)) if found.next else None,
        **_about(reading, found),
        "relax": relax,
    }
    return Response(b'{"items":[' + items + b"]," + orjson.dumps(rest)[1:], media_type="application/json")


async def _read(
    parts: Parts, tenant_id: str, asked: SearchQuery, interpret: bool, position: Sequence[Any] | None
) -> _Reading:
    """How a search is read: by the words that listings have for its first page, and as that one for the others."""
    if position is None:
        async with parts.search_database.statements(tenant_id) as connection:
            read, read_from = await interpret_query(connection, asked, interpret=interpret)
        return _Reading(read, read_from, None)
    after, changes, typed = position
    return _Reading(read_before(asked, changes), typed, tuple(after))


def _about(reading: _Reading, found: SearchResult) -> dict[str, Any]:
    """What an answer says beside the listings."""
    read = reading.query
    return {
        "total": found.total,
        "facets": {name: _shown(name, values) for name, values in found.facets.items()},
        "interpretation": {
            "filters": {
                SearchQuery.model_fields[name].alias or name: value
                for name, value in read.model_dump(mode="json", include=set(read.given)).items()
            },
            "terms": [word.text for word in words(read.q or "")],
            "words": {SearchQuery.model_fields[name].alias or name: typed for name, typed in reading.read_from.items()},
        },
    }


def _shown(facet: str, values: Sequence[FacetValue]) -> Sequence[FacetValue]:
    """The values of a facet with the names of localities as people write them."""
    if facet != Facet.LOCATION:
        return values
    return [replace(each, value=hyderabad().label(each.value)) for each in values]


def _purpose(engine: str, tenant_id: str, asked: SearchQuery, interpret: bool) -> str:
    """What a cursor is signed for: it is good for the same search by the same engine only, in pages of any size."""
    search = asked.model_dump_json(exclude={"limit"})
    digest = hashlib.sha256(f"{interpret}:{search}".encode()).hexdigest()
    return f"search:{engine}:{tenant_id}:{digest}"


def _item(hit: Hit, counts: dict[str, int], urls: FileUrls) -> bytes:
    """A FoundItem as JSON."""
    more: dict[str, Any] = {}
    if hit.distance_km is not None:
        more["distanceKm"] = hit.distance_km
    if hit.highlights:
        more["highlights"] = hit.highlights
    listing = shown_card_json(hit.card, urls)[:-1] + b"," + orjson.dumps(counts)[1:]
    return b'{"property":' + listing + (b"," + orjson.dumps(more)[1:] if more else b"}")


async def wait_until_searchable(parts: Parts, tenant_id: str, token: str | None) -> None:
    """Wait until the search has what a Consistency-Token names. Raises ApiError invalid-consistency-token, unavailable.

    There is no other copy of the index to answer from, so a search that would be stale is not answered.
    """
    entry = consistency_cursor(parts, tenant_id, (token or "").partition(".")[0], token)
    if entry is None:
        return
    written = await version_of(parts.database, tenant_id, entry.id)
    if written is None:
        return
    if not await is_searchable(parts.database, tenant_id, *written, parts.settings.consistency_wait_seconds):
        raise ApiError(
            "unavailable",
            "The search does not have your change yet. Send the request again after Retry-After seconds.",
            headers={"Retry-After": "1"},
        )
    await parts.search.make_findable(tenant_id, *written)
