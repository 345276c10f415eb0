"""The listings in OpenSearch: an index for each generation of the projection `search`, and the alias that readers use.

A listing that is not active is kept as a tombstone, a document with its tenant only. A deleted document would forget
its version after a minute (`index.gc_deletes`), and an older write that comes later would bring the listing back.
"""

import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
from opensearchpy import AsyncOpenSearch
from opensearchpy.exceptions import ConnectionError, NotFoundError, TransportError

from adapters.search.engine import IndexMissing, ListingRejected, SearchUnavailable
from adapters.search.opensearch_queries import microseconds
from adapters.search.rows import SEARCHED
from domain.words import singular, words

# It logs every request; what fails is logged by who asks.
logging.getLogger("opensearch").setLevel(logging.ERROR)

ALIAS = "listings"
"""Of the index that serves."""
_INDEX = re.compile(rf"{ALIAS}-\d+")
_TIMEOUT_SECONDS = 5.0
"""Of a search: slower than this, it is no answer for a person who waits."""
_WRITE_SECONDS = 30.0
"""Of a write, for which nobody waits: a batch of 1,000 listings takes 0.3 s, more while segments are merged."""
_BODY_BYTES = 1_000_000
"""Of a write: some 300 listings. aiohttp sends a body in one go, which holds up the process, and warns of larger."""
_PATIENT: dict[str, Any] = {"request_timeout": _WRITE_SECONDS}
_OUTCOMES = {"filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason"}
_REFRESH = "500ms"
"""How soon a written listing is found. Each refresh makes a segment, which are merged later."""
_KEYWORD, _LONG, _INTEGER = {"type": "keyword"}, {"type": "long"}, {"type": "integer"}
# Words are compared in domain/words.py, for every engine alike. Neither their number nor the length of a text counts.
_WORDS = {"type": "text", "analyzer": "whitespace", "norms": False, "index_options": "docs"}
_MAPPING: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "id": _KEYWORD,
        "tenant": _KEYWORD,
        "active": {"type": "boolean"},
        # Microseconds since 1970, so that they sort as exactly as in Postgres.
        "listed_at": _LONG,
        "changed_at": _LONG,
        "applied_at": _LONG,
        "property_type": _KEYWORD,
        "listing_type": _KEYWORD,
        "furnished_status": _KEYWORD,
        "facing": _KEYWORD,
        "posted_by": _KEYWORD,
        "locality": _KEYWORD,
        "pincode": _KEYWORD,
        "amenities": _KEYWORD,
        "has_rera": {"type": "boolean"},
        "price": _LONG,
        "price_per_sqft": {"type": "double"},
        "area_sqft": _LONG,
        "bedrooms": _INTEGER,
        "bathrooms": _INTEGER,
        "floor_number": _INTEGER,
        "age_of_property": _INTEGER,
        "geo": {"type": "geo_point"},
        "words": {"properties": dict.fromkeys(("any", *SEARCHED), _WORDS)},
    },
}
_TIMES = ("listed_at", "changed_at", "applied_at")
_SAME = _MAPPING["properties"].keys() - {"id", "tenant", "active", "geo", "words", *_TIMES}
"""The fields that have a column of `search.property_search` as it is."""


def connect(url: str) -> AsyncOpenSearch:
    """A client whose requests answer or fail within _TIMEOUT_SECONDS; the URL may contain a user name and password."""
    # One retry, for a pooled connection that the server has closed.
    return AsyncOpenSearch(hosts=[url], timeout=_TIMEOUT_SECONDS, max_retries=1, retry_on_timeout=False)


@asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    """Turn the client's errors into SearchUnavailable; a request that OpenSearch finds invalid is a server error."""
    try:
        yield
    except ConnectionError as error:
        raise SearchUnavailable(f"OpenSearch: {type(error).__name__}: {error.error}") from error
    except NotFoundError as error:
        raise IndexMissing("the listings are being indexed") from error
    except TransportError as error:
        if error.status_code == 400:
            raise
        raise SearchUnavailable(f"OpenSearch: {error.status_code} {error.error}") from error


