"""The state of a command: /api/commands."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response

from adapters.paging import Cursor
from api.deps import Parts, PartsDep, caller_of
from api.errors import ApiError, Problem
from api.image_progress import ImageProgress
from api.opaque import Tampered
from api.openapi import query
from domain.model import Model

router = APIRouter(prefix="/api/commands", tags=["commands"])


class Stage(Model):
    """One step of a command. FAILED is final: no delivery of some channel was accepted within four days."""

    name: str
    status: Literal["DONE", "PENDING", "FAILED"]
    at: datetime | None


class CommandResult(Model):
    """The result of a command."""

    aggregate_id: UUID
    event_ids: list[UUID]


class DeliveryOutcome(Model):
    """The deliveries of a command on one channel with the same outcome."""

    channel: Literal["email", "sms", "push", "in-app"]
    outcome: str
    """`pending`, `held` until quiet hours end, `sent`, `given_up`, `bad_address`, or what the provider has reported
    since: `deferred`, `delivered`, `failed`, `dropped`, `bounced`, `spam`."""
    count: int
    reason: str | None
    """Why one of them was given up."""


class CommandState(Model):
    """A command. It is COMPLETED once it is saved, even if later stages are pending or failed."""

    command_id: UUID
    type: str
    status: Literal["RUNNING", "COMPLETED", "REFUSED", "FAILED"]
    result: CommandResult | None
    problem: Problem | None
    stages: list[Stage]
    deliveries: list[DeliveryOutcome]
    """Of notices because of this command: to the user, and to those who have the listing as favourite."""
    images: list[ImageProgress]
    """Of a command that adds images: each of them, unless it was removed since."""
    started_at: datetime
    trace_url: str


_TOKEN_LIFETIME = timedelta(days=30)
"""Much longer than a command takes while something is unavailable."""


def progress_token(parts: Parts, tenant_id: str, user_id: UUID, command_id: UUID) -> str:
    """A token with which the state of one command of a user can be read for 30 days, without signing in."""
    expires = Cursor(datetime.now(UTC) + _TOKEN_LIFETIME, user_id)
    return parts.signer.sign(_purpose(tenant_id, command_id), expires)


@router.get(
    "/{command_id}",
    **query(CommandState, "invalid-request", "invalid-link", "not-found", "too-many-requests"),
)
async def command_state(
    command_id: UUID,
    request: Request,
    parts: PartsDep,
    token: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Of the URL in Location of the answer to DELETE /api/users/profile, whose sender can no longer"
            " sign in; good for 30 days. Without it, the request needs an access token.",
        ),
    ] = None,
) -> Response:
    """The state of a command of the caller, with a link to its trace in the Temporal UI."""
    tenant_id, user_id = _sender_of(request, parts, command_id, token)

    async def count_search() -> None:
        # Not in the limit of sending commands: who polls commands that wait for a worker may still send others.
        who, limit = str(user_id), parts.settings.commands_per_minute
        await parts.limits.count(tenant_id, "command-searches", who, limit)

    found = await parts.commands.find(tenant_id, user_id, command_id, count_search)
    if found is None:
        raise ApiError("not-found")
    return Response(orjson.dumps(found, option=orjson.OPT_UTC_Z), media_type="application/json")


def _sender_of(request: Request, parts: Parts, command_id: UUID, token: str | None) -> tuple[str, UUID]:
    """Tenant and user whose command may be read: of the token, or the caller's. Raises ApiError."""
    if token is None:
        caller = caller_of(request)
        return caller.tenant_id, caller.user_id
    hosts = parts.settings.tenant_hosts
    host = (request.url.hostname or "").rstrip(".")
    # At a host of no tenant, any tenant's users sign in.
    tenants = [hosts[host]] if host in hosts else [parts.settings.default_tenant, *hosts.values()]
    for tenant_id in tenants:
        try:
            known = parts.signer.open(_purpose(tenant_id, command_id), token)
        except Tampered:
            continue
        if known.timestamp < datetime.now(UTC):
            raise ApiError("invalid-link", "The URL was good for 30 days. The command is done.")
        return tenant_id, known.id
    raise ApiError("invalid-link", "Send the URL in Location of the answer unchanged.")


def _purpose(tenant_id: str, command_id: UUID) -> str:
    return f"command:{tenant_id}:{command_id}"
