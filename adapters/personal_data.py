"""Everything that the platform keeps of a person outside of the event store, and its deletion.

Each function can be repeated, and deletes what an interrupted one has left.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import Executable, Select, Uuid, cast, delete, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sealing import Keyring
from adapters.tables import (
    account_tokens,
    activity_counts,
    bad_addresses,
    deliveries,
    discarded_events,
    event_store,
    favorites,
    import_listings,
    import_problems,
    imports,
    notices,
    notifications,
    parked_events,
    passkeys,
    preferences,
    properties,
    push_subscriptions,
    recovery_codes,
    refresh_tokens,
    saved_filters,
    saved_search_matches,
    search_history,
    sessions,
    totp,
    user_activity,
    user_profiles,
    users,
)
from domain.events import USER_ACTIVITY
from domain.preferences import Channel

_OF_ACCOUNT = (
    refresh_tokens,
    account_tokens,
    totp,
    recovery_codes,
    passkeys,
    preferences,
    push_subscriptions,
    saved_search_matches,
    saved_filters,
    imports,
    user_profiles,
    users,
)
"""Tables whose rows of the person are deleted. `sessions` follows when no access token names one any more."""
_PAGE = 100
"""Listings of one query; each is a command of its own."""
_ENTRIES_DELETED = 20_000
"""Entries of a history that one statement deletes: about 0.2 s, far below the limit of a statement."""
_SCAN_COUNT = 1000
"""Keys that Redis looks at in one step: about a millisecond, in which it answers nobody else."""


@dataclass(frozen=True)
class Reach:
    """How a person is known and reached; empty once the account's row is deleted."""

    names: tuple[str, ...] = ()
    """E-mail address and username."""
    addresses: tuple[tuple[Channel, str], ...] = ()
    """The addresses that notices are sent to, by channel."""


async def reach_of(connection: AsyncConnection, user_id: UUID) -> Reach:
    """How a person of the connection's tenant is reached."""
    account = (
        select(users.c.email, users.c.username, user_profiles.c.phone_number)
        .outerjoin(user_profiles, user_profiles.c.user_id == users.c.user_id)
        .where(users.c.user_id == user_id)
    )
    row = (await connection.execute(account)).one_or_none()
    browsers = select(push_subscriptions.c.endpoint).where(push_subscriptions.c.user_id == user_id)
    addresses = [(Channel.PUSH, endpoint) for endpoint in (await connection.execute(browsers)).scalars()]
    if row is None:
        return Reach(addresses=tuple(addresses))
    addresses.append((Channel.EMAIL, row.email))
    if row.phone_number:
        addresses.append((Channel.SMS, row.phone_number))
    return Reach((row.email, row.username), tuple(addresses))


async def delete_rows(
    connection: AsyncConnection, keyring: Keyring, user_id: UUID, reach: Reach, last_event: UUID
) -> None:
    """Delete the rows of a person, in a transaction of their tenant. The e-mail address is free afterwards.

    The delivery of `last_event`, the mail about the erasure, stays, without what identifies it at its provider.
    """
    digests = [(channel.value, keyring.address_digest(channel, address)) for channel, address in reach.addresses]
    for statement in _rows_of(user_id, last_event, digests):
        await connection.execute(statement)


def _rows_of(user_id: UUID, last_event: UUID, digests: list[tuple[str, bytes]]) -> Iterable[Executable]:
    yield update(sessions).where(sessions.c.user_id == user_id).values(device=None, address_digest=None)
    if digests:
        bad = tuple_(bad_addresses.c.channel, bad_addresses.c.address_digest)
        yield delete(bad_addresses).where(bad.in_(digests))
    of_person = deliveries.c.recipient_id == user_id
    yield delete(deliveries).where(of_person, deliveries.c.event_id != last_event)
    yield update(deliveries).where(of_person).values(provider_id=None)
    # Found by the events that caused them: by their audience there is no index.
    caused = select(event_store.c.event_id).where(
        or_(
            event_store.c.user_id == str(user_id),
            event_store.c.aggregate_id == str(user_id),
            event_store.c.aggregate_id.in_(_created_by(user_id)),
        )
    )
    own = notices.c.audience_id == user_id
    yield delete(notices).where(own, notices.c.event_id.in_(caused), notices.c.event_id != last_event)
    # By user there is an index of the present favourites only.
    favorited = select(cast(event_store.c.aggregate_id, Uuid)).where(
        event_store.c.user_id == str(user_id), event_store.c.event_type == "PROPERTY_FAVORITED"
    )
    yield delete(favorites).where(favorites.c.user_id == user_id, favorites.c.favorite_id.in_(favorited))
    own_imports = select(imports.c.import_id).where(imports.c.user_id == user_id)
    yield delete(import_problems).where(import_problems.c.import_id.in_(own_imports))
    yield delete(import_listings).where(import_listings.c.import_id.in_(own_imports))
    for table in _OF_ACCOUNT:
        yield delete(table).where(table.c.user_id == user_id)


