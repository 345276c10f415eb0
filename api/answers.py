"""How a command's outcome is answered."""

from typing import Any
from uuid import UUID

import orjson
from fastapi import Response

from api.commands import Accepted, Done
from api.deps import Parts, consistency_use
from projections.history import Place


def accepted(outcome: Accepted) -> Response:
    """202: the command is durable, its answer will be at its Location."""
    location = f"/api/commands/{outcome.command_id}"
    body = {"commandId": str(outcome.command_id), "status": "RUNNING", "location": location}
    headers = {"Location": location, "Command-Id": str(outcome.command_id), "Retry-After": "1"}
    return Response(orjson.dumps(body), 202, headers, "application/json")


def command_headers(parts: Parts, tenant_id: str, command_id: UUID, outcome: Done[Any]) -> dict[str, str]:
    """What every answer to a command carries."""
    newest = outcome.saved.events[-1]
    user_id = str(newest.user_id)
    signed = parts.signer.sign(consistency_use(tenant_id, user_id), Place(newest.timestamp, newest.event_id))
    headers = {"Command-Id": str(command_id), "Consistency-Token": f"{user_id}.{signed}"}
    return headers | ({"Idempotency-Replayed": "true"} if outcome.repeated else {})
