"""Counts: properties of an owner, favourites and views of a property, and the query that reads them.

`search.counted` has a row for each counted item, with the newest version applied; `search.counts` has the totals. One
statement writes both, adding the difference to the total, so a repeated or older event changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, Integer, Text, Uuid, any_, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import counted, counts, read_models
from domain.events import PROPERTY_EVENTS, Event, read_event
from projections.projection import Projection, parsed


class Kind(StrEnum):
    """What is counted, and of which subject."""

    PROPERTY = "property"
    """Properties of the user who owns them."""
    FAVORITE = "favorite"
    """Users who have favourited a property."""
    VIEW = "view"
    """Views of a property."""


@dataclass(frozen=True)
class Counted:
    """An item that counts, or no longer counts, for its subject."""

    tenant_id: str
    kind: Kind
    item_id: UUID
    subject_id: UUID | None
    """The same in every event of an item; None where the event does not contain it, such as a deletion."""
    version: int
    """Version of the item: the newest event wins; 0 for an observation."""
    counts: bool
    timestamp: datetime

    @property
    def key(self) -> tuple[str, str, int]:
        return self.tenant_id, self.kind, self.item_id.int


@dataclass(frozen=True)
class _Rule:
    """How an event type changes a count."""

    kind: Kind
    counts: bool
    subject_of: Callable[[Any], UUID | None] = lambda _: None
    """From the event's data."""

    def counted(self, event: Event) -> Counted:
        return Counted(
            tenant_id=event.tenant_id,
            kind=self.kind,
            # An observation changes no aggregate: the item is the event itself.
            item_id=event.aggregate_id if event.version else event.event_id,
            subject_id=self.subject_of(event.data),
            version=event.version,
            counts=self.counts,
            timestamp=event.timestamp,
        )


_RULES = {
    "PROPERTY_CREATED": _Rule(Kind.PROPERTY, counts=True, subject_of=lambda data: data.owner_id),
    "PROPERTY_DELETED": _Rule(Kind.PROPERTY, counts=False),
    "PROPERTY_FAVORITED": _Rule(Kind.FAVORITE, counts=True, subject_of=lambda data: data.property_id),
    "PROPERTY_UNFAVORITED": _Rule(Kind.FAVORITE, counts=False, subject_of=lambda data: data.property_id),
    "PROPERTY_VIEWED": _Rule(Kind.VIEW, counts=True, subject_of=lambda data: data.property_id),
}

_APPLY = text("""
    WITH changed AS (
        INSERT INTO search.counted AS known
            (tenant_id, generation, kind, item_id, subject_id, version, counts)
        SELECT tenant_id, :generation, kind, item_id, subject_id, version, counts
        FROM unnest(:tenant_ids, :kinds, :item_ids, :subject_ids, :versions, :counts)
            WITH ORDINALITY AS event (tenant_id, kind, item_id, subject_id, version, counts, n)
        ORDER BY n
        ON CONFLICT (tenant_id, kind, item_id, generation) DO UPDATE
            SET version = greatest(excluded.version, known.version),
                counts = CASE WHEN excluded.version > known.version THEN excluded.counts ELSE known.counts END,
                subject_id = coalesce(known.subject_id, excluded.subject_id)
            WHERE excluded.version > known.version
                OR known.subject_id IS NULL AND excluded.subject_id IS NOT NULL
        RETURNING new.tenant_id, new.kind, new.subject_id,
            CAST(new.counts AS integer)
            - CAST(old.counts IS TRUE AND old.subject_id IS NOT NULL AS integer) AS difference
    )
    INSERT INTO search.counts AS known (tenant_id, generation, kind, subject_id, total)
    SELECT tenant_id, :generation, kind, subject_id, sum(difference) FROM changed
    WHERE subject_id IS NOT NULL
    GROUP BY tenant_id, kind, subject_id HAVING sum(difference) <> 0
    ORDER BY tenant_id, kind, subject_id
    ON CONFLICT (tenant_id, kind, subject_id, generation) DO UPDATE SET total = known.total + excluded.total
""").bindparams(
    bindparam("generation", type_=Integer),
    bindparam("tenant_ids", type_=ARRAY(Text)),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("item_ids", type_=ARRAY(Uuid)),
    bindparam("subject_ids", type_=ARRAY(Uuid)),
    bindparam("versions", type_=ARRAY(BigInteger)),
    bindparam("counts", type_=ARRAY(Boolean)),
)


class Counts(Projection[Counted]):
    """The projection. It has no cache: counts are read together with the rows that they belong to."""

    name = "counts"
    topics = (PROPERTY_EVENTS,)
    tables = (counted, counts)

    def read(self, topic: str, value: bytes) -> Counted | None:
        """The counted item of an event; None for a type that is not counted. Raises UnreadableEvent with the reason."""
        message = parsed(value)
        rule = _RULES.get(str(message.get("eventType")))
        return rule.counted(read_event(message)) if rule else None

    def of_event(self, stored: dict[str, Any], event: Event) -> Counted | None:
        """The counted item of a stored event."""
        rule = _RULES.get(event.event_type)
        return rule.counted(event) if rule else None

    async def apply(self, tx: AsyncConnection, events: Sequence[Counted], generation: int) -> None:
        """Write the newest version of each item, and add the difference to the totals."""
        newest: dict[tuple[str, str, int], Counted] = {}
        for event in sorted(events, key=lambda event: (event.key, event.version)):
            # ON CONFLICT DO UPDATE may not affect a row twice in one statement.
            known = newest.get(event.key)
            newest[event.key] = replace(event, subject_id=event.subject_id or known.subject_id) if known else event
        rows = list(newest.values())
        if rows:
            columns = {
                "tenant_ids": [row.tenant_id for row in rows],
                "kinds": [row.kind.value for row in rows],
                "item_ids": [row.item_id for row in rows],
                "subject_ids": [row.subject_id for row in rows],
                "versions": [row.version for row in rows],
                "counts": [row.counts for row in rows],
            }
            await tx.execute(_APPLY, {"generation": generation, **columns})


_COUNTS_OF = select(counts.c.subject_id, counts.c.kind, counts.c.total).where(
    counts.c.kind == any_(bindparam("kinds", type_=ARRAY(Text))),
    counts.c.subject_id == any_(bindparam("subject_ids", type_=ARRAY(Uuid))),
    counts.c.generation == select(read_models.c.generation).where(read_models.c.name == Counts.name).scalar_subquery(),
)


async def counts_of(
    connection: AsyncConnection, subject_ids: Sequence[UUID], *kinds: Kind
) -> dict[UUID, tuple[int, ...]]:
    """The counts of each subject of the connection's tenant, in the order of `kinds`; 0 where there is none."""
    asked = {"kinds": [kind.value for kind in kinds], "subject_ids": list(subject_ids)}
    found = {(row.subject_id, row.kind): row.total for row in await connection.execute(_COUNTS_OF, asked)}
    return {subject: tuple(found.get((subject, kind.value), 0) for kind in kinds) for subject in subject_ids}
