"""Search: the active listings with all that a search or a card needs, and the vocabulary of their words.

`search.property_search` has a row for each listing, with the newest version applied; a listing that is not active keeps
its version only, so that an older event does not bring it back. `search.vocabulary` has the number of active listings
with each word. One transaction writes both, adding the difference to the numbers, so a repeated or older event changes
nothing. Engines read them by the views of `adapters/tables`; OpenSearch has a copy of the listings, written before
the transaction commits: when one of them fails, the event is repeated for both.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    String,
    Text,
    Uuid,
    bindparam,
    func,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.postgres import Database
from adapters.search.opensearch_index import OpenSearchIndex
from adapters.search.rows import LATE_AFTER, IndexedListing, indexed, row_of
from adapters.tables import property_search, read_models, vocabulary
from domain.events import PROPERTY_EVENTS, WHOLE_PROPERTY, Event, read_event
from projections.generations import mark_unstored
from projections.projection import Projection, parsed

_TYPES = {*WHOLE_PROPERTY, "PROPERTY_DELETED"}
_SEPARATOR = "\x1f"
"""Between the amenities of a row, whose text has no control characters: an array of arrays must be rectangular."""
_KEY = ("tenant_id", "property_id")
_EARLIEST = ("created_at", "listed_at")
_AS_TEXT = {"amenities": "string_to_array({}, E'\\x1f')", "words": "CAST({} AS tsvector)"}
_OF_POSTGRES = {"generation", "applied_at"}
_COLUMNS = [
    column.name for column in property_search.columns if column.computed is None and column.name not in _OF_POSTGRES
]
_NEWEST = ["applied_at", *(name for name in _COLUMNS if name not in {*_KEY, *_EARLIEST, "version", "changed_at"})]


def _array_of(name: str) -> ARRAY[Any]:
    if name in _AS_TEXT:
        return ARRAY(Text)
    kind = property_search.c[name].type
    of_kind = (DateTime, Uuid, BigInteger, Integer, Boolean, Double, LargeBinary)
    return ARRAY(kind if isinstance(kind, of_kind) else Text if isinstance(kind, Text) else String)


def _selected(name: str) -> str:
    """A column of an event in the statement below, as its type."""
    event = _AS_TEXT.get(name, "{}").format(f"event.{name}")
    return f"coalesce(serving.{name}, {event})" if name == "changed_at" else event


# A rebuild keeps the times of what the serving generation has applied already: saved searches have looked at it. The
# time of a change that was late is kept for a month beside later ones: a weekly round may have seen none of them yet.
_APPLY = text(f"""
    WITH changed AS (
        INSERT INTO search.property_search AS known (generation, applied_at, {", ".join(_COLUMNS)})
        SELECT :generation, coalesce(serving.applied_at, clock_timestamp()), {", ".join(map(_selected, _COLUMNS))}
        FROM unnest({", ".join(f":{name}" for name in _COLUMNS)})
            WITH ORDINALITY AS event ({", ".join(_COLUMNS)}, n)
        LEFT JOIN LATERAL (
            SELECT applied_at, changed_at FROM search.property_search
            WHERE tenant_id = event.tenant_id AND property_id = event.property_id AND version >= event.version
                AND generation = (
                    SELECT generation FROM user_history.read_models WHERE name = 'search' AND generation <> :generation
                )
            LIMIT 1
        ) AS serving ON true
        ORDER BY n
        ON CONFLICT (tenant_id, property_id, generation) DO UPDATE SET
            version = greatest(known.version, excluded.version),
            created_at = least(known.created_at, excluded.created_at),
            listed_at = least(known.listed_at, excluded.listed_at),
            changed_at = CASE
                WHEN excluded.version <= known.version THEN known.changed_at
                WHEN known.changed_at < known.applied_at - interval '{LATE_AFTER.total_seconds()} seconds'
                    AND known.changed_at > excluded.applied_at - interval '30 days'
                    THEN least(known.changed_at, excluded.changed_at)
                ELSE excluded.changed_at
            END,
            {
    ", ".join(
        f"{name} = CASE WHEN excluded.version > known.version THEN excluded.{name} ELSE known.{name} END"
        for name in _NEWEST
    )
}
        WHERE excluded.version > known.version OR excluded.created_at < known.created_at
            OR excluded.listed_at < coalesce(known.listed_at, 'infinity')
        RETURNING new.tenant_id, old.words AS words_before, new.words AS words_after
    ), differences AS (
        SELECT tenant_id, word, sum(listings) AS listings FROM (
            SELECT tenant_id, unnest(tsvector_to_array(words_after)) AS word, 1 AS listings FROM changed
            UNION ALL
            SELECT tenant_id, unnest(tsvector_to_array(words_before)), -1 FROM changed
        ) AS each_word
        GROUP BY tenant_id, word HAVING sum(listings) <> 0
    )
    SELECT array_agg(tenant_id ORDER BY tenant_id, word COLLATE "C") AS tenant_ids,
        array_agg(word ORDER BY tenant_id, word COLLATE "C") AS words,
        array_agg(CAST(listings AS bigint) ORDER BY tenant_id, word COLLATE "C") AS differences
    FROM differences
""").bindparams(bindparam("generation", type_=Integer), *(bindparam(name, type_=_array_of(name)) for name in _COLUMNS))
_COUNT = text("""
    WITH counted AS (
        INSERT INTO search.vocabulary AS known (tenant_id, generation, word, listings)
        SELECT tenant_id, :generation, word, difference
        FROM unnest(:tenant_ids, :words, :differences) WITH ORDINALITY AS changed (tenant_id, word, difference, n)
        ORDER BY n
        ON CONFLICT (tenant_id, word, generation) DO UPDATE SET listings = known.listings + excluded.listings
        RETURNING tenant_id, word, listings
    )
    SELECT tenant_id, word FROM counted WHERE listings = 0
