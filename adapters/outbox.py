"""The transactional outbox: notices are stored with their event, expanded to deliveries, and these claimed and sent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Double,
    Row,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Write
from adapters.tables import deliveries, notices
from domain.notifications import Notice
from domain.preferences import Channel

_CLAIMED_FOR = timedelta(seconds=30)
"""The lease on a claimed row; longer than a provider's answer may take (`MAIL_SECONDS`, adapters/mail.py)."""
_MOST_PENDING = 500
"""Deliveries that one `notify` workflow takes up, of all its events together; reconcile starts the others later."""
_TRIED_BY_OTHERS = timedelta(minutes=1)
"""A delivery that was tried within this time has a workflow; the least pause after which one is overdue."""


@dataclass(frozen=True)
class PendingEvent:
    """An event with pending notices or deliveries: its tenant, id and command."""

    tenant_id: str
    event_id: UUID
    command_id: UUID


@dataclass(frozen=True)
class Target:
    """One delivery of a channel: the event that caused it, and its recipient."""

    event_id: UUID
    recipient_id: UUID


@dataclass(frozen=True)
class Settled:
    """What became of an attempt to send a delivery."""

    outcome: str
    """One of SENT, POSTPONED, GIVEN_UP, BAD_ADDRESS."""
    reason: str = ""
    provider_id: str | None = None
    pause: float = 0
    """Seconds for which a postponed delivery is not tried."""


SENT, POSTPONED, GIVEN_UP, BAD_ADDRESS = "sent", "postponed", "given_up", "bad_address"


def notice_row(tenant_id: str, command_id: UUID, notice: Notice) -> Write:
    """The row of a notice, to be inserted in the transaction of its event."""
    return Write(notices, _notice_values(tenant_id, command_id, notice))


async def store_notices(connection: AsyncConnection, tenant_id: str, command_id: UUID, of: Sequence[Notice]) -> None:
    """Insert notices of observations; those that are stored already are skipped."""
    rows = [_notice_values(tenant_id, command_id, notice) for notice in of]
    if rows:
        await connection.execute(insert(notices).on_conflict_do_nothing(), rows)


def _notice_values(tenant_id: str, command_id: UUID, notice: Notice) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "event_id": notice.event_id,
        "kind": notice.kind.value,
        "audience": notice.audience.value,
        "audience_id": notice.audience_id,
        "command_id": command_id,
    }