class OpenSearchIndex:
    """Writes generations of the listings. Each method raises SearchUnavailable."""

    def __init__(self, client: AsyncOpenSearch) -> None:
        self._client = client

    async def close(self) -> None:
        await self._client.close()

    async def has(self, generation: int) -> bool:
        """Whether the generation is there."""
        return _name(generation) in await self._generations()

    async def serves(self, generation: int) -> bool:
        """Whether readers have the generation."""
        return (await self._generations()).get(_name(generation), False)

    async def delete(self, generation: int) -> None:
        """Delete the generation, if it is there."""
        async with translate_errors():
            await self._client.indices.delete(index=_name(generation), params=_PATIENT | {"ignore_unavailable": "true"})

    async def create(self, generation: int) -> None:
        """Make an empty generation, which nobody reads until it serves."""
        # Replicas where there are nodes for them. Nobody searches it while it is filled, so nothing is refreshed.
        settings = {"index": {"auto_expand_replicas": "0-1", "refresh_interval": "-1"}}
        # Its number may have been used before the database was restored from a dump.
        await self.delete(generation)
        async with translate_errors():
            body = {"settings": settings, "mappings": _MAPPING, "aliases": {_writing(generation): {}}}
            await self._client.indices.create(index=_name(generation), body=body, params=_PATIENT)

    async def serve(self, generation: int) -> None:
        """Let readers have the generation, and delete all others."""
        known, name = await self._generations(), _name(generation)
        if known == {name: True}:
            return
        async with translate_errors():
            refreshed = {"index": {"refresh_interval": _REFRESH}}
            await self._client.indices.put_settings(index=name, body=refreshed, params=_PATIENT)
            await self._client.indices.refresh(index=name, params=_PATIENT)
            others = [other for other in known if other != name]
            # One change of the cluster's state: no reader finds none or two of them.
            removed = [{"remove": {"index": other, "alias": ALIAS}} for other in others if known[other]]
            actions = [{"add": {"index": name, "alias": ALIAS}}, *removed]
            await self._client.indices.update_aliases(body={"actions": actions}, params=_PATIENT)
            # In another change: nodes close the shards of a deleted index before they see where the alias is then.
            if others:
                await self._client.indices.delete(index=",".join(others), params=_PATIENT)

    async def write(self, generation: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows of `search.property_search`; one of an older version than is known changes nothing.

        Raises IndexMissing, and ListingRejected with the reason.
        """
        for body in _bodies(_lines(_writing(generation), row) for row in rows):
            async with translate_errors():
                answer = await self._client.bulk(body=body, params=_PATIENT | _OUTCOMES | {"require_alias": "true"})
            if answer["errors"]:
                _raise_first_error([item["index"] for item in answer["items"]])

    async def _generations(self) -> dict[str, bool]:
        """The indexes of generations, and whether each of them serves."""
        async with translate_errors():
            found = await self._client.indices.get_alias(
                index=f"{ALIAS}-*", params=_PATIENT | {"ignore_unavailable": "true"}
            )
        return {name: ALIAS in index["aliases"] for name, index in found.items() if _INDEX.fullmatch(name)}


def document_id(tenant_id: str, property_id: UUID) -> str:
    """The id of a listing in each index."""
    return f"{tenant_id}:{property_id}"


def _name(generation: int) -> str:
    return f"{ALIAS}-{generation}"


def _writing(generation: int) -> str:
    """The alias that is written to. A write to an index that is missing would create one, without our mapping."""
    return f"{ALIAS}-writing-{generation}"


def _bodies(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of bulk requests in bodies of _BODY_BYTES at most."""
    body: list[bytes] = []
    size = 0
    for line in lines:
        if body and size + len(line) > _BODY_BYTES:
            yield b"".join(body)
            body, size = [], 0
        body.append(line)
        size += len(line)
    if body:
        yield b"".join(body)


def _raise_first_error(items: Sequence[Mapping[str, Any]]) -> None:
    for item in items:
        status = item["status"]
        if status < 300 or status == 409:
            continue  # 409: a newer version is there
        reason = f"{item['error']['type']}: {item['error']['reason']}"
        if status == 404:
            raise IndexMissing(reason)
        if status == 400:
            raise ListingRejected(f"rejected by OpenSearch: {reason}")
        raise SearchUnavailable(f"OpenSearch: {status} {reason}")


def _lines(index: str, row: Mapping[str, Any]) -> bytes:
    """The two lines of a bulk request that write a row."""
    # `_gte`, because an older event that comes late may correct the times of a version that is known.
    key = {"_index": index, "_id": document_id(row["tenant_id"], row["property_id"])}
    version = {"version": row["version"], "version_type": "external_gte"}
    return orjson.dumps({"index": key | version}) + b"\n" + orjson.dumps(_document(row)) + b"\n"


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    known = {"id": str(row["property_id"]), "tenant": row["tenant_id"], "active": row["status"] == "ACTIVE"}
    if not known["active"]:
        return known
    card = orjson.loads(row["card"])
    texts = {name: [singular(word.text) for word in words(card[name] or "")] for name in SEARCHED}
    texts["any"] = list(dict.fromkeys(word for found in texts.values() for word in found))
    times = orjson.dumps({"createdAt": row["created_at"], "listedAt": row["listed_at"]}, option=orjson.OPT_UTC_Z)
    return known | {
        **{name: None if row[name] is None else microseconds(row[name]) for name in _TIMES},
        **{name: row[name] for name in _SAME},
        "geo": None if row["latitude"] is None else {"lat": row["latitude"], "lon": row["longitude"]},
        "words": {name: " ".join(found) for name, found in texts.items()},
        "card": (row["card"][:-1] + b"," + times[1:]).decode(),
    }
