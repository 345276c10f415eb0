"""OpenSearch as the search engine: answers searches from the index behind the alias `listings`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from math import asin, cos, radians, sin, sqrt
from typing import Any
from uuid import UUID

import orjson
from opensearchpy import AsyncOpenSearch

from adapters.search.engine import IndexMissing, SearchUnavailable
from adapters.search.opensearch_index import ALIAS, document_id, translate_errors
from adapters.search.opensearch_queries import (
    LAST_CHANGE,
    changes,
    conditions,
    counted,
    page,
    position_of,
    position_of_change,
    time_of,
    values_of,
)
from adapters.search.rows import SEARCHED
from domain.clusters import MAX_COUNTED, MAX_TILES, Cluster, Counted
from domain.facets import Facet, counted_together
from domain.geometry import Point
from domain.search import (
    CHANGES_OF_A_PAGE,
    COUNTED_EXACTLY,
    Hit,
    Position,
    SearchFilters,
    SearchQuery,
    SearchResult,
    Total,
)
from domain.words import highlighted, singular, words

_AROUND = 120
"""Characters of a description before and after its first matching word that a highlight shows."""
_EARTH_KM = 6371.0087714
"""The mean radius, as Lucene has it."""


class OpenSearch:
    """The engine."""

    name = "opensearch"

    def __init__(self, client: AsyncOpenSearch) -> None:
        self._client = client
        self._refreshing = asyncio.Lock()

    async def search(
        self, tenant_id: str, query: SearchQuery, after: Position | None = None, *, with_counts: bool = True
    ) -> SearchResult:
        """The page of `query` after a position; the first one with total and facets. Raises SearchUnavailable."""
        first = page(query, after)
        if after or not with_counts:
            [found] = await self._ask(tenant_id, [first])
            return _result(query, found)
        (_, own), *others = parts = list(counted_together(query).items())
        under = [_counting(filters, aggs=counted(facets)) for filters, facets in others]
        found, *more = await self._ask(tenant_id, [first | {"aggs": counted(own)}, *under])
        facets = {
            facet.value: values_of(facet, answer["aggregations"][facet.value])
            for (_, facets), answer in zip(parts, [found, *more], strict=True)
            for facet in facets
        }
        return _result(query, found, _total(found), {facet.value: facets[facet.value] for facet in Facet})

    async def count(self, tenant_id: str, filters: SearchFilters) -> Total:
        """How many listings match. Raises SearchUnavailable."""
        return (await self.counts(tenant_id, [filters]))[0]

    async def counts(self, tenant_id: str, several: Sequence[SearchFilters]) -> list[Total]:
        """How many listings match each of several searches, by one request. Raises SearchUnavailable."""
        asked = [_counting(filters, track_total_hits=COUNTED_EXACTLY) for filters in several]
        return [_total(found) for found in await self._ask(tenant_id, asked)]

    async def clusters(self, tenant_id: str, filters: SearchFilters, level: int) -> Counted:
        """The listings that match, by the tiles of a level. Raises SearchUnavailable."""
        tiles = {
            "geotile_grid": {"field": "geo", "precision": level, "size": MAX_TILES},
            "aggs": {
                "middle": {"geo_centroid": {"field": "geo"}},
                "price": {"stats": {"field": "price"}},
                "one": {"terms": {"field": "id", "size": 1}},
            },
        }
        asked = _counting(filters, aggs={"tiles": tiles}, terminate_after=MAX_COUNTED + 1)
        [found] = await self._ask(tenant_id, [asked])
        clusters = map(_cluster, found["aggregations"]["tiles"]["buckets"])
        return Counted(tuple(clusters), exact=not found.get("terminated_early"))

    async def cards(self, tenant_id: str, ids: Sequence[UUID]) -> list[Hit]:
        """The active listings with these ids, in the order of `ids`. Raises SearchUnavailable."""
        wanted = list(dict.fromkeys(map(str, ids)))
        if not wanted:
            return []
        asked = {"query": {"terms": {"id": wanted}}, "size": len(wanted), "_source": ["card", "id"]}
        [found] = await self._ask(tenant_id, [asked])
        hits = {hit["_source"]["id"]: _hit(hit, None, frozenset()) for hit in found["hits"]["hits"]}
        return [hits[each] for each in wanted if each in hits]

    async def changes(
        self, tenant_id: str, filters: SearchFilters, since: datetime, after: Position | None = None
    ) -> SearchResult:
        """The listings that match with changes applied since, the latest last. Raises SearchUnavailable."""
        [found] = await self._ask(tenant_id, [changes(filters, since, after)])
        hits: list[dict[str, Any]] = found["hits"]["hits"]
        shown = hits[:CHANGES_OF_A_PAGE]
        following = position_of_change(shown[-1]["sort"]) if len(hits) > len(shown) else None
        return SearchResult(
            [replace(_hit(hit, None, frozenset()), changed_at=time_of(hit["_source"]["changed_at"])) for hit in shown],
            following,
        )

    async def last_change(self, tenant_id: str) -> datetime | None:
        """When the last change was applied. Raises SearchUnavailable."""
        [found] = await self._ask(tenant_id, [LAST_CHANGE])
        return next((time_of(hit["sort"][0]) for hit in found["hits"]["hits"]), None)

    async def refresh(self) -> None:
        """Make every listing that was written findable at once. Raises SearchUnavailable."""
        async with translate_errors():
            await self._client.indices.refresh(index=ALIAS)

    async def make_findable(self, tenant_id: str, property_id: UUID, version: int) -> None:
        """Refresh the index unless searches see this version of a listing. Raises SearchUnavailable.

        A client that repeats a Consistency-Token causes no refresh, and requests that wait share one.
        """
        if await self._is_findable(tenant_id, property_id, version):
            return
        async with self._refreshing:
            if not await self._is_findable(tenant_id, property_id, version):
                await self.refresh()

    async def _is_findable(self, tenant_id: str, property_id: UUID, version: int) -> bool:
        """Also of a listing that is not active, of which the index keeps a tombstone."""
        asked = {"query": {"ids": {"values": [document_id(tenant_id, property_id)]}}, "version": True, "_source": False}
        async with translate_errors():
            found = await self._client.search(index=ALIAS, body=asked)
        return any(hit["_version"] >= version for hit in found["hits"]["hits"])

    async def ping(self) -> None:
        """Raises SearchUnavailable, also while the index is being built."""
        async with translate_errors():
            if not await self._client.indices.exists_alias(name=ALIAS):
                raise IndexMissing("the listings are being indexed")

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, tenant_id: str, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answers to searches, which see the active listings of the tenant and no others."""
        if not requests:
            return []
        of_tenant = [{"term": {"tenant": tenant_id}}, {"term": {"active": True}}]
        limited = ({**asked, "query": {"bool": {"must": [asked["query"]], "filter": of_tenant}}} for asked in requests)
        header = {"index": ALIAS, "allow_partial_search_results": False}
        body = b"".join(orjson.dumps(line) + b"\n" for line in chain.from_iterable((header, each) for each in limited))
        async with translate_errors():
            answers: list[dict[str, Any]] = (await self._client.msearch(body=body))["responses"]
            if any(answer["status"] in (404, 503) for answer in answers):
                # After a switch of generations the index that is being searched is deleted: the alias has the next one.
                answers = (await self._client.msearch(body=body))["responses"]
        for answer in answers:
            if "error" in answer:
                raise _error(answer)
        return answers


