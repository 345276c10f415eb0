"""What search is compared with: a table without indexes that is asked by ILIKE, and the text engine tantivy."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

Listed = tuple[UUID, datetime, dict[str, Any]]
"""The id of a listing, when it was listed, and its fields as a client sends them."""

_PAGE = 20
"""Listings of a page."""
_COLUMNS = {
    "property_id": "uuid",
    "listed_at": "timestamptz",
    "body": "text",
    "location": "text",
    "property_type": "text",
    "listing_type": "text",
    "bedrooms": "int",
    "price": "bigint",
    "area": "bigint",
    "amenities": "text[]",
    "latitude": "float8",
    "longitude": "float8",
    "card": "text",
}


def text_of(facts: dict[str, Any]) -> str:
    """What is searched of a listing."""
    return " ".join(str(facts.get(name) or "") for name in ("title", "description", "location", "address"))


class PlainTable:
    """The listings in a table without an index."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def create(self) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        await self._connection.execute("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench")
        await self._connection.execute(f"CREATE TABLE bench.listings ({columns})")

    async def load(self, listed: Iterable[Listed]) -> None:
        rows = [
            (
                each,
                at,
                text_of(facts),
                facts["location"],
                facts["propertyType"],
                facts["listingType"],
                facts["bedrooms"],
                facts["price"],
                facts["areaSqft"],
                facts["amenities"],
                facts["latitude"],
                facts["longitude"],
                json.dumps(facts),
            )
            for each, at, facts in listed
        ]
        await self._connection.copy_records_to_table("listings", schema_name="bench", records=rows, columns=_COLUMNS)

    async def complete(self, typed: str) -> list[Any]:
        """The localities that begin with what is typed."""
        query = "SELECT DISTINCT location FROM bench.listings WHERE location ILIKE $1 || '%' LIMIT 10"
        found: list[Any] = await self._connection.fetch(query, typed)
        return found

    async def find(self, where: str, order: str) -> list[Any]:
        """The cards of the first page."""
        found: list[Any] = await self._connection.fetch(
            f"SELECT card FROM bench.listings WHERE {where} ORDER BY {order} LIMIT {_PAGE}"
        )
        return found

    async def megabytes(self, table: str) -> float:
        """The size of a table with its indexes, after what autovacuum does in time: statistics, and words indexed."""
        await self._connection.execute(f"VACUUM (ANALYZE) {table}")
        size: int = await self._connection.fetchval(f"SELECT pg_total_relation_size('{table}')")
        return size / 1e6


class Tantivy:
    """The texts of the listings in an index of tantivy. Raises ImportError where it is not installed."""

    def __init__(self, folder: Path) -> None:
        import tantivy  # a wheel that only this baseline needs

        schema = tantivy.SchemaBuilder().add_text_field("body").add_integer_field("number", stored=True).build()
        self._tantivy = tantivy
        self._schema = schema
        self._folder = folder
        self._index = tantivy.Index(schema, str(folder))
        self._writer = self._index.writer(num_threads=1)
        self._loaded = 0

    def load(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._writer.add_document(self._tantivy.Document(body=text, number=self._loaded))
            self._loaded += 1

    def finish(self) -> None:
        self._writer.commit()
        self._writer.wait_merging_threads()
        self._index.reload()

    def find(self, words: Sequence[str], *, every: bool = True) -> list[int]:
        """The first listings with all of the words, or any of them, by their place in the order of loading."""
        return self._found(self._index.parse_query(" ".join(words), ["body"], conjunction_by_default=every))

    def find_similar(self, word: str) -> list[int]:
        """The first listings with a word that differs from this one by two letters at most."""
        return self._found(self._tantivy.Query.fuzzy_term_query(self._schema, "body", word, distance=2))

    def _found(self, query: Any) -> list[int]:
        searcher = self._index.searcher()
        return [searcher.doc(address)["number"][0] for _, address in searcher.search(query, _PAGE).hits]

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.iterdir())