""").bindparams(
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(String)),
    bindparam("words", type_=ARRAY(Text)),
    bindparam("differences", type_=ARRAY(BigInteger)),
)
_FORGET = text("""
    DELETE FROM search.vocabulary AS known USING unnest(:tenant_ids, :words) AS gone (tenant_id, word)
    WHERE known.tenant_id = gone.tenant_id AND known.word = gone.word AND known.generation = :generation
        AND known.listings = 0
""").bindparams(
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(String)),
    bindparam("words", type_=ARRAY(Text)),
)

_WRITTEN = (
    func.unnest(bindparam("tenant_id", type_=ARRAY(String)), bindparam("property_id", type_=ARRAY(Uuid)))
    .table_valued("tenant_id", "property_id")
    .render_derived("written")
)
_ROWS = (
    select(*(column for column in property_search.columns if column.name not in ("words", "geo")))
    .join(_WRITTEN, tuple_(*(property_search.c[name] for name in _KEY)) == tuple_(*(_WRITTEN.c[name] for name in _KEY)))
    .where(property_search.c.generation == bindparam("generation"))
)


_SERVING = select(read_models.c.generation).where(read_models.c.name == "search").scalar_subquery()
_VERSION = select(property_search.c.version).where(
    property_search.c.property_id == bindparam("property_id"), property_search.c.generation == _SERVING
)
_POLL_SECONDS = 0.02


class Search(Projection[IndexedListing]):
    """The projection."""

    name = "search"
    topics = (PROPERTY_EVENTS,)
    tables = (property_search, vocabulary)

    def __init__(self, index: OpenSearchIndex | None = None) -> None:
        self.store = index
        self._index = index

    def read(self, topic: str, value: bytes) -> IndexedListing | None:
        """The listing in an event; None for events that change none. Raises UnreadableEvent with the reason."""
        message = parsed(value)
        return indexed(read_event(message)) if message.get("eventType") in _TYPES else None

    def of_event(self, stored: dict[str, Any], event: Event) -> IndexedListing | None:
        """The listing in a stored event."""
        return indexed(event) if event.event_type in _TYPES else None

    async def apply(self, tx: AsyncConnection, events: Sequence[IndexedListing], generation: int) -> None:
        """Write the newest version of each listing, then the index, then the difference to the vocabulary.

        What is written to the index is what Postgres then has, which keeps the rows locked until `tx` ends. The words
        are last: nearly every batch has the most frequent ones, and would wait while another writes to the index.
        Without `SEARCH_URL` it is recorded that an index, which an earlier process may have left, has not this
        generation.
        """
        listings = newest_of_each(events)
        if not listings:
            return
        rows = [row_of(listing) for listing in listings]
        for row in rows:
            row["amenities"] = None if row["amenities"] is None else _SEPARATOR.join(row["amenities"])
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}
        changed = (await tx.execute(_APPLY, {"generation": generation, **columns})).one()
        if self._index is None:
            await mark_unstored(tx, self.name, generation)
        else:
            keys = {name: [row[name] for row in rows] for name in _KEY}
            known = (await tx.execute(_ROWS, {"generation": generation, **keys})).mappings()
            await self._index.write(generation, [dict(row) for row in known])
        if changed.words is None:
            return
        unused = (await tx.execute(_COUNT, {"generation": generation, **changed._mapping})).all()
        if unused:
            # A word that no listing has may be a person's name, and corrects no other word.
            gone = {"tenant_ids": [row.tenant_id for row in unused], "words": [row.word for row in unused]}
            await tx.execute(_FORGET, {"generation": generation, **gone})


async def version_of(database: Database, tenant_id: str, event_id: UUID) -> tuple[UUID, int] | None:
    """The listing, and its version, that an event of the tenant wrote; None if it wrote none that is searched."""
    async with database.statements(tenant_id) as connection:
        message = await event_store.by_id(connection, event_id)
    if message is None or message["eventType"] not in _TYPES:
        return None
    return UUID(message["aggregateId"]), message["version"]


async def is_searchable(
    database: Database, tenant_id: str, property_id: UUID, version: int, wait_seconds: float
) -> bool:
    """Whether the read model has this version of a listing, or a later one; waits for it up to `wait_seconds`."""
    deadline = time.monotonic() + wait_seconds
    while True:
        async with database.statements(tenant_id) as connection:
            known = (await connection.execute(_VERSION, {"property_id": property_id})).scalar_one_or_none()
        if known is not None and known >= version:
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)


def newest_of_each(events: Sequence[IndexedListing]) -> list[IndexedListing]:
    """The newest version of each listing, with the earliest times of all of them, in the order of their keys."""
    newest: dict[tuple[str, int], IndexedListing] = {}
    for event in sorted(events, key=lambda event: (event.key, event.version)):
        older = newest.get(event.key)
        newest[event.key] = _merged(event, older) if older else event
    return list(newest.values())


def _merged(event: IndexedListing, older: IndexedListing) -> IndexedListing:
    listed: list[datetime] = [time for time in (event.listed_at, older.listed_at) if time]
    return replace(
        event,
        created_at=min(event.created_at, older.created_at),
        listed_at=min(listed) if listed else None,
        changed_at=min(event.changed_at, older.changed_at),
    )
