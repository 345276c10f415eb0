"""The steps of an erasure after it is saved. Each can be repeated, and takes and returns only ids and counts."""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.favorites import ERASED_USERS_FAVORITE
from activities.properties import ERASED_OWNERS_PROPERTY
from activities.publishing import Publishing
from activities.saving import Aggregate, CommandStore
from adapters import erasures, exports, file_erasure, personal_data, temporal
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.sealing import Keyring
from domain import ids
from domain.command import FAILED, Command
from domain.favorite_commands import UnfavoriteProperty
from domain.model import Fact
from domain.property_commands import ChangePropertyStatus, DeleteProperty
from domain.property_status import TRANSITIONS, Party, PropertyStatus
from domain.user_commands import EraseUser, RegisterUser

log = logging.getLogger(__name__)

_WITHDRAWABLE = [
    status for status, to in TRANSITIONS.items() if Party.OWNER in to.get(PropertyStatus.WITHDRAWN, frozenset())
]
_SESSIONS_KEPT_SECONDS = 16 * 60
"""A process of the API that starts learns from a session's row that its access tokens are refused, for 15 minutes."""
_AGGREGATES_PER_QUERY = 50
"""Ids in one query of Temporal's index: 2 kB."""
_LOST_AFTER = timedelta(hours=2)
"""Twice as long as the workflow waits for its last mail."""
_LIMIT = 500
"""Erasures of one run: reconcile runs again after a minute."""
_FIRST = UUID(int=0)

Pages = Callable[[AsyncConnection, UUID], Awaitable[list[UUID]]]


class Erasing(Fact):
    """The input of each step: the account, and the command that erases it."""

    tenant_id: str
    user_id: UUID
    command_id: UUID


class Erasures:
    """The steps of `erase-user` that follow the save."""

    def __init__(
        self,
        tenants: Database,
        all_tenants: Database,
        keyring: Keyring,
        store: CommandStore,
        publishing: Publishing,
        redis: Redis,
        client: Client,
        objects: Objects,
    ) -> None:
        self._tenants = tenants
        self._all_tenants = all_tenants
        self._keyring = keyring
        self._store = store
        self._publishing = publishing
        self._redis = redis
        self._client = client
        self._objects = objects

    @activity.defn
    async def withdraw_listings(self, erasing: Erasing) -> int:
        """Withdraw the listings of the account and remove its favourites; returns how many of both.

        Raises DatabaseUnavailable or BrokerUnavailable.
        """
        user_id = erasing.user_id

        def withdrawing(property_id: UUID) -> Command:
            status = PropertyStatus.WITHDRAWN
            return ChangePropertyStatus(**_fields(erasing, "withdraw", property_id), status=status)

        def removing(property_id: UUID) -> Command:
            return UnfavoriteProperty(**_fields(erasing, "unfavorite", property_id))

        done = await self._save_each(
            erasing,
            lambda connection, after: personal_data.owned(connection, user_id, _WITHDRAWABLE, after),
            ERASED_OWNERS_PROPERTY,
            withdrawing,
        )
        done += await self._save_each(
            erasing,
            lambda connection, after: personal_data.favorites_of(connection, user_id, after),
            ERASED_USERS_FAVORITE,
            removing,
        )
        await self._reached(erasing, "withdrawn")
        return done

    @activity.defn
    async def ensure_notified(self, erasing: Erasing) -> None:
        """Raises an error, to try again later, until the mail about the erasure is sent or given up."""
        async with self._tenants.statements(erasing.tenant_id) as connection:
            notified = await erasures.is_notified(connection, _last_event(erasing))
        if not notified:
            detail = "the mail about the erasure is not sent yet"
            raise ApplicationError(detail, type="NotNotified", category=ApplicationErrorCategory.BENIGN)

    @activity.defn
    async def delete_listings(self, erasing: Erasing) -> int:
        """Delete the listings of the account; returns how many. Raises DatabaseUnavailable or BrokerUnavailable."""
        return await self._save_each(
            erasing,
            lambda connection, after: personal_data.owned(connection, erasing.user_id, PropertyStatus, after),
            ERASED_OWNERS_PROPERTY,
            lambda property_id: DeleteProperty(**_fields(erasing, "delete", property_id)),
        )

    @activity.defn
    async def delete_executions(self, erasing: Erasing) -> int:
        """Delete the workflows of the person, of their account and of their listings, but for erasures; how many.

        Their inputs and answers are encrypted with the server's key. Raises RPCError.
        """
        async with self._tenants.statements(erasing.tenant_id) as connection:
            listings = await personal_data.listings_of(connection, erasing.user_id)
        queries = list(_executions_of(erasing, listings))
        return await temporal.delete_executions(self._client, queries, activity.heartbeat)

    @activity.defn
    async def delete_cached(self, erasing: Erasing) -> int:
        """Delete what Redis has of the person; returns how many keys. Raises RedisError or DatabaseUnavailable."""
        async with self._tenants.statements(erasing.tenant_id) as connection:
            reach = await personal_data.reach_of(connection, erasing.user_id)
        parts = (str(erasing.user_id), *(self._keyring.name_digest(name) for name in reach.names))
        return await personal_data.delete_cached(self._redis, parts, activity.heartbeat)

    @activity.defn
    async def delete_rows(self, erasing: Erasing) -> None:
        """Delete the files and rows of the person, then the registrations that were refused because of these rows.

        Raises DatabaseUnavailable, ObjectsUnavailable or RPCError.
        """
        owner = erasing.tenant_id, erasing.user_id
        await exports.delete_of_user(self._tenants, self._objects, *owner, activity.heartbeat)
        await file_erasure.delete_of_user(self._tenants, self._objects, *owner, activity.heartbeat)
        async with self._all_tenants.transaction() as tx:
            await personal_data.delete_read_models(tx, erasing.tenant_id, erasing.user_id)
        activity.heartbeat()
        async with self._tenants.transaction(erasing.tenant_id) as tx:
            reach = await personal_data.reach_of(tx, erasing.user_id)
            digests = [self._keyring.name_digest(name) for name in reach.names]
            await erasures.free_names(tx, erasing.user_id, digests)
            await personal_data.delete_rows(tx, self._keyring, erasing.user_id, reach, _last_event(erasing))
            await erasures.reached(tx, erasing.user_id, "deleted")
        await self._delete_refused(erasing)

    @activity.defn
    async def destroy_key(self, erasing: Erasing) -> None:
        """Destroy the person's key. Raises DatabaseUnavailable."""
        async with self._tenants.transaction(erasing.tenant_id) as tx:
            await erasures.destroy_key(tx, erasing.user_id)

    @activity.defn
    async def delete_sessions(self, erasing: Erasing) -> float:
        """Delete closed sessions that no valid access token names; returns the seconds until the others can be."""
        async with self._tenants.statements(erasing.tenant_id) as connection:
            return await personal_data.sessions_left(connection, erasing.user_id, _SESSIONS_KEPT_SECONDS)

    async def _save_each(
        self, erasing: Erasing, pages: Pages, aggregate: Aggregate[Any], command: Callable[[UUID], Command]
    ) -> int:
        """Save and publish a command on each listing; what an interrupted attempt did not publish, reconcile does."""
        done, last = 0, _FIRST
        while True:
            async with self._tenants.statements(erasing.tenant_id) as connection:
                page = await pages(connection, last)
            for property_id in page:
                each = command(property_id)
                try:
                    saved = await self._store.save(aggregate, self._keyring.seal_in_transit(each, each.command_id))
                    await self._publishing.publish(saved)
                except ApplicationError as error:
                    if error.type == FAILED:
                        raise
                    # An administrator has changed the listing in the meantime.
                    log.info("an erasure leaves %s: %s", property_id, error.message)
                done, last = done + 1, property_id
                activity.heartbeat(done)
            if not page:
                return done

    async def _delete_refused(self, erasing: Erasing) -> None:
        """Delete the workflows of refused registrations with the person's names.

        They belong to no account, and a later one is not refused because of the person: the names are free.
        """
        async with self._tenants.statements(erasing.tenant_id) as connection:
            freed = await erasures.freed_names(connection, erasing.user_id)
        if freed:
            await temporal.delete_executions(self._client, [_refused(erasing.tenant_id, freed)], activity.heartbeat)
            async with self._tenants.statements(erasing.tenant_id) as connection:
                await erasures.forget_names(connection, erasing.user_id)

    async def _reached(self, erasing: Erasing, stage: erasures.Stage) -> None:
        async with self._tenants.statements(erasing.tenant_id) as connection:
            await erasures.reached(connection, erasing.user_id, stage)