async def store_deliveries(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert deliveries; those that are stored already are skipped."""
    if rows:
        # In one order, so that two transactions with common rows cannot deadlock.
        ordered = sorted(rows, key=lambda row: (row["event_id"], row["channel"], row["recipient_id"]))
        await connection.execute(insert(deliveries).on_conflict_do_nothing(), ordered)


async def pending_of(connection: AsyncConnection, event_ids: Sequence[UUID]) -> dict[Channel, list[Target]]:
    """The pending deliveries of events, the oldest of each.

    Without held ones, those that another workflow has tried in the last minute, and those that a `notify-favorites`
    workflow sends.
    """
    most = max(_MOST_PENDING // max(len(event_ids), 1), 1)
    wanted = {"event_ids": list(event_ids), "most": most, "tried_by_others": _TRIED_BY_OTHERS.total_seconds()}
    return _by_channel(await connection.execute(_PENDING_OF, wanted))


async def pending_among(connection: AsyncConnection, targets: Sequence[Target]) -> dict[Channel, list[Target]]:
    """Those of some deliveries, of any channel, that are pending and not held."""
    return _by_channel(await connection.execute(_PENDING_AMONG, _keys(targets)))


def _by_channel(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[Channel, list[Target]]:
    found: dict[Channel, list[Target]] = {}
    for row in rows:
        found.setdefault(Channel(row.channel), []).append(Target(row.event_id, row.recipient_id))
    return found


def _keys(targets: Sequence[Target]) -> dict[str, list[UUID]]:
    return {"events": [one.event_id for one in targets], "recipients": [one.recipient_id for one in targets]}


async def claim(
    connection: AsyncConnection, channel: Channel, targets: Sequence[Target]
) -> dict[Target, Mapping[str, Any]]:
    """Claim deliveries that are pending, not held and not claimed, with a lease of 30 s.

    Returns what is needed to send each: its row, its event, and its recipient, listing and saved search, None in every
    column when they are deleted. `tried` is whether an earlier attempt may have been accepted by the provider.
    """
    wanted = _keys(targets)
    rows = await connection.execute(
        _CLAIM, {"channel": channel.value, "seconds": _CLAIMED_FOR.total_seconds(), **wanted}
    )
    return {Target(row["event_id"], row["recipient_id"]): dict(row) for row in rows.mappings()}


async def claim_held(
    connection: AsyncConnection, channel: Channel, user_id: UUID, until: datetime
) -> dict[Target, Mapping[str, Any]]:
    """Claim a user's deliveries that are held until `until` or shorter, newest event first; as `claim` otherwise."""
    wanted = {"channel": channel.value, "seconds": _CLAIMED_FOR.total_seconds(), "user_id": user_id, "until": until}
    rows = await connection.execute(_CLAIM_HELD, wanted)
    return {Target(row["event_id"], row["recipient_id"]): dict(row) for row in rows.mappings()}


async def settle(
    connection: AsyncConnection, channel: Channel, provider: str, results: Mapping[Target, Settled]
) -> None:
    """Record the results of claimed deliveries. What a provider has accepted is sent, whatever was recorded before."""
    if results:
        done = results.values()
        await connection.execute(
            _SETTLE,
            {
                "channel": channel.value,
                "provider": provider,
                "events": [target.event_id for target in results],
                "recipients": [target.recipient_id for target in results],
                "outcomes": [one.outcome for one in done],
                "reasons": [one.reason for one in done],
                "provider_ids": [one.provider_id for one in done],
                "pauses": [one.pause for one in done],
            },
        )


@dataclass(frozen=True)
class Count:
    """Deliveries by status."""

    pending: int
    sent: int
    given_up: int


async def count(connection: AsyncConnection, channel: Channel, targets: Sequence[Target]) -> Count:
    """Count deliveries by status; held ones are not pending."""
    wanted = _keys(targets)
    [row] = await connection.execute(_COUNT, {"channel": channel.value, **wanted})
    return Count(*row)


@dataclass(frozen=True)
class Outcome:
    """The deliveries of a command with one channel and outcome."""

    channel: str
    outcome: str
    """`sent`, `pending`, `held`, `given_up`, `bad_address`, or what the provider has reported."""
    count: int
    last_sent_at: datetime | None
    reason: str | None
    """Why one of them is given up."""


async def outcomes_of(connection: AsyncConnection, command_id: UUID) -> tuple[bool, list[Outcome]]:
    """Whether any notice of a command is not expanded yet, and its deliveries by channel and outcome."""
    query = select(func.count()).where(notices.c.command_id == command_id, notices.c.expanded_at.is_(None))
    waiting = bool((await connection.execute(query)).scalar_one())
    outcome = case(
        (_D.given_up.is_not(None), case((_D.outcome == BAD_ADDRESS, BAD_ADDRESS), else_=GIVEN_UP)),
        (_D.sent_at.is_not(None), func.coalesce(_D.reported, SENT)),
        (_D.held_until.is_not(None), "held"),
        else_="pending",
    )
    grouped = (
        select(_D.channel, outcome, func.count(), func.max(_D.sent_at), func.min(_D.given_up))
        .where(_D.command_id == command_id)
        .group_by(_D.channel, outcome)
        .order_by(_D.channel, outcome)
    )
    return waiting, [Outcome(*row) for row in await connection.execute(grouped)]


async def overdue(
    connection: AsyncConnection, now: datetime, after: timedelta, at_latest: timedelta, limit: int
) -> list[PendingEvent]:
    """Events of every tenant with notices or deliveries that no workflow takes care of, oldest first.

    Notices, and deliveries that were never claimed, are overdue `after` they were enqueued. A delivery that was
    claimed is overdue when its workflow should have retried it: the backoff doubles, so the next interval is no longer
    than the time since it was enqueued. The limit is twice that time plus `after`, at most `at_latest`.
    """
    tried_for = _D.claimed_until - _D.enqueued_at
    pause = func.least(tried_for + tried_for + after, at_latest)
    lost = or_(and_(_D.claimed_until.is_(None), _D.enqueued_at < now - after), _D.claimed_until + pause < now)
    parts = (
        _by_event(_N).where(_N.expanded_at.is_(None), _N.enqueued_at < now - after),
        _by_event(_D).where(_PENDING, _D.held_until.is_(None), lost),
    )
    found = union_all(*(part.limit(limit).subquery().select() for part in parts)).subquery("overdue")
    query = (
        select(found.c.tenant_id, found.c.event_id, func.min(found.c.command_id).cast(Uuid))
        .group_by(found.c.tenant_id, found.c.event_id)
        .order_by(func.min(found.c.enqueued_at), found.c.event_id)
        .limit(limit)
    )
    return [PendingEvent(*row) for row in await connection.execute(query)]


def _by_event(c: Any) -> Select[*tuple[Any, ...]]:
    """One row for each event, the oldest first: an event may have thousands of deliveries."""
    oldest = func.min(c.enqueued_at)
    command_id = func.min(c.command_id.cast(Text)).label("command_id")
    query = select(c.tenant_id, c.event_id, command_id, oldest.label("enqueued_at"))
    return query.group_by(c.tenant_id, c.event_id).order_by(oldest, c.event_id)


@dataclass(frozen=True)
class Held:
    """A user whose deliveries are held until the end of quiet hours."""

    tenant_id: str
    user_id: UUID
    until: datetime


async def overdue_held(connection: AsyncConnection, now: datetime, after: timedelta, limit: int) -> list[Held]:
    """Users of every tenant whose held deliveries should have been sent `after` ago."""
    query = (
        select(_D.tenant_id, _D.recipient_id, func.max(_D.held_until))
        .where(_PENDING, _D.held_until < now - after)
        .where(or_(_D.claimed_until.is_(None), _D.claimed_until < now - after))
        .group_by(_D.tenant_id, _D.recipient_id)
        .limit(limit)
    )
    return [Held(*row) for row in await connection.execute(query)]


async def held_of(
    connection: AsyncConnection, event_ids: Iterable[UUID], recipients: Sequence[UUID] | None = None
) -> list[Held]:
    """The users, or those of `recipients`, for whom pending deliveries of events are held, and until when."""
    query = (
        select(_D.tenant_id, _D.recipient_id, _D.held_until)
        .where(_D.event_id.in_(list(event_ids)), _PENDING, _D.held_until.is_not(None))
        .where(_D.recipient_id.in_(recipients) if recipients is not None else true())
        .distinct()
    )
    return [Held(*row) for row in await connection.execute(query)]


async def held_channels(connection: AsyncConnection, user_id: UUID, until: datetime) -> tuple[Channel, ...]:
    """The channels with pending deliveries that are held for a user until `until` or shorter."""
    query = select(_D.channel).where(_D.recipient_id == user_id, _PENDING, _D.held_until <= until).distinct()
    return tuple(Channel(row.channel) for row in await connection.execute(query.order_by(_D.channel)))


async def held_count(connection: AsyncConnection, channel: Channel, user_id: UUID, until: datetime) -> int:
    """How many pending deliveries of a channel are held for a user until `until` or shorter."""
    query = select(func.count()).where(
        _D.channel == channel.value, _D.recipient_id == user_id, _PENDING, _D.held_until <= until
    )
    count: int = (await connection.execute(query)).scalar_one()
    return count


async def give_up(connection: AsyncConnection, enqueued_before: datetime, reason: str) -> list[str]:
    """Give up deliveries of every tenant that are pending since before `enqueued_before`; returns their channels."""
    given_up = update(deliveries).where(_PENDING, _D.enqueued_at < enqueued_before).values(given_up=reason)
    return list((await connection.execute(given_up.returning(_D.channel))).scalars())


_D, _N = deliveries.c, notices.c
_PENDING = and_(_D.sent_at.is_(None), _D.given_up.is_(None))
_PENDING_OF = text("""
WITH pending AS (
  SELECT d.event_id, d.channel, d.recipient_id,
    row_number() OVER (PARTITION BY d.event_id ORDER BY d.enqueued_at, d.recipient_id, d.channel) AS n
  FROM notification.deliveries d
  WHERE d.event_id = ANY(:event_ids) AND d.sent_at IS NULL AND d.given_up IS NULL AND d.held_until IS NULL
    AND (d.claimed_until IS NULL OR d.claimed_until < now() - make_interval(secs => :tried_by_others))
    AND (
      NOT EXISTS (
        SELECT FROM notification.notices n
        WHERE n.event_id = d.event_id AND n.audience = 'favorites' AND n.expanded_at IS NULL
      )
      OR EXISTS (
        SELECT FROM notification.notices n
        WHERE n.event_id = d.event_id AND n.audience = 'user' AND n.audience_id = d.recipient_id
      )
    )
)
SELECT event_id, channel, recipient_id FROM pending WHERE n <= :most ORDER BY n, event_id
""").bindparams(bindparam("event_ids", type_=ARRAY(Uuid)), bindparam("tried_by_others", type_=Double))
_TARGETS = "unnest(CAST(:events AS uuid[]), CAST(:recipients AS uuid[]))"
_PENDING_AMONG = text(f"""
SELECT d.event_id, d.channel, d.recipient_id
FROM notification.deliveries d JOIN {_TARGETS} AS wanted (event_id, recipient_id) USING (event_id, recipient_id)
WHERE d.sent_at IS NULL AND d.given_up IS NULL AND d.held_until IS NULL
ORDER BY d.recipient_id
""").bindparams(bindparam("events", type_=ARRAY(Uuid)), bindparam("recipients", type_=ARRAY(Uuid)))
_UNCLAIMED = """d.sent_at IS NULL AND d.given_up IS NULL AND (d.claimed_until IS NULL OR d.claimed_until <= now())"""
_OF_TARGETS = f"""
    SELECT d.tenant_id, d.event_id, d.channel, d.recipient_id, d.claimed_until
    FROM notification.deliveries d
    JOIN {_TARGETS} AS wanted (event_id, recipient_id) USING (event_id, recipient_id)
    WHERE d.channel = :channel AND d.held_until IS NULL AND {_UNCLAIMED}
    FOR UPDATE OF d SKIP LOCKED
"""
_HELD = f"""
    SELECT d.tenant_id, d.event_id, d.channel, d.recipient_id, d.claimed_until
    FROM notification.deliveries d
    WHERE d.channel = :channel AND d.recipient_id = :user_id AND d.held_until <= :until AND {_UNCLAIMED}
    FOR UPDATE OF d SKIP LOCKED
"""
_CLAIMING = """
WITH free AS ({free}),
claimed AS (
    UPDATE notification.deliveries d
    SET claimed_until = now() + make_interval(secs => :seconds)
    FROM free
    WHERE d.tenant_id = free.tenant_id AND d.event_id = free.event_id AND d.channel = free.channel
      AND d.recipient_id = free.recipient_id
    RETURNING d.tenant_id, d.event_id, d.recipient_id, d.template, d.about_id, d.enqueued_at,
      free.claimed_until IS NOT NULL AS tried
)
SELECT claimed.*, u.email, u.username, u.status, u.email_verified, p.first_name, p.phone_number,
  e.event_data, e.timestamp, l.property_id, s.name AS saved_search, s.paused IS NOT NULL AS saved_search_paused
FROM claimed
JOIN user_history.event_store e ON e.event_id = claimed.event_id
LEFT JOIN user_management.users u ON u.user_id = claimed.recipient_id
LEFT JOIN user_management.user_profiles p ON p.user_id = u.user_id
LEFT JOIN property_management.properties l ON l.property_id = claimed.about_id
LEFT JOIN search.saved_filters s ON s.saved_search_id = claimed.about_id
ORDER BY e.timestamp DESC, claimed.event_id
"""
_CLAIM = text(_CLAIMING.format(free=_OF_TARGETS)).bindparams(
    bindparam("events", type_=ARRAY(Uuid)),
    bindparam("recipients", type_=ARRAY(Uuid)),
    bindparam("seconds", type_=Double),
)
_CLAIM_HELD = text(_CLAIMING.format(free=_HELD)).bindparams(
    bindparam("user_id", type_=Uuid), bindparam("seconds", type_=Double), bindparam("until", type_=_D.held_until.type)
)
_SETTLE = text("""
UPDATE notification.deliveries d
SET sent_at = CASE WHEN s.outcome = 'sent' THEN now() END,
  given_up = CASE WHEN s.outcome IN ('given_up', 'bad_address') THEN s.reason END,
  outcome = s.outcome,
  provider = :provider,
  provider_id = coalesce(s.provider_id, d.provider_id),
  claimed_until = CASE WHEN s.outcome = 'postponed' THEN now() + make_interval(secs => s.pause) ELSE d.claimed_until END
FROM unnest(CAST(:events AS uuid[]), CAST(:recipients AS uuid[]), CAST(:outcomes AS text[]), CAST(:reasons AS text[]),
  CAST(:provider_ids AS text[]), CAST(:pauses AS float8[]))
  AS s (event_id, recipient_id, outcome, reason, provider_id, pause)
WHERE d.event_id = s.event_id AND d.channel = :channel AND d.recipient_id = s.recipient_id
  AND (d.sent_at IS NULL AND d.given_up IS NULL OR s.outcome = 'sent')
""").bindparams(
    bindparam("events", type_=ARRAY(Uuid)),
    bindparam("recipients", type_=ARRAY(Uuid)),
    bindparam("outcomes", type_=ARRAY(Text)),
    bindparam("reasons", type_=ARRAY(Text)),
    bindparam("provider_ids", type_=ARRAY(Text)),
    bindparam("pauses", type_=ARRAY(Double)),
)
_COUNT = text(f"""
SELECT count(*) FILTER (WHERE d.sent_at IS NULL AND d.given_up IS NULL AND d.held_until IS NULL),
  count(*) FILTER (WHERE d.sent_at IS NOT NULL),
  count(*) FILTER (WHERE d.given_up IS NOT NULL)
FROM notification.deliveries d JOIN {_TARGETS} AS wanted (event_id, recipient_id) USING (event_id, recipient_id)
WHERE d.channel = :channel
""").bindparams(bindparam("events", type_=ARRAY(Uuid)), bindparam("recipients", type_=ARRAY(Uuid)))