def _counting(filters: SearchFilters, **more: Any) -> dict[str, Any]:
    """A request without hits."""
    return {"query": {"bool": {"filter": conditions(filters)}}, "size": 0, "track_total_hits": False, **more}


def _error(answer: Mapping[str, Any]) -> Exception:
    reason = f"{answer['error']['type']}: {answer['error'].get('reason')}"
    match answer["status"]:
        case 400:
            return ValueError(f"OpenSearch refuses a search: {reason}")
        case 404:
            return IndexMissing("the listings are being indexed")
        case _:
            return SearchUnavailable(f"OpenSearch: {reason}")


def _total(found: Mapping[str, Any]) -> Total:
    total = found["hits"]["total"]
    return Total(total["value"], total["relation"] == "eq")


def _result(
    query: SearchQuery,
    found: Mapping[str, Any],
    total: Total | None = None,
    facets: Mapping[str, Any] | None = None,
) -> SearchResult:
    wanted = frozenset(singular(word.text) for word in words(query.q or ""))
    hits: list[dict[str, Any]] = found["hits"]["hits"]
    following = position_of(query, hits[query.limit - 1]["sort"]) if len(hits) > query.limit else None
    shown = [_hit(hit, query.near, wanted) for hit in hits[: query.limit]]
    return SearchResult(shown, following, total, facets or {})


def _hit(found: Mapping[str, Any], near: Point | None, wanted: frozenset[str]) -> Hit:
    """A hit; `wanted` are the singulars of the words to mark."""
    text: str = found["_source"]["card"]
    card = orjson.loads(text)
    marked = {
        name: html
        for name in SEARCHED
        if wanted and (html := highlighted(card[name] or "", wanted, _AROUND if name == "description" else None))
    }
    distance = None if near is None or card["latitude"] is None else round(_distance_km(near, card), 3)
    return Hit(text.encode(), UUID(card["id"]), distance, marked)


def _distance_km(near: Point, card: Mapping[str, Any]) -> float:
    """On the sphere (haversine)."""
    here, there = radians(near.latitude), radians(card["latitude"])
    across = radians(card["longitude"] - near.longitude)
    part = sin((there - here) / 2) ** 2 + cos(here) * cos(there) * sin(across / 2) ** 2
    return 2 * _EARTH_KM * asin(sqrt(part))


def _cluster(bucket: Mapping[str, Any]) -> Cluster:
    middle, price, [one] = bucket["middle"]["location"], bucket["price"], bucket["one"]["buckets"]
    return Cluster(
        tile=bucket["key"],
        count=bucket["doc_count"],
        latitude=middle["lat"],
        longitude=middle["lon"],
        min_price=round(price["min"]),
        max_price=round(price["max"]),
        property_id=UUID(one["key"]) if bucket["doc_count"] == 1 else None,
    )