class OverdueErasures:
    """Finds erasures whose workflow is lost, because Temporal was wiped, or has failed."""

    def __init__(self, database: Database, keyring: Keyring, client: Client, queue: str) -> None:
        self._database = database
        self._keyring = keyring
        self._client = client
        self._queue = queue

    @activity.defn
    async def start_overdue_erasures(self) -> int:
        """Start the workflows of erasures that should be done; returns how many."""
        async with self._database.statements() as connection:
            pending = await erasures.pending_since(connection, datetime.now(UTC) - _LOST_AFTER, _LIMIT)
        started = 0
        for erasure in pending:
            command = EraseUser(
                command_id=erasure.command_id,
                tenant_id=erasure.tenant_id,
                user_id=erasure.user_id,
                issued_at=erasure.requested_at,
                fingerprint=erasure.fingerprint,
            )
            # One that runs already waits for something that is unavailable.
            started += await temporal.start_in_clear(self._client, command, self._queue, self._keyring)
            activity.heartbeat(started)
        return started


def _fields(erasing: Erasing, what: str, property_id: UUID) -> dict[str, object]:
    """The fields of a command of an erasure on a listing; a repetition has the same id."""
    return {
        "command_id": uuid5(erasing.command_id, f"{what} {property_id}"),
        "tenant_id": erasing.tenant_id,
        "user_id": erasing.user_id,
        "issued_at": datetime.now(UTC),
        "property_id": property_id,
    }


def _last_event(erasing: Erasing) -> UUID:
    """The id of USER_DELETED."""
    return ids.event_id(erasing.command_id, 1)


def _refused(tenant_id: str, freed: erasures.FreedNames) -> str:
    """A query of the registrations that started before the names were free, and were therefore refused."""
    digests = ", ".join(f"'{digest}'" for digest in freed.digests)
    return (
        f"TenantId = '{tenant_id}' AND WorkflowType = '{RegisterUser.model_fields['type'].default}'"
        f" AND NameDigests IN ({digests}) AND StartTime <= '{freed.at.isoformat()}' AND ExecutionStatus != 'Running'"
    )


def _executions_of(erasing: Erasing, listings: Sequence[UUID]) -> Iterator[str]:
    """Queries of the workflows that have to do with the person."""
    others = f"TenantId = '{erasing.tenant_id}' AND WorkflowType != '{EraseUser.model_fields['type'].default}'"
    yield f"UserId = '{erasing.user_id}' AND {others}"
    aggregates = [erasing.user_id, *listings]
    for n in range(0, len(aggregates), _AGGREGATES_PER_QUERY):
        listed = ", ".join(f"'{aggregate}'" for aggregate in aggregates[n : n + _AGGREGATES_PER_QUERY])
        yield f"AggregateId IN ({listed}) AND {others}"
