"""Exports of the caller's history and data: /api/users/export."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from adapters.exports import EXPORT_PATH, Export, find_by_token, read_export_token
from adapters.objects import ObjectsUnavailable
from api.answers import NoBody, SenderDep, accepted
from api.commands import Accepted
from api.deps import Parts, PartsDep, address_of, tenant_of
from api.errors import ApiError, responses, unavailable
from api.limits import DAY
from api.openapi import AcceptedCommand, command
from domain.user_commands import ExportHistory

router = APIRouter(tags=["users"])

_PER_DAY = 5
"""Exports of one account: each reads all that one has done, and sends a mail."""
_MEDIA_TYPE = "application/x-ndjson"
_Token = Annotated[
    str, Query(max_length=200, pattern="^[A-Za-z0-9_.-]+$", description="Of the link in a mail; it ends after a day")
]
_FILE: dict[str, Any] = {
    "description": "One JSON object on each line: its `kind`, and its `data`",
    "content": {_MEDIA_TYPE: {"schema": {"type": "string"}}},
}


@router.post(EXPORT_PATH, **command(202, AcceptedCommand, "account-closed", "not-found", "export-running"))
async def export_history(sender: SenderDep) -> Response:
    """Write the caller's history and data to a file, and mail a link to it that ends after a day.

    The file has one JSON object on each line, in plain values: account, preferences, sessions, passkeys, subscribed
    browsers, listings, favourites, notifications, searches, and the whole history.
    """
    parts, caller = sender.parts, sender.caller
    await parts.limits.count(caller.tenant_id, "exports", str(caller.user_id), _PER_DAY, seconds=DAY)
    outcome = await sender.send(ExportHistory, NoBody(), "Export the history")
    command_id = outcome.command_id if isinstance(outcome, Accepted) else outcome.saved.command_id
    return accepted(Accepted(command_id))


@router.get(
    EXPORT_PATH,
    response_class=StreamingResponse,
    responses={200: _FILE, **responses("invalid-request", "invalid-link", "too-many-requests", "unavailable")},
)
async def download_export(request: Request, parts: PartsDep, token: _Token) -> Response:
    """The file of an export, by the link in its mail, without signing in."""
    await parts.limits.count(tenant_of(request), "export-link", address_of(request), parts.settings.links_per_minute)
    export = await _linked(request, parts, token)
    try:
        content = await parts.objects.get(export.key)
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error
    if content is None:
        raise ApiError("invalid-link", "The file is deleted. Ask for a new export.")
    headers = {
        "Content-Disposition": f'attachment; filename="hyderabad-infra-{export.requested_at:%Y-%m-%d}.jsonl"',
        # Not that of the row: another attempt may have written the file since, with later data.
        "Content-Length": str(content.size),
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",  # the URL has the token
    }
    return StreamingResponse(content.chunks, 200, headers, _MEDIA_TYPE)


async def _linked(request: Request, parts: Parts, token: str) -> Export:
    """The export of a link. Raises ApiError invalid-link, also for a link of another portal than the host's."""
    tenant_id, hashed = read_export_token(token)
    host = (request.url.hostname or "").rstrip(".")
    if parts.settings.tenant_hosts.get(host, tenant_id) == tenant_id:
        async with parts.database.statements(tenant_id) as connection:
            export = await find_by_token(connection, hashed, datetime.now(UTC))
        if export:
            return export
    raise ApiError("invalid-link", "It has ended, or is not complete. Ask for a new export.")
