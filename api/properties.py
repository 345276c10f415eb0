"""Listings: /api/properties."""

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Response

from adapters import event_store
from api.answers import accepted, command_headers
from api.commands import CREATE_PROPERTY, Accepted, new_id
from api.conditional import is_unchanged
from api.deps import CallerDep, Cursor, KeyDep, MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError
from api.opaque import Tampered
from api.openapi import command, query
from api.tokens import Caller
from domain.property import PUBLIC_STATUSES, CreateProperty, Property, PropertyDetails

router = APIRouter(prefix="/api/properties", tags=["properties"])


@router.post("", **command(201, Property, "OwnerUnknown"))
async def create_property(body: PropertyDetails, caller: CallerDep, parts: PartsDep, key: KeyDep) -> Response:
    """List a property. It is public at once, and the event, the history and the owner's confirmation follow."""
    who = str(caller.user_id)
    await parts.limits.count(caller.tenant_id, "commands", who, parts.settings.commands_per_minute)
    ticket = parts.commands.ticket(caller.tenant_id, who, "POST /api/properties", key, body)
    create = CreateProperty(
        command_id=ticket.command_id,
        tenant_id=caller.tenant_id,
        user_id=caller.user_id,
        issued_at=ticket.issued_at,
        fingerprint=ticket.fingerprint,
        property_id=new_id(),
        details=body,
    )
    summary = f"{body.listing_type.value} {body.property_type.value}: {body.title} ({body.location})"
    outcome = await parts.commands.run(CREATE_PROPERTY, create, create.property_id, summary[:200])
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    listed = outcome.saved.property
    headers = command_headers(parts, caller.tenant_id, create.command_id, outcome)
    headers |= {"Location": f"/api/properties/{listed.id}", "ETag": f'"{listed.version}"'}
    return Response(listed.model_dump_json(by_alias=True), 201, headers, "application/json")


@router.get("/{property_id}", **query(Property, "invalid-request", "not-found", signed_in="optional", etag=True))
async def get_property(
    property_id: UUID,
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A listing. In a status that is not public, only its owner and administrators see it."""
    found = await _visible(parts, caller.tenant_id if caller else tenant_id, property_id, caller)
    etag = f'"{found.version}"'
    if is_unchanged(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(found.model_dump_json(by_alias=True), 200, {"ETag": etag}, "application/json")


@router.get("/{property_id}/history", **query("EventPage", "invalid-request", "invalid-cursor", "not-found"))
async def property_events(
    property_id: UUID,
    caller: CallerDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[Cursor, Query()] = None,
) -> Response:
    """The events of a listing, oldest first, as they were published: for its owner and administrators."""
    found = await _visible(parts, caller.tenant_id, property_id, caller)
    if found.owner_id != caller.user_id and not caller.is_admin:
        raise ApiError("not-found")
    use = f"events:{caller.tenant_id}:{property_id}"
    after = 0
    if cursor is not None:
        try:
            after = parts.signer.open_version(use, cursor)
        except Tampered as error:
            raise ApiError("invalid-cursor") from error
    async with parts.database.statements(caller.tenant_id) as connection:
        events = await event_store.of_aggregate(connection, property_id, after_version=after, limit=limit + 1)
    more = len(events) > limit
    page: dict[str, Any] = {
        "items": events[:limit],
        "nextCursor": parts.signer.sign_version(use, events[limit - 1]["version"]) if more else None,
    }
    return Response(orjson.dumps(page), media_type="application/json")


async def _visible(parts: Parts, tenant_id: str, property_id: UUID, caller: Caller | None) -> Property:
    found = await parts.properties.find(tenant_id, property_id)
    mine = found and caller and (caller.is_admin or found.owner_id == caller.user_id)
    if found is None or not (mine or found.status in PUBLIC_STATUSES):
        raise ApiError("not-found")
    return found
