"""Records observations: those of a few milliseconds are saved by one `record-activity` workflow."""

import asyncio
import hmac
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from temporalio.client import Client

from adapters.current_state import ListingSummary, find_properties
from adapters.postgres import Database
from adapters.redis import AutoPipeline, CircuitBreaker, RedisError
from adapters.sealing import derived_key
from adapters.settings import Settings
from adapters.telemetry import OBSERVATIONS
from api.batching import BatchedCalls
from api.commands import new_id
from api.errors import ApiError, unavailable
from api.observation_batches import save_observations
from api.tokens import Caller
from domain.observations import (
    ANONYMOUS,
    FailedLogin,
    Login,
    LoginFailed,
    Observation,
    PropertyViewed,
    RefreshTokenReused,
    ReusedToken,
    UserLoggedIn,
    View,
)

_BATCH_SECONDS = 0.004
"""A tenth of the time that saving takes. Under load batches are larger, because items wait for the running batch."""
MAX_BATCH = 200
"""Observations of one workflow: about 100 kB of input; Temporal's limit is 2 MB."""
_MAX_BATCHES = 1
"""Running batches of one tenant in one process. With two, batches are smaller and a view costs 50 % more."""
_MAX_LISTING_READS = 2
"""Concurrent reads of listings of one tenant: each takes a millisecond, and the connection pool is small."""
_MAX_LISTINGS = 500
"""Listings of one read: about 100 kB of rows."""
_SAME_VISITOR_SECONDS = 1800
"""Repeated views within half an hour are one view: the length of a session in web analytics."""
_LOGIN_WAIT_SECONDS = 1.0
"""Longer than saving usually takes. A login does not wait longer, because it must work without Temporal."""
_FAILURES_SECONDS = 1.0
"""Failed sign-ins are collected for longer than views, because nobody waits for them."""
_MAX_FAILURES = 1000
"""Failed sign-ins of one process that wait to be saved. Their limits allow far fewer; further ones are left out."""
_COUNTED = b"counted"


@dataclass(frozen=True)
class Visitor:
    """The visitor of a listing: a caller with an account, or a client address and browser."""

    caller: Caller | None
    address: str
    user_agent: str


@dataclass(frozen=True)
class _Pending:
    """An observation to save, and the Redis key to set to `counted` afterwards."""

    observation: Observation
    key: str | None = None


@dataclass(frozen=True)
class _Failure:
    """A failed sign-in: to the account of a user, or to none."""

    user_id: UUID | None
    device: str | None
    at: datetime


