"""The transactional outbox: deliveries are stored in the transaction of their event, then claimed and sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, column, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Write
from adapters.tables import deliveries
from domain.command import Command
from domain.notifications import Delivery

EMAIL = "email"
_CLAIMED_FOR = timedelta(seconds=30)
"""The lease on a claimed row; longer than sending a few mails concurrently takes (`MAIL_SECONDS`, adapters/mail.py)."""


@dataclass(frozen=True)
class PendingDelivery:
    """The key of a stored delivery that is not sent yet: its tenant, event and command."""

    tenant_id: str
    event_id: UUID
    command_id: UUID


@dataclass(frozen=True)
class Mail:
    """One claimed mail: the event that caused it, its recipient and its template."""

    event_id: UUID
    recipient_id: UUID
    template: str


@dataclass(frozen=True)
class Count:
    """Mails by status."""

    pending: int
    sent: int
    given_up: int


def delivery_row(command: Command, delivery: Delivery) -> Write:
    """The row of a pending delivery, to be inserted in the transaction of its event."""
    values = {
        "tenant_id": command.tenant_id,
        "event_id": delivery.event_id,
        "channel": EMAIL,
        "recipient_id": delivery.recipient_id,
        "command_id": command.command_id,
        "template": delivery.template,
        "about_id": delivery.about_id,
    }
    return Write(deliveries, values)


async def settle(
    connection: AsyncConnection, sent: Sequence[Mail], given_up: Mapping[Mail, str], postponed: Sequence[Mail]
) -> None:
    """Record the results of claimed mails; postponed ones are released, to be claimed again at once."""
    for statement, mails in ((_SENT, sent), (_GIVEN_UP, list(given_up)), (_POSTPONED, postponed)):
        if mails:
            events, recipients = [mail.event_id for mail in mails], [mail.recipient_id for mail in mails]
            reasons = [given_up.get(mail, "") for mail in mails]
            await connection.execute(statement, {"events": events, "recipients": recipients, "reasons": reasons})


async def count(connection: AsyncConnection, event_ids: Sequence[UUID]) -> Count:
    """Count the mails of the events by status."""
    [row] = await connection.execute(_COUNT, {"event_ids": list(event_ids)})
    return Count(*row)


@dataclass(frozen=True)
class Outcome:
    """The status of a command's deliveries."""

    count: int
    sent_at: datetime | None
    """When the last one was sent; None while any is pending."""
    given_up: bool
    """Whether any was given up."""


async def outcome_of(connection: AsyncConnection, command_id: UUID) -> Outcome:
    """The status of a command's deliveries."""
    newest, pending, given_up = (
        func.max(_D.sent_at),
        func.count().filter(_PENDING),
        func.bool_or(_D.given_up.is_not(None)),
    )
    query = select(func.count(), newest, pending, given_up).where(_D.command_id == command_id)
    count, sent_at, left, failed = (await connection.execute(query)).one()
    return Outcome(count, None if left else sent_at, bool(failed))


async def overdue(
    connection: AsyncConnection, now: datetime, after: timedelta, at_latest: timedelta, limit: int
) -> list[PendingDelivery]:
    """Pending deliveries of every tenant that no workflow is sending, oldest first.

    A mail that was never claimed is overdue `after` it was enqueued. One that was claimed is overdue when its workflow
    should have retried it: the backoff doubles, so the next interval is no longer than the time since the mail was
    enqueued. The limit is twice that time plus `after`, at most `at_latest`.
    """
    tried_for = _D.claimed_until - _D.enqueued_at
    pause = func.least(tried_for + tried_for + after, at_latest)
    lost = or_(and_(_D.claimed_until.is_(None), _D.enqueued_at < now - after), _D.claimed_until + pause < now)
    query = select(_D.tenant_id, _D.event_id, _D.command_id).where(_PENDING, lost)
    rows = await connection.execute(query.order_by(_D.enqueued_at, _D.event_id).limit(limit))
    return [PendingDelivery(row.tenant_id, row.event_id, row.command_id) for row in rows]


async def give_up(connection: AsyncConnection, enqueued_before: datetime, reason: str) -> int:
    """Mark deliveries of every tenant that are pending since before `enqueued_before` as given up; returns how many."""
    done = await connection.execute(
        update(deliveries).where(_PENDING, _D.enqueued_at < enqueued_before).values(given_up=reason)
    )
    return done.rowcount


_D = deliveries.c
_PENDING = and_(_D.sent_at.is_(None), _D.given_up.is_(None))
_OF_EVENTS = _D.event_id == any_(bindparam("event_ids", type_=ARRAY(Uuid)))
CLAIMED = (
    update(deliveries)
    .where(_OF_EVENTS, _PENDING, or_(_D.claimed_until.is_(None), _D.claimed_until <= func.now()))
    .values(claimed_until=func.now() + _CLAIMED_FOR)
    .returning(_D.event_id, _D.recipient_id, _D.about_id, _D.template)
    .cte("claimed")
)
"""Claims the deliveries of `event_ids` that are pending and not claimed, with a lease of 30 s."""
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
_POSTPONED = update(deliveries).where(_OF_SETTLED, _PENDING).values(claimed_until=func.now())
_COUNT = select(
    func.count().filter(_PENDING),
    func.count().filter(_D.sent_at.is_not(None)),
    func.count().filter(_D.given_up.is_not(None)),
).where(_OF_EVENTS)
