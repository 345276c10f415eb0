"""Limits of failed sign-ins, by account, by client address and by both, with growing pauses; and of wrong codes.

An attempt is counted as failed before its password is verified, and is taken back when it succeeds: of concurrent
attempts no more are verified than of successive ones. Names without an account are counted like others.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import exists, or_, select

from adapters.postgres import Database, DatabaseUnavailable
from adapters.redis import AutoPipeline, RedisError
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import sessions, users
from api.errors import ApiError, unavailable
from api.quotas import Quota, report

_FAILURES = frozenset({"invalid-credentials", "invalid-code", "wrong-password", "wrong-code", "idempotency-key-reused"})
"""The refusals that a guess gets. Others, such as `unavailable`, say nothing about the password."""
_TRUST_SECONDS = 86_400
"""Long enough to sign in after following a link; from then on a session makes the address known."""


@dataclass(frozen=True)
class _Limit:
    """Failures are counted in a window that begins with the first one. The last allowed one begins a pause, and each
    later one a pause of twice the length; while they go on, so does the window."""

    name: str
    failures: int
    pause_seconds: int
    longest_seconds: int
    window_seconds: int

    @property
    def arguments(self) -> tuple[int, ...]:
        return self.failures, self.pause_seconds * 1000, self.longest_seconds * 1000, self.window_seconds


def _limits(settings: Settings) -> tuple[_Limit, ...]:
    return (
        # Of one account from one address: some 100 guesses a day. Only who shares the address can lock others out.
        _Limit("failed-logins", settings.login_failures, 30, 900, 3600),
        # Many share an address, and a success there proves nothing about the others: short pauses.
        _Limit("failed-logins-address", settings.login_failures_per_address, 30, 300, 900),
        # From all addresses. The owner at an unknown address waits as well, so at most a minute: some 1,500 guesses a
        # day for however many addresses.
        _Limit("failed-logins-account", settings.login_failures_per_account, 5, 60, 3600),
    )


_PAIR, _ADDRESS, _ACCOUNT = 0, 1, 2

# KEYS: the trust of the address, then of each limit the counter and the pause.
# ARGV: 1 if the address is known to the account, then of each limit its four numbers.
# Returns whether the attempt is refused, and of each limit: its count, the milliseconds of its window and of its pause,
# and whether the attempt was counted.
_ADMIT = """
local known = ARGV[1] == '1' or redis.call('EXISTS', KEYS[1]) == 1
local limits, refused = (#KEYS - 1) / 2, 0
local function applies(limit) return not (known and limit == limits) end
for limit = 1, limits do
  if applies(limit) and redis.call('PTTL', KEYS[2 * limit + 1]) > 0 then refused = 1 end
end
local answer = {refused}
for limit = 1, limits do
  local counter, pause, at = KEYS[2 * limit], KEYS[2 * limit + 1], 4 * limit - 2
  local counted = 0
  if refused == 0 and applies(limit) then
    counted = 1
    local over = redis.call('INCR', counter) - tonumber(ARGV[at])
    if over >= 0 or redis.call('TTL', counter) < 0 then redis.call('EXPIRE', counter, ARGV[at + 3]) end
    if over >= 0 then
      local length = math.min(tonumber(ARGV[at + 1]) * 2 ^ math.min(over, 20), tonumber(ARGV[at + 2]))
      redis.call('SET', pause, 1, 'PX', string.format('%d', length))
    end
  end
  answer[limit + 1] = {tonumber(redis.call('GET', counter) or 0), redis.call('PTTL', counter),
                       redis.call('PTTL', pause), counted}
end
return answer
"""

# KEYS: the counter and the pause of each limit. ARGV: of each limit what to do: `keep`, `take-back` one failure,
# `take-back-pause` with the pause that it began, or `forget` all.
_SETTLE = """
for limit = 1, #ARGV do
  local counter, pause, what = KEYS[2 * limit - 1], KEYS[2 * limit], ARGV[limit]
  if what == 'forget' then redis.call('DEL', counter, pause)
  elseif what ~= 'keep' then
    if tonumber(redis.call('GET', counter) or 0) > 0 then redis.call('DECR', counter) end
    if what == 'take-back-pause' then redis.call('DEL', pause) end
  end
end
"""


@dataclass(frozen=True)
class _State:
    """A limit after an attempt."""

    limit: _Limit
    count: int
    window_milliseconds: int
    pause_milliseconds: int
    is_counted: bool

    @property
    def pause_seconds(self) -> int:
        return math.ceil(max(0, self.pause_milliseconds) / 1000)

    @property
    def taking_back(self) -> str:
        if not self.is_counted:
            return "keep"
        return "take-back-pause" if self.count >= self.limit.failures else "take-back"

    def quota(self, taken_back: int = 0) -> Quota:
        """`taken_back`: how many failures of `count` were taken back."""
        limit, count = self.limit, self.count - taken_back
        seconds = (0 if taken_back else self.pause_seconds) or math.ceil(self.window_milliseconds / 1000)
        return Quota(limit.name, limit.failures, limit.window_seconds, max(0, limit.failures - count), max(1, seconds))


class SignInLimits:
    """Counts attempts to sign in with a password. Without Redis every attempt is refused."""

    def __init__(self, redis: Redis, database: Database, keyring: Keyring, settings: Settings) -> None:
        # A flood of attempts must not use up the connections of the pool.
        self._pipeline = AutoPipeline(redis)
        self._database = database
        self._keyring = keyring
        self._limits = _limits(settings)
        self._codes = (_Limit("failed-codes", settings.code_failures, 60, 3600, 86_400),)

    @asynccontextmanager
    async def attempt(self, tenant_id: str, name: str, address: str) -> AsyncIterator[None]:
        """Surrounds the verification of a password of `name`, an e-mail address or username in lower case.

        When the body raises nothing, the failures of the name from this address are forgotten; an ApiError of a wrong
        password or code is a failure, and other errors count as no attempt. Raises ApiError too-many-requests, or
        unavailable without Redis.
        """
        trust, keys = self._keys(tenant_id, name, address)
        states = await self._admitted(tenant_id, name, address, trust, keys)
        for state in states:
            report(state.quota())
        try:
            yield
        except (ApiError, DatabaseUnavailable) as error:
            if not (isinstance(error, ApiError) and error.kind in _FAILURES):
                await self._settled(keys, states, [state.taking_back for state in states])
            raise
        taken_back = [state.taking_back for state in states]
        taken_back[_PAIR] = "forget"
        await self._settled(keys, states, taken_back)

    @asynccontextmanager
    async def code(self, tenant_id: str, user_id: UUID) -> AsyncIterator[None]:
        """Surrounds the verification of a code of an account, whose password has matched.

        Wrong codes are counted by account, whatever the name and the address. A right one takes back only its own
        count: otherwise each sign-in of the owner would give further guesses to who knows the password. Raises ApiError
        too-many-requests, or unavailable without Redis.
        """
        counter = f"{tenant_id}:failed-codes:{user_id}"
        keys = [counter, f"{counter}:pause"]
        # No address is spared, so there is no trust to look up; the key is never set.
        refused, [state] = await self._count(f"{counter}:trust", keys, False, self._codes)
        report(state.quota())
        if refused:
            detail = "Codes were wrong too often. Wait for Retry-After seconds; reset the password if it was not you."
            raise ApiError("too-many-requests", detail, headers={"Retry-After": str(max(1, state.pause_seconds))})
        try:
            yield
        except (ApiError, DatabaseUnavailable) as error:
            if not (isinstance(error, ApiError) and error.kind in _FAILURES):
                await self._settled(keys, [state], [state.taking_back])
            raise
        await self._settled(keys, [state], [state.taking_back])

    async def trust(self, tenant_id: str, user_id: UUID, address: str) -> None:
        """Remember for a day that the owner of an account is at `address`: they have used a link of a mail.

        Failures from elsewhere then do not keep them from signing in there. Nothing is remembered without Redis.
        """
        query = select(users.c.email_key, users.c.username_key).where(users.c.user_id == user_id)
        async with self._database.statements(tenant_id) as connection:
            names = (await connection.execute(query)).one_or_none() or ()
        with suppress(RedisError):
            for name in names:
                trust, _ = self._keys(tenant_id, name, address)
                await self._pipeline.execute("SET", trust, 1, "EX", _TRUST_SECONDS)

    async def _admitted(self, tenant_id: str, name: str, address: str, trust: str, keys: Sequence[str]) -> list[_State]:
        refused, states = await self._count(trust, keys, False, self._limits)
        if refused and not any(states[limit].pause_seconds for limit in (_PAIR, _ADDRESS)):
            # Only the account's failures refuse it: do they come from elsewhere? Asked for unknown names as well.
            is_known = await self._is_known(tenant_id, name, address)
            refused, states = await self._count(trust, keys, is_known, self._limits)
        if refused:
            for state in states:
                report(state.quota())
            seconds = str(max(1, *(state.pause_seconds for state in states)))
            detail = "Sign-ins have failed too often. Try again after Retry-After seconds, or reset the password."
            raise ApiError("too-many-requests", detail, headers={"Retry-After": seconds})
        return states

    async def _count(
        self, trust: str, keys: Sequence[str], is_known: bool, limits: Sequence[_Limit]
    ) -> tuple[bool, list[_State]]:
        arguments = [int(is_known), *(number for limit in limits for number in limit.arguments)]
        try:
            refused, *found = await self._pipeline.execute("EVAL", _ADMIT, 1 + len(keys), trust, *keys, *arguments)
        except RedisError as error:
            raise unavailable("The rate limiter") from error
        return bool(refused), [_State(limit, *row) for limit, row in zip(limits, found, strict=True)]

    async def _settled(self, keys: Sequence[str], states: Sequence[_State], what: Sequence[str]) -> None:
        try:
            await self._pipeline.execute("EVAL", _SETTLE, len(keys), *keys, *what)
        except RedisError:
            return  # one failure too many is counted, for an hour at most
        for state, done in zip(states, what, strict=True):
            if done != "keep":
                report(state.quota(state.count if done == "forget" else 1))

    async def _is_known(self, tenant_id: str, name: str, address: str) -> bool:
        """Whether the account of this name has had a session from this address in the last 30 days."""
        query = select(
            exists().where(
                sessions.c.user_id == users.c.user_id,
                sessions.c.address_digest == self._keyring.client_digest(address),
                or_(users.c.email_key == name, users.c.username_key == name),
            )
        )
        async with self._database.statements(tenant_id) as connection:
            return bool((await connection.execute(query)).scalar_one())

    def _keys(self, tenant_id: str, name: str, address: str) -> tuple[str, list[str]]:
        """The key of the trust, and of each limit the counter and the pause. They contain no name and no address."""
        at, account = self._keyring.client_digest(address).hex()[:32], self._keyring.name_digest(name)
        prefix, pair = f"{tenant_id}:failed-logins", f"{account}:{at}"
        found = (f"{prefix}:pair:{pair}", f"{prefix}:address:{at}", f"{prefix}:account:{account}")
        return f"{prefix}:trust:{pair}", [key for counter in found for key in (counter, f"{counter}:pause")]