class Observations:
    """Records the observations of requests, and waits until they are saved."""

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
        self._failures: dict[str, BatchedCalls[_Failure, None]] = {}
        self._recordings: set[asyncio.Task[None]] = set()

    async def viewed(self, tenant_id: str, property_id: UUID, visitor: Visitor) -> None:
        """Record a view of a listing, except the owner's or a repeated one within half an hour.

        Returns once it is saved. Raises ApiError not-found or unavailable, and DatabaseUnavailable.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._viewed(tenant_id, property_id, visitor)
        except TimeoutError as error:
            raise unavailable("The command service") from error

    async def _viewed(self, tenant_id: str, property_id: UUID, visitor: Visitor) -> None:
        listing, caller = await self._listings_of(tenant_id).call(property_id), visitor.caller
        is_owner = bool(listing and caller and caller.user_id == listing.owner_id)
        if listing is None or not (listing.is_public or is_owner or (caller and caller.is_admin)):
            raise ApiError("not-found")
        if is_owner:
            return
        now = datetime.now(UTC)
        key = f"{tenant_id}:viewed:{property_id}:{self._visitor_id(visitor, now.date())}"
        event_id = await self._event_id(key)
        if event_id is None:
            return
        observation = View(
            event_id=event_id,
            aggregate_id=property_id,
            user_id=caller.user_id if caller else ANONYMOUS,
            timestamp=now,
            data=PropertyViewed(
                property_id=property_id, owner_id=listing.owner_id, title=listing.title, location=listing.location
            ),
        )
        await self._batches_of(tenant_id).call(_Pending(observation, key))

    async def record(self, tenant_id: str, observation: Observation) -> None:
        """Record an observation. Returns once it is saved. Raises ApiError unavailable."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._batches_of(tenant_id).call(_Pending(observation))
        except TimeoutError as error:
            raise unavailable("The command service") from error

    async def logged_in(
        self,
        tenant_id: str,
        user_id: UUID,
        device: str | None = None,
        is_new_device: bool = False,
        session_id: UUID | None = None,
    ) -> None:
        """Record a login. Returns once it is saved, or after a second; raises no error, so that the login succeeds.

        After the second it is still being saved, and is lost if its batch fails.
        """
        observation = Login(
            event_id=new_id(),
            aggregate_id=user_id,
            user_id=user_id,
            timestamp=datetime.now(UTC),
            data=UserLoggedIn(user_id=user_id, device=device, new_device=is_new_device, session_id=session_id),
        )
        recording = self._record(self._batches_of(tenant_id).call(_Pending(observation)))
        await asyncio.wait({recording}, timeout=_LOGIN_WAIT_SECONDS)

    def login_failed(self, tenant_id: str, user_id: UUID | None, device: str | None) -> None:
        """Record a failed login to the account of `user_id`, within about a second; nothing of it waits, or fails.

        It is called for names without an account as well, with None. Those are left out only when the batch is saved,
        and a batch of them is saved like others, so that a request does the same work in both cases.
        """
        if len(self._recordings) >= _MAX_FAILURES:
            OBSERVATIONS.labels("LOGIN_FAILED", "failed").inc()
            return
        self._record(self._failures_of(tenant_id).call(_Failure(user_id, device, datetime.now(UTC))))

    def token_reused(self, tenant_id: str, user_id: UUID, session_id: UUID) -> None:
        """Record that a refresh token was used twice, which has closed its session. Nothing of it waits, or fails."""
        observation = ReusedToken(
            event_id=new_id(),
            aggregate_id=user_id,
            user_id=user_id,
            timestamp=datetime.now(UTC),
            data=RefreshTokenReused(user_id=user_id, session_id=session_id),
        )
        self._record(self._batches_of(tenant_id).call(_Pending(observation)))

    def _record(self, call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a call after its request, if need be."""
        recording = asyncio.create_task(call)
        self._recordings.add(recording)
        recording.add_done_callback(self._recorded)
        return recording

    def _recorded(self, recording: asyncio.Task[None]) -> None:
        self._recordings.discard(recording)
        # Read the exception, which is logged and counted; otherwise asyncio logs it as never retrieved.
        if not recording.cancelled():
            recording.exception()

    async def close(self) -> None:
        """Wait until the pending batches are saved; those of logins may be left after their requests."""
        await asyncio.sleep(0)  # a recording that has just begun is not in its batch yet
        await asyncio.gather(*(batches.close() for batches in self._batches.values()))
        await asyncio.gather(*(batches.close() for batches in self._failures.values()))

    def _visitor_id(self, visitor: Visitor, day: date) -> str:
        """The id of the account, or a hash of address and browser with a salt of the day: days cannot be linked."""
        if visitor.caller:
            return str(visitor.caller.user_id)
        browser = f"{visitor.address} {visitor.user_agent}".encode()
        return hmac.digest(self._salt(day), browser, "sha256")[:16].hex()

    async def _event_id(self, key: str) -> UUID | None:
        """The event id of a view; None if the view is counted already.

        Redis keeps the id of the first request. Until the view is saved, a repetition has that id and is stored
        once, so a 204 always means that the view is saved. Without Redis each request gets its own id, and
        repeated views are counted.
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

            self._listings[tenant_id] = BatchedCalls(
                read, seconds=0, max_size=_MAX_LISTINGS, max_concurrent=_MAX_LISTING_READS
            )
        return self._listings[tenant_id]

    def _batches_of(self, tenant_id: str) -> BatchedCalls[_Pending, None]:
        if tenant_id not in self._batches:

            async def save(batch: list[_Pending]) -> list[None]:
                await save_observations(self._client, tenant_id, [one.observation for one in batch], self._wait_seconds)
                await self._set_counted([pending.key for pending in batch if pending.key])
                return [None] * len(batch)

            self._batches[tenant_id] = BatchedCalls(
                save, seconds=_BATCH_SECONDS, max_size=MAX_BATCH, max_concurrent=_MAX_BATCHES
            )
        return self._batches[tenant_id]

    def _failures_of(self, tenant_id: str) -> BatchedCalls[_Failure, None]:
        if tenant_id not in self._failures:

            async def save(batch: list[_Failure]) -> list[None]:
                of_accounts = [_failed_login(one, one.user_id) for one in batch if one.user_id]
                await save_observations(self._client, tenant_id, of_accounts, self._wait_seconds)
                return [None] * len(batch)

            self._failures[tenant_id] = BatchedCalls(
                save, seconds=_FAILURES_SECONDS, max_size=MAX_BATCH, max_concurrent=_MAX_BATCHES
            )
        return self._failures[tenant_id]

    async def _set_counted(self, keys: list[str]) -> None:
        """Set keys to `counted`. If that fails, a repetition has the same event id and is stored once anyway."""
        if not keys or self._breaker.is_open:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.set(key, _COUNTED, ex=_SAME_VISITOR_SECONDS)
                await pipe.execute()
        except RedisError:
            self._breaker.trip()


def _failed_login(failure: _Failure, user_id: UUID) -> FailedLogin:
    return FailedLogin(
        event_id=new_id(),
        aggregate_id=user_id,
        user_id=user_id,
        timestamp=failure.at,
        data=LoginFailed(user_id=user_id, device=failure.device),
    )
