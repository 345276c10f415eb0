"""Records observations: what requests observe within a few milliseconds shares one `record-activity` workflow."""

import asyncio
import hmac
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.service import RPCError

from adapters import temporal
from adapters.current_state import ListingSummary, find_properties
from adapters.postgres import Database
from adapters.redis import AutoPipeline, CircuitBreaker, RedisError
from adapters.sealing import derived_key
from adapters.settings import Settings
from adapters.telemetry import OBSERVATIONS
from api.batching import BatchedCalls
from api.commands import new_id
from api.errors import ApiError, unavailable
from api.tokens import Caller
from domain.events import event_type_of
from domain.observations import ANONYMOUS, Observation, PropertyViewed, RecordActivity, UserLoggedIn
from workflows import options, registry
from workflows.record_activity import RecordActivityWorkflow

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.004
"""A tenth of what saving takes: nobody notices it, and under load the batches that are running let far more collect."""
MOST = 200
"""Observations of one workflow: some 100 kB of its input, of the 2 MB that Temporal takes."""
_AT_ONCE = 1
"""Batches of one tenant that a process has running: with two they are smaller, and a view costs half as much again."""
_LISTINGS_AT_ONCE = 2
"""Reads of listings of one tenant that run side by side: they take a millisecond, and connections are few."""
_LISTINGS_MOST = 500
"""Listings of one read: some 100 kB of rows."""
_SAME_VISITOR_SECONDS = 1800
"""A view by the same visitor within half an hour is the same visit: what web analytics calls a session."""
_LOGIN_WAIT_SECONDS = 1.0
"""Longer than saving takes in the ordinary case; a login is not to hang on a command service that is unavailable."""
_COUNTED = b"counted"


@dataclass(frozen=True)
class Visitor:
    """Who looks at a listing: somebody with an account, or an address with a browser."""

    caller: Caller | None
    address: str
    user_agent: str


@dataclass(frozen=True)
class _Pending:
    """An observation, and the Redis key that is to say that it is counted."""

    observation: Observation
    key: str | None = None


