"""Activities that expand notices to deliveries: one for each channel and recipient."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import Row, exists, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from adapters import event_store, outbox
from adapters.outbox import SENT, Target
from adapters.postgres import Database
from adapters.preferences import preferences_of
from adapters.tables import event_store as events
from adapters.tables import favorites, notices, push_subscriptions, user_profiles, users
from adapters.telemetry import DELIVERIES
from domain.events import observation_events
from domain.model import Fact
from domain.notifications import Audience, Reach, channels_of, held_until, in_app_id
from domain.observations import Notified, RecordActivity, UserNotified
from domain.preferences import Channel, NoticeKind
from domain.user import MAY_SIGN_IN
from notices.render import SMS_KINDS, short_values

PAGE = 50
"""Favourites that are notified at a time; others get their turn between two pages."""


class DeliveryBatch(Fact):
    """The input of one `notify` workflow: the events of one tenant whose notices it sends."""

    tenant_id: str
    event_ids: tuple[UUID, ...]


class FavoritesOf(Fact):
    """The input of one `notify-favorites` workflow: a notice for everyone who has a listing as favourite."""

    tenant_id: str
    event_id: UUID
    property_id: UUID
    kind: str
    after: UUID | None = None
    """The last user who was notified; None at the beginning."""
    notified: int = 0
    """Users who were notified by earlier runs of the workflow."""


class DigestOf(Fact):
    """The input of one `digest` workflow: the user whose held deliveries it sends, and when their quiet hours end."""

    tenant_id: str
    user_id: UUID
    until: datetime


class Expanded(Fact):
    """What a `notify` workflow has to do for its events."""

    channels: dict[str, tuple[Target, ...]]
    """The pending deliveries by channel."""
    recorded: UUID | None = None
    """The command id of the USER_NOTIFIED events that are to be published; None without any."""
    favorites: tuple[FavoritesOf, ...] = ()
    digests: tuple[DigestOf, ...] = ()
    users: int = 0
    """Recipients of this page of favourites."""
    next_user: UUID | None = None
    """The last recipient of this page of favourites; None when there is no further page."""


@dataclass(frozen=True)
class _Notice:
    """A stored notice with its event."""

    event_id: UUID
    kind: NoticeKind
    command_id: UUID
    event: Mapping[str, Any]


class Notices:
    """Decides who gets a notice on which channels, and stores one delivery for each."""

    def __init__(self, database: Database, channels: Iterable[Channel]) -> None:
        """`channels` are those that have a provider; in-app needs none."""
        self._database = database
        self._channels = {*channels, Channel.IN_APP}

    @activity.defn
    async def expand_notices(self, batch: DeliveryBatch) -> Expanded:
        """Store the deliveries of the events' notices, and find what is pending. Idempotent.

        Raises DatabaseUnavailable.
        """
        recording = _recording_id()
        async with self._database.transaction(batch.tenant_id) as tx:
            found = await _unexpanded(tx, batch.event_ids)
            of_users = [(row.audience_id, _notice(row)) for row in found if row.audience == Audience.USER]
            await self._store(tx, batch.tenant_id, of_users, recording)
            await _mark_expanded(tx, [row.event_id for row in found if row.audience == Audience.USER], Audience.USER)
        async with self._database.statements(batch.tenant_id) as connection:
            is_recorded = await _is_recorded(connection, recording)
            pending = await outbox.pending_of(connection, batch.event_ids)
            held = await outbox.held_of(connection, batch.event_ids)
        return Expanded(
            channels=_targets(pending),
            recorded=recording if is_recorded else None,
            favorites=tuple(
                FavoritesOf(
                    tenant_id=batch.tenant_id, event_id=row.event_id, property_id=row.audience_id, kind=row.kind
                )
                for row in found
                if row.audience == Audience.FAVORITES
            ),
            digests=_digests(held),
        )

    @activity.defn
    async def expand_favorites(self, of: FavoritesOf) -> Expanded:
        """Store the deliveries of the next page of favourites, and find what is pending of them. Idempotent.

        The notice is expanded once its last page is. Raises DatabaseUnavailable.
        """
        recording = _recording_id()
        async with self._database.transaction(of.tenant_id) as tx:
            found = [row for row in await _unexpanded(tx, [of.event_id]) if row.audience == Audience.FAVORITES]
            if not found:
                return Expanded(channels={})
            page = await _favorites_after(tx, of, found[0].actor_id)
            notice = _notice(found[0])
            await self._store(tx, of.tenant_id, [(user_id, notice) for user_id in page], recording)
            if len(page) < PAGE:
                await _mark_expanded(tx, [of.event_id], Audience.FAVORITES)
            keys = [Target(of.event_id, user_id) for user_id in page]
            is_recorded = await _is_recorded(tx, recording)
            pending = await outbox.pending_among(tx, keys)
            held = await outbox.held_of(tx, [of.event_id], page)
        return Expanded(
            channels=_targets(pending),
            recorded=recording if is_recorded else None,
            digests=_digests(held),
            users=len(page),
            next_user=page[-1] if len(page) == PAGE else None,
        )

    @activity.defn
    async def find_held(self, of: DigestOf) -> tuple[Channel, ...]:
        """The channels on which something is held for a user. Raises DatabaseUnavailable."""
        async with self._database.statements(of.tenant_id) as connection:
            return await outbox.held_channels(connection, of.user_id, of.until)

    async def _store(
        self, tx: AsyncConnection, tenant_id: str, to: Sequence[tuple[UUID, _Notice]], recording: UUID
    ) -> None:
        """Store the deliveries of notices to users; those in the app are sent with it."""
        now = datetime.now(UTC)
        reach = await reach_of(tx, {user_id for user_id, _ in to})
        rows, in_app = [], []
        for user_id, notice in to:
            if user_id not in reach:
                continue  # the account is erased
            how = reach[user_id]
            for channel in sorted(channels_of(notice.kind, how) & self._channels):
                if channel is Channel.SMS and notice.kind not in SMS_KINDS:
                    continue
                held = held_until(notice.kind, channel, how.preferences, now)
                sent = {"sent_at": now, "outcome": SENT} if channel is Channel.IN_APP else {}
                rows.append(_delivery(tenant_id, notice, channel, user_id) | {"held_until": held} | _UNSENT | sent)
                if channel is Channel.IN_APP:
                    in_app.append(_notified(notice, user_id, now))
                if held:
                    DELIVERIES.labels(channel.value, "held").inc()
        await outbox.store_deliveries(tx, rows)
        if in_app:
            batch = RecordActivity(command_id=recording, tenant_id=tenant_id, observations=tuple(in_app))
            await event_store.store_observations(tx, observation_events(batch))
            DELIVERIES.labels(Channel.IN_APP.value, SENT).inc(len(in_app))


_UNSENT: dict[str, Any] = {"sent_at": None, "outcome": None}


def _delivery(tenant_id: str, notice: _Notice, channel: Channel, user_id: UUID) -> dict[str, Any]:
    about = notice.event.get("propertyId") or notice.event.get("savedSearchId")
    return {
        "tenant_id": tenant_id,
        "event_id": notice.event_id,
        "channel": channel.value,
        "recipient_id": user_id,
        "command_id": notice.command_id,
        "template": notice.kind.value,
        "about_id": UUID(about) if about else user_id,
    }


def _notified(notice: _Notice, user_id: UUID, now: datetime) -> Notified:
    about, saved_search = notice.event.get("propertyId"), notice.event.get("savedSearchId")
    return Notified(
        event_id=in_app_id(notice.event_id, user_id),
        aggregate_id=user_id,
        user_id=user_id,
        timestamp=now,
        data=UserNotified(
            user_id=user_id,
            kind=notice.kind.value,
            about_event_id=notice.event_id,
            property_id=UUID(about) if about else None,
            saved_search_id=UUID(saved_search) if saved_search else None,
            values=short_values(notice.kind, notice.event),
        ),
    )


def _recording_id() -> UUID:
    """The command id of the events that this activity stores: a retry has the same, another activity another one."""
    info = activity.info()
    return uuid5(NAMESPACE_URL, f"urn:hyderabad-infra:notified:{info.workflow_run_id}:{info.activity_id}")


async def _is_recorded(connection: AsyncConnection, recording: UUID) -> bool:
    """Whether this activity, or an attempt whose answer was lost, has stored events in the app."""
    query = select(events.c.event_id).where(events.c.command_id == recording).limit(1)
    return (await connection.execute(query)).one_or_none() is not None


def _targets(pending: Mapping[Channel, Sequence[Target]]) -> dict[str, tuple[Target, ...]]:
    return {channel.value: tuple(targets) for channel, targets in pending.items()}


def _digests(held: Sequence[outbox.Held]) -> tuple[DigestOf, ...]:
    return tuple(DigestOf(tenant_id=one.tenant_id, user_id=one.user_id, until=one.until) for one in held)


async def _unexpanded(tx: AsyncConnection, event_ids: Sequence[UUID]) -> list[Row[*tuple[Any, ...]]]:
    """Notices that are not expanded, with their events; of kinds that this release knows."""
    query = (
        select(
            notices.c.event_id,
            notices.c.kind,
            notices.c.audience,
            notices.c.audience_id,
            notices.c.command_id,
            events.c.event_data,
            events.c.user_id.label("actor_id"),
        )
        .join(events, events.c.event_id == notices.c.event_id)
        .where(
            notices.c.event_id.in_(event_ids),
            notices.c.expanded_at.is_(None),
            notices.c.kind.in_([kind.value for kind in NoticeKind]),
        )
        .order_by(events.c.id)
    )
    return list(await tx.execute(query))


def _notice(row: Row[*tuple[Any, ...]]) -> _Notice:
    return _Notice(row.event_id, NoticeKind(row.kind), row.command_id, row.event_data)


async def _mark_expanded(tx: AsyncConnection, event_ids: Sequence[UUID], audience: Audience) -> None:
    c = notices.c
    await tx.execute(
        update(notices)
        .where(c.event_id.in_(event_ids), c.audience == audience.value, c.expanded_at.is_(None))
        .where(c.kind.in_([kind.value for kind in NoticeKind]))
        .values(expanded_at=func.now())
    )


async def _favorites_after(tx: AsyncConnection, of: FavoritesOf, actor_id: str) -> list[UUID]:
    """The next page of users who have the listing as favourite, without the one who caused the event."""
    c = favorites.c
    query = (
        select(c.user_id)
        .where(c.tenant_id == of.tenant_id, c.property_id == of.property_id, c.is_favorite, c.user_id != UUID(actor_id))
        .where(c.user_id > of.after if of.after else true())
        .order_by(c.user_id)
        .limit(PAGE)
    )
    return list((await tx.execute(query)).scalars())


async def reach_of(tx: AsyncConnection, user_ids: set[UUID]) -> dict[UUID, Reach]:
    """How users can be reached; an erased one is absent."""
    if not user_ids:
        return {}
    query = (
        select(
            users.c.user_id,
            users.c.status,
            user_profiles.c.phone_number.is_not(None).label("has_phone"),
            exists().where(push_subscriptions.c.user_id == users.c.user_id).label("has_browser"),
        )
        .outerjoin(user_profiles, user_profiles.c.user_id == users.c.user_id)
        .where(users.c.user_id.in_(user_ids))
    )
    known = await preferences_of(tx, list(user_ids))
    return {
        row.user_id: Reach(known[row.user_id], row.status in MAY_SIGN_IN, row.has_phone, row.has_browser)
        for row in await tx.execute(query)
    }
