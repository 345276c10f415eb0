"""Tickets for streams: browsers send no access token with an event stream or a WebSocket, and URLs are logged."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import Redis

from adapters.redis import AutoPipeline, RedisError
from api.errors import ApiError, unavailable
from api.tokens import Caller
from domain.roles import UserRole

TICKET_SECONDS = 30
"""Longer than a page takes to open a stream."""


@dataclass(frozen=True)
class Ticket:
    """What a ticket is good for: a stream of the caller, with the messages after a position."""

    caller: Caller
    position: str


class Tickets:
    """Tickets in Redis, each for one stream of one session. Without Redis there are none."""

    def __init__(self, redis: Redis) -> None:
        self._pipeline = AutoPipeline(redis)

    async def issue(self, caller: Caller, position: str) -> tuple[str, datetime]:
        """A ticket, and when it expires. Raises ApiError unavailable."""
        ticket = f"{caller.tenant_id}.{secrets.token_urlsafe(32)}"
        content = {
            "userId": caller.user_id,
            "role": caller.role.value,
            "sessionId": caller.session_id,
            "expires": caller.expires,
            "position": position,
        }
        await self._execute("SET", _key(caller.tenant_id, ticket), orjson.dumps(content), "EX", TICKET_SECONDS)
        return ticket, datetime.now(UTC) + timedelta(seconds=TICKET_SECONDS)

    async def use(self, ticket: str, host_tenant: str | None) -> Ticket:
        """Use up a ticket; `host_tenant` is the tenant of the host, None for any. Raises ApiError invalid-ticket or
        unavailable.

        One command reads and deletes it, so of two that use it at once, one is refused.
        """
        tenant_id = ticket.partition(".")[0]
        if host_tenant not in {None, tenant_id}:
            raise ApiError("invalid-ticket", "The ticket is for another host.")
        found = await self._execute("GETDEL", _key(tenant_id, ticket))
        if found is None:
            raise ApiError("invalid-ticket")
        content = orjson.loads(found)
        caller = Caller(
            user_id=UUID(content["userId"]),
            tenant_id=tenant_id,
            role=UserRole(content["role"]),
            session_id=UUID(content["sessionId"]),
            expires=content["expires"],
        )
        return Ticket(caller, content["position"])

    async def _execute(self, *command: Any) -> Any:
        try:
            return await self._pipeline.execute(*command)
        except RedisError as error:
            raise unavailable("The store of tickets") from error


def _key(tenant_id: str, ticket: str) -> str:
    """Who can read Redis learns no ticket."""
    return f"{tenant_id}:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
