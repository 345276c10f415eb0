"""The state of a command: /api/commands."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Response

from api.deps import CallerDep, PartsDep
from api.errors import ApiError, Problem
from api.openapi import query
from domain.model import Model

router = APIRouter(prefix="/api/commands", tags=["commands"])


class Stage(Model):
    """One step of a command. FAILED is final: the mail server refused the mail, or did not accept it for four days."""

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
    started_at: datetime
    trace_url: str


@router.get("/{command_id}", **query(CommandState, "invalid-request", "not-found", "too-many-requests"))
async def command_state(command_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """The state of a command of the caller, with a link to its trace in the Temporal UI."""

    async def count_search() -> None:
        # Not in the limit of sending commands: who polls commands that wait for a worker may still send others.
        who, limit = str(caller.user_id), parts.settings.commands_per_minute
        await parts.limits.count(caller.tenant_id, "command-searches", who, limit)

    found = await parts.commands.find(caller.tenant_id, caller.user_id, command_id, count_search)
    if found is None:
        raise ApiError("not-found")
    return Response(orjson.dumps(found, option=orjson.OPT_UTC_Z), media_type="application/json")
