"""The outbox: mails promised in the transaction of their event, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, column, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Row
from adapters.tables import deliveries

EMAIL = "email"
_CLAIMED_FOR = timedelta(seconds=30)
"""Longer than handing over a few mails side by side can take (`MAIL_SECONDS` in adapters/mail.py)."""


@dataclass(frozen=True)
class Mail:
    """One promised mail: about which event, to whom, by which template."""

    event_id: UUID
    recipient_id: UUID
    template: str


@dataclass(frozen=True)
class Count:
    """What became of some mails."""

    waiting: int
    sent: int
    given_up: int


def promise(tenant_id: str, event_id: UUID, command_id: UUID, template: str, recipient_id: UUID, about_id: UUID) -> Row:
    """The row that promises a mail; it is stored in the transaction of its event."""
    return deliveries, {
        "tenant_id": tenant_id,
        "event_id": event_id,
        "channel": EMAIL,
        "recipient_id": recipient_id,
        "command_id": command_id,
        "template": template,
        "about_id": about_id,
    }


async def promise_late(connection: AsyncConnection, row: Row) -> None:
    """Promise what may have been promised, or done, before."""
    await connection.execute(insert(deliveries).on_conflict_do_nothing(), row[1])


async def settle(
    connection: AsyncConnection, sent: Sequence[Mail], given_up: Mapping[Mail, str], put_off: Sequence[Mail]
) -> None:
    """Record what became of claimed mails; those that were put off may be claimed again at once."""
    for statement, mails in ((_SENT, sent), (_GIVEN_UP, list(given_up)), (_PUT_OFF, put_off)):
        if mails:
            events, recipients = [mail.event_id for mail in mails], [mail.recipient_id for mail in mails]
            reasons = [given_up.get(mail, "") for mail in mails]
            await connection.execute(statement, {"events": events, "recipients": recipients, "reasons": reasons})


async def count(connection: AsyncConnection, event_ids: Sequence[UUID]) -> Count:
    """What became of the mails about the events."""
    [row] = await connection.execute(_COUNT, {"event_ids": list(event_ids)})
    return Count(*row)


async def told_of(connection: AsyncConnection, command_id: UUID) -> tuple[datetime | None, bool]:
    """When the last person was told of a command, and whether telling somebody was given up."""
    query = select(func.max(_D.sent_at), func.bool_or(_D.given_up.is_not(None))).where(_D.command_id == command_id)
    sent_at, given_up = (await connection.execute(query)).one()
    return sent_at, bool(given_up)


async def overdue(
    connection: AsyncConnection, now: datetime, after: timedelta, at_latest: timedelta, limit: int
) -> list[tuple[str, UUID, UUID]]:
    """Tenant, event and command of waiting mails of every tenant that nobody drives on any more, oldest first.

    A mail that was never claimed is overdue `after` its promise. One that was claimed is overdue when its workflow
    should have tried again: the pauses between attempts double, so the next one is no longer than all the time before.
    It is given twice that time and `after`, but no longer than `at_latest`.
    """
    tried_for = _D.claimed_until - _D.promised_at
    pause = func.least(tried_for + tried_for + after, at_latest)
    lost = or_(and_(_D.claimed_until.is_(None), _D.promised_at < now - after), _D.claimed_until + pause < now)
    query = select(_D.tenant_id, _D.event_id, _D.command_id).where(_WAITING, lost)
    rows = await connection.execute(query.order_by(_D.promised_at, _D.event_id).limit(limit))
    return [(row.tenant_id, row.event_id, row.command_id) for row in rows]


async def give_up(connection: AsyncConnection, promised_before: datetime, reason: str) -> int:
    """Give up the mails of every tenant that have waited since before then; returns how many."""
    done = await connection.execute(
        update(deliveries).where(_WAITING, _D.promised_at < promised_before).values(given_up=reason)
    )
    return done.rowcount


_D = deliveries.c
_WAITING = and_(_D.sent_at.is_(None), _D.given_up.is_(None))
_OF_EVENTS = _D.event_id == any_(bindparam("event_ids", type_=ARRAY(Uuid)))
CLAIMED = (
    update(deliveries)
    .where(_OF_EVENTS, _WAITING, or_(_D.claimed_until.is_(None), _D.claimed_until <= func.now()))
    .values(claimed_until=func.now() + _CLAIMED_FOR)
    .returning(_D.event_id, _D.recipient_id, _D.about_id, _D.template)
    .cte("claimed")
)
"""Those mails about `event_ids` that wait and nobody else is sending; they are the caller's for half a minute."""
_SETTLED = (
    func.unnest(
        bindparam("events", type_=ARRAY(Uuid)),
        bindparam("recipients", type_=ARRAY(Uuid)),
        bindparam("reasons", type_=ARRAY(Text)),
    )
    .table_valued(column("event", Uuid), column("recipient", Uuid), column("reason", Text), name="settled")
    .render_derived()
)
_OF_SETTLED = and_(_D.event_id == _SETTLED.c.event, _D.channel == EMAIL, _D.recipient_id == _SETTLED.c.recipient)
_SENT = update(deliveries).where(_OF_SETTLED).values(sent_at=func.now())
_GIVEN_UP = update(deliveries).where(_OF_SETTLED).values(given_up=_SETTLED.c.reason)
_PUT_OFF = update(deliveries).where(_OF_SETTLED, _WAITING).values(claimed_until=func.now())
_COUNT = select(
    func.count().filter(_WAITING),
    func.count().filter(_D.sent_at.is_not(None)),
    func.count().filter(_D.given_up.is_not(None)),
).where(_OF_EVENTS)