class Observations:
    """Takes observations from requests, and says when each is saved."""

    def __init__(self, client: Client, database: Database, redis: Redis, settings: Settings) -> None:
        self._client = client
        self._database = database
        self._redis = redis
        self._pipeline = AutoPipeline(redis)
        self._breaker = CircuitBreaker()
        self._wait_seconds = settings.command_wait_seconds
        self._salt = lru_cache(maxsize=2)(lambda day: derived_key(settings.secret_bytes, f"visitors of {day}"))
        self._batches: dict[str, BatchedCalls[_Pending, None]] = {}
        self._listings: dict[str, BatchedCalls[UUID, ListingSummary | None]] = {}
        self._logins: set[asyncio.Task[None]] = set()

    async def viewed(self, tenant_id: str, property_id: UUID, visitor: Visitor) -> None:
        """Record a view of a listing, unless it is the owner's or the same visitor's of the last half hour.

        Returns when it is saved. Raises ApiError not-found or unavailable, and DatabaseUnavailable.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._viewed(tenant_id, property_id, visitor)
        except TimeoutError as error:
            raise unavailable("The command service") from error

    async def _viewed(self, tenant_id: str, property_id: UUID, visitor: Visitor) -> None:
        listing, caller = await self._listings_of(tenant_id).ask(property_id), visitor.caller
        is_owner = bool(listing and caller and caller.user_id == listing.owner_id)
        if listing is None or not (listing.is_public or is_owner or (caller and caller.is_admin)):
            raise ApiError("not-found")
        if is_owner:
            return
        now = datetime.now(UTC)
        key = f"{tenant_id}:viewed:{property_id}:{self._name_of(visitor, now.date())}"
        event_id = await self._event_id(key)
        if event_id is None:
            return
        observation = Observation(
            event_id=event_id,
            aggregate_id=property_id,
            user_id=caller.user_id if caller else ANONYMOUS,
            timestamp=now,
            data=PropertyViewed(
                property_id=property_id, owner_id=listing.owner_id, title=listing.title, location=listing.location
            ),
        )
        await self._batches_of(tenant_id).ask(_Pending(observation, key))

    async def logged_in(self, tenant_id: str, user_id: UUID) -> None:
        """Record a login. Returns when it is saved, or after a second: a login must not fail because of it.

        What is not saved then is still on its way; it is lost when its batch fails.
        """
        observation = Observation(
            event_id=new_id(),
            aggregate_id=user_id,
            user_id=user_id,
            timestamp=datetime.now(UTC),
            data=UserLoggedIn(user_id=user_id),
        )
        recording = asyncio.create_task(self._batches_of(tenant_id).ask(_Pending(observation)))
        self._logins.add(recording)
        recording.add_done_callback(self._login_recorded)
        await asyncio.wait({recording}, timeout=_LOGIN_WAIT_SECONDS)

    def _login_recorded(self, recording: asyncio.Task[None]) -> None:
        self._logins.discard(recording)
        # Its failure was logged and counted with the batch.
        if not recording.cancelled():
            recording.exception()

    async def close(self) -> None:
        """Wait for the batches of requests that are answered already."""
        await asyncio.gather(*(batches.close() for batches in self._batches.values()))

    def _name_of(self, visitor: Visitor, day: date) -> str:
        """The account, or a hash of address and browser that nobody can link to another day's."""
        if visitor.caller:
            return str(visitor.caller.user_id)
        browser = f"{visitor.address} {visitor.user_agent}".encode()
        return hmac.digest(self._salt(day), browser, "sha256")[:16].hex()

    async def _event_id(self, key: str) -> UUID | None:
        """The id of the event of a view; None when the view is counted already.

        Redis keeps the id from the first request on. Until the view is known to be saved, whoever repeats the request
        sends the same event again, which is stored once: a 204 never stands for a view that is not saved. Without
        Redis each request has an id of its own, and repeated views are counted.
        """
        event_id = new_id()
        if self._breaker.is_open:
            return event_id
        try:
            known = await self._pipeline.execute(
                "SET", key, str(event_id), "NX", "GET", "EX", _SAME_VISITOR_SECONDS, get=True
            )
        except RedisError:
            self._breaker.trip()
            return event_id
        if known == _COUNTED:
            return None
        return UUID(known.decode()) if known else event_id

    def _listings_of(self, tenant_id: str) -> BatchedCalls[UUID, ListingSummary | None]:
        if tenant_id not in self._listings:

            async def read(property_ids: list[UUID]) -> list[ListingSummary | None]:
                async with self._database.statements(tenant_id) as connection:
                    found = await find_properties(connection, list(set(property_ids)))
                return [found.get(property_id) for property_id in property_ids]

            self._listings[tenant_id] = BatchedCalls(read, seconds=0, most=_LISTINGS_MOST, at_once=_LISTINGS_AT_ONCE)
        return self._listings[tenant_id]

    def _batches_of(self, tenant_id: str) -> BatchedCalls[_Pending, None]:
        if tenant_id not in self._batches:

            async def save(batch: list[_Pending]) -> list[None]:
                await self._save(tenant_id, [pending.observation for pending in batch])
                await self._count([pending.key for pending in batch if pending.key])
                return [None] * len(batch)

            self._batches[tenant_id] = BatchedCalls(save, seconds=_BATCH_SECONDS, most=MOST, at_once=_AT_ONCE)
        return self._batches[tenant_id]

    async def _save(self, tenant_id: str, observations: list[Observation]) -> None:
        """Start the workflow of a batch; returns when it is saved. Raises ApiError unavailable."""
        batch = RecordActivity(command_id=new_id(), tenant_id=tenant_id, observations=tuple(observations))
        definition: Any = RecordActivityWorkflow  # the library's types have no case for an update without an argument
        start = WithStartWorkflowOperation(
            definition.run,
            batch,
            id=registry.workflow_id("record-activity", batch.command_id),
            task_queue=options.COMMANDS,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,  # a call that the library repeats joins the first
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(temporal.TENANT_ID, tenant_id),
                    SearchAttributePair(temporal.COMMAND_ID, str(batch.command_id)),
                ]
            ),
            static_summary=f"{len(observations)} observations",
        )
        outcome = "failed"
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._client.execute_update_with_start_workflow(
                    definition.saved, start_workflow_operation=start, id="saved"
                )
            outcome = "saved"
        except (
            TimeoutError,
            WorkflowUpdateFailedError,
            WorkflowUpdateRPCTimeoutOrCancelledError,
            RPCError,
            RuntimeError,  # the SDK's lazy connection reports a server that is unavailable so
        ) as error:
            log.warning("%d observations were not saved in time: %r", len(observations), error)
            raise unavailable("The command service") from error
        finally:
            for event_type, count in Counter(event_type_of(one.data) for one in observations).items():
                OBSERVATIONS.labels(event_type, outcome).inc(count)
            # The SDK keeps the same error for `workflow_handle()`, which nobody awaits: asyncio would log it as lost.
            if start._workflow_handle.done():
                start._workflow_handle.exception()

    async def _count(self, keys: list[str]) -> None:
        """Have Redis say that these views are counted; without it, a repetition is stored once all the same."""
        if not keys or self._breaker.is_open:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.set(key, _COUNTED, ex=_SAME_VISITOR_SECONDS)
                await pipe.execute()
        except RedisError:
            self._breaker.trip()