async def delete_read_models(connection: AsyncConnection, tenant_id: str, user_id: UUID) -> None:
    """Delete a person's rows of read models, in every generation, and the parked entries of their history.

    Of what was discarded the reasons go too: an operator has written them, about an event of this person.

    The connection is one of all tenants. The projections do not write these rows again. `projections/notifications.py`
    knows erased users by `read_until` and by USER_DELETED: both stay, and neither has personal data in the clear.
    """
    inbox = notifications.c
    await delete_history(connection, tenant_id, user_id)
    searches = search_history.c.tenant_id == tenant_id, search_history.c.user_id == user_id
    await connection.execute(delete(search_history).where(*searches))
    # All have a kind; the condition is that of the index.
    of_inbox = inbox.tenant_id == tenant_id, inbox.user_id == user_id, inbox.kind.is_not(None)
    await connection.execute(delete(notifications).where(*of_inbox))
    of_history = parked_events.c.topic == USER_ACTIVITY, parked_events.c.key == str(user_id)
    await connection.execute(delete(parked_events).where(*of_history))
    await connection.execute(delete(discarded_events).where(discarded_events.c.key == str(user_id)))


async def delete_history(
    connection: AsyncConnection, tenant_id: str, user_id: UUID, generation: int | None = None
) -> None:
    """Delete a user's history with its counts, in one generation or in all, some entries at a time."""
    entry, counted = user_activity.c, activity_counts.c
    entries = [entry.tenant_id == tenant_id, entry.user_id == str(user_id)]
    counts = [counted.tenant_id == tenant_id, counted.user_id == user_id]
    if generation is not None:
        entries.append(entry.generation == generation)
        counts.append(counted.generation == generation)
    some = delete(user_activity).where(entry.id.in_(select(entry.id).where(*entries).limit(_ENTRIES_DELETED)))
    while (await connection.execute(some)).rowcount == _ENTRIES_DELETED:
        pass
    await connection.execute(delete(activity_counts).where(*counts))


async def sessions_left(connection: AsyncConnection, user_id: UUID, kept_seconds: int) -> float:
    """Delete a person's sessions that were closed `kept_seconds` ago; returns the seconds until the next are due."""
    age = func.extract("epoch", func.now() - sessions.c.revoked_at)
    of_person = sessions.c.user_id == user_id
    await connection.execute(delete(sessions).where(of_person, age >= kept_seconds))
    left = await connection.execute(select(func.max(kept_seconds - age)).where(of_person))
    return float(left.scalar_one() or 0)


async def listings_of(connection: AsyncConnection, user_id: UUID) -> list[UUID]:
    """Every listing that the person has created, also deleted ones."""
    return [UUID(listing) for listing in (await connection.execute(_created_by(user_id))).scalars()]


def _created_by(user_id: UUID) -> Select[str]:
    return select(event_store.c.aggregate_id).where(
        event_store.c.user_id == str(user_id), event_store.c.event_type == "PROPERTY_CREATED"
    )


async def owned(connection: AsyncConnection, user_id: UUID, statuses: Iterable[str], after: UUID) -> list[UUID]:
    """A page of a person's listings in `statuses`, ordered by id."""
    query = select(properties.c.property_id).where(
        properties.c.owner_id == user_id, properties.c.status.in_(list(statuses)), properties.c.property_id > after
    )
    return list((await connection.execute(query.order_by(properties.c.property_id).limit(_PAGE))).scalars())


async def favorites_of(connection: AsyncConnection, user_id: UUID, after: UUID) -> list[UUID]:
    """A page of the listings that a person has as favourites, ordered by id."""
    query = select(favorites.c.property_id).where(
        favorites.c.user_id == user_id, favorites.c.is_favorite, favorites.c.property_id > after
    )
    return list((await connection.execute(query.order_by(favorites.c.property_id).limit(_PAGE))).scalars())


async def delete_cached(redis: Redis, parts: Iterable[str], progress: Callable[[int], None]) -> int:
    """Delete the keys that contain one of `parts`: the person's id, which history, limits and views have, or the digest
    of a name (`Keyring.name_digest`), which failed sign-ins and links have.

    Returns how many. Raises RedisError.
    """
    looked_at, deleted = 0, 0
    for part in parts:
        cursor = -1
        while cursor != 0:
            cursor, found = await redis.scan(max(cursor, 0), match=f"*{part}*", count=_SCAN_COUNT)
            deleted += await redis.unlink(*found) if found else 0
            looked_at += _SCAN_COUNT
            progress(looked_at)
    return deleted
