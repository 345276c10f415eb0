"""The browsers of users: where their messages are pushed to."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import Boolean, delete, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.providers import PushSubscription
from adapters.tables import push_subscriptions, users
from domain.user import MAY_SIGN_IN

MOST = 20
"""Browsers of one user: more than anybody uses; the least recently subscribed are removed."""
_IDS = uuid5(NAMESPACE_URL, "urn:hyderabad-infra:push-subscription")
_S = push_subscriptions.c


@dataclass(frozen=True)
class Stored:
    """A subscription of a user, as it is stored."""

    id: UUID
    subscription: PushSubscription
    created_at: datetime


async def put(
    connection: AsyncConnection, tenant_id: str, user_id: UUID, subscription: PushSubscription, now: datetime
) -> tuple[UUID, bool] | None:
    """Store a browser's subscription, in a transaction: its id, and whether it is new. None for a closed account.

    The browser is no longer another user's who was signed in there before.
    """
    # The lock waits for an erasure that is under way, and lets the requests of one user pass one after the other.
    locked = select(users.c.status).where(users.c.user_id == user_id).with_for_update(key_share=True)
    if (await connection.execute(locked)).scalar_one_or_none() not in MAY_SIGN_IN:
        return None
    endpoint = subscription.endpoint
    row = {"user_id": user_id, "p256dh": subscription.p256dh, "auth": subscription.auth, "created_at": now}
    id = uuid5(_IDS, f"{tenant_id} {user_id} {hashlib.sha256(endpoint.encode()).hexdigest()}")
    written = (
        insert(push_subscriptions)
        .values(tenant_id=tenant_id, subscription_id=id, endpoint=endpoint, **row)
        .on_conflict_do_update(index_elements=["tenant_id", "endpoint"], set_={"subscription_id": id, **row})
        .returning(literal_column("xmax = 0", Boolean))
    )
    is_new = bool((await connection.execute(written)).scalar_one())
    newest = select(_S.subscription_id).where(_S.user_id == user_id)
    newest = newest.order_by(_S.created_at.desc(), _S.subscription_id.desc()).offset(MOST)
    await connection.execute(delete(push_subscriptions).where(_S.subscription_id.in_(newest)))
    return id, is_new


async def of_users(connection: AsyncConnection, user_ids: Iterable[UUID]) -> dict[UUID, list[Stored]]:
    """The subscriptions of users, the newest first; a user without any is absent."""
    query = select(push_subscriptions).where(_S.user_id.in_(list(user_ids)))
    found: defaultdict[UUID, list[Stored]] = defaultdict(list)
    for row in await connection.execute(query.order_by(_S.created_at.desc(), _S.subscription_id.desc())):
        subscription = PushSubscription(row.endpoint, row.p256dh, row.auth)
        found[row.user_id].append(Stored(row.subscription_id, subscription, row.created_at))
    return dict(found)


async def remove(connection: AsyncConnection, subscription_id: UUID, user_id: UUID | None = None) -> bool:
    """Delete a subscription, if it is `user_id`'s when one is given; whether there was one."""
    statement = delete(push_subscriptions).where(_S.subscription_id == subscription_id)
    if user_id is not None:
        statement = statement.where(_S.user_id == user_id)
    return (await connection.execute(statement)).rowcount > 0
