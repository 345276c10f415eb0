"""Listings: /api/properties."""

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Response

from adapters import event_store
from adapters.current_state import find_property
from api import listings
from api.answers import IfMatchDep, NoBody, SenderDep, answered
from api.bodies import BodyOf
from api.commands import new_id
from api.conditional import is_unchanged
from api.deps import CallerDep, CursorText, MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError
from api.opaque import Tampered
from api.openapi import CHANGE, command, query
from api.property_answers import CountedProperty, answered_property, as_json, numbers_of
from api.tokens import Caller
from domain import fields as f
from domain.favorite_commands import FavoriteProperty, UnfavoriteProperty
from domain.model import Model
from domain.property import Property, PropertyDetails, PropertyPatch
from domain.property_commands import (
    ChangePropertyStatus,
    CreateProperty,
    DeleteProperty,
    FeatureProperty,
    PatchProperty,
    UpdateProperty,
    VerifyProperty,
)
from domain.property_status import PropertyStatus

router = APIRouter(prefix="/api/properties", tags=["properties"])
# Before the routes by id, for which `favorites` would be an id that is not valid.
router.routes.extend(listings.router.routes)


class NewProperty(PropertyDetails):
    """A listing to be made, public at once unless it is a draft."""

    status: Literal[PropertyStatus.ACTIVE, PropertyStatus.DRAFT] = PropertyStatus.ACTIVE


class StatusChange(Model):
    status: PropertyStatus
    reason: f.Note | None = None


class Switch(Model):
    value: bool


@router.post("", **command(201, CountedProperty, "account-closed"))
async def create_property(body: BodyOf[NewProperty], sender: SenderDep) -> Response:
    """List a property. Unless it is a draft, it is public at once; event, history and the owner's mail follow."""
    property_id = new_id()
    summary = f"{body.listing_type.value} {body.property_type.value}: {body.title} ({body.location})"
    details = PropertyDetails.model_construct(**{name: getattr(body, name) for name in PropertyDetails.model_fields})
    outcome = await sender.send(
        CreateProperty, body, summary, property_id=property_id, details=details, status=body.status
    )
    return await answered_property(sender, outcome, 201, location="/api/properties/{id}")


@router.put("/{property_id}", **command(200, CountedProperty, *CHANGE, "listing-closed"))
async def update_property(
    property_id: UUID, body: BodyOf[PropertyDetails], sender: SenderDep, expected: IfMatchDep
) -> Response:
    """Say everything of a listing anew, as its owner or an administrator."""
    summary = f"{body.title} ({body.location})"
    outcome = await sender.send(
        UpdateProperty, body, summary, property_id=property_id, expected_versions=expected, details=body
    )
    return await answered_property(sender, outcome)


@router.patch("/{property_id}", **command(200, CountedProperty, *CHANGE, "listing-closed"))
async def patch_property(
    property_id: UUID, body: BodyOf[PropertyPatch], sender: SenderDep, expected: IfMatchDep
) -> Response:
    """Say some things of a listing anew (JSON Merge Patch, RFC 7396): absent fields stay, `null` removes."""
    summary = ", ".join(sorted(body.model_fields_set)) or "nothing"
    outcome = await sender.send(
        PatchProperty, body, summary, property_id=property_id, expected_versions=expected, changes=body
    )
    return await answered_property(sender, outcome)


@router.delete("/{property_id}", **command(204, None, *CHANGE, body=False))
async def delete_property(property_id: UUID, sender: SenderDep, expected: IfMatchDep) -> Response:
    """Delete a listing for good. Its events stay, for its owner and administrators."""
    outcome = await sender.send(DeleteProperty, NoBody(), "delete", property_id=property_id, expected_versions=expected)
    return answered(sender, outcome)


@router.put("/{property_id}/status", **command(200, CountedProperty, *CHANGE, "status-refused"))
async def change_property_status(
    property_id: UUID, body: BodyOf[StatusChange], sender: SenderDep, expected: IfMatchDep
) -> Response:
    """Move a listing to another status. Which may follow which, and by whom, is a table in the documentation."""
    fields = {"status": body.status, "reason": body.reason}
    outcome = await sender.send(
        ChangePropertyStatus, body, body.status.value, property_id=property_id, expected_versions=expected, **fields
    )
    return await answered_property(sender, outcome)


@router.put("/{property_id}/featured", **command(200, CountedProperty, *CHANGE))
async def feature_property(
    property_id: UUID, body: BodyOf[Switch], sender: SenderDep, expected: IfMatchDep
) -> Response:
    """Have a listing stand out, or no longer: for administrators."""
    outcome = await sender.send(
        FeatureProperty, body, str(body.value), property_id=property_id, expected_versions=expected, value=body.value
    )
    return await answered_property(sender, outcome)


@router.put("/{property_id}/verified", **command(200, CountedProperty, *CHANGE))
async def verify_property(property_id: UUID, body: BodyOf[Switch], sender: SenderDep, expected: IfMatchDep) -> Response:
    """Vouch for a listing, or no longer: for administrators."""
    outcome = await sender.send(
        VerifyProperty, body, str(body.value), property_id=property_id, expected_versions=expected, value=body.value
    )
    return await answered_property(sender, outcome)


@router.put("/{property_id}/favorite", **command(204, None, "account-closed", "not-found", body=False))
async def favorite_property(property_id: UUID, sender: SenderDep) -> Response:
    """Add a listing to one's favourites. Repeating it changes nothing."""
    outcome = await sender.send(FavoriteProperty, NoBody(), str(property_id), property_id=property_id)
    return answered(sender, outcome, 204)


@router.delete("/{property_id}/favorite", **command(204, None, "account-closed", "not-found", body=False))
async def unfavorite_property(property_id: UUID, sender: SenderDep) -> Response:
    """Remove a listing from one's favourites, even one that is deleted. Repeating it changes nothing."""
    outcome = await sender.send(UnfavoriteProperty, NoBody(), str(property_id), property_id=property_id)
    return answered(sender, outcome, 204)


@router.get(
    "/{property_id}", **query(CountedProperty, "invalid-request", "not-found", "gone", signed_in="optional", etag=True)
)
async def get_property(
    property_id: UUID,
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A listing. In a status that is not public, only its owner and administrators see it."""
    found, numbers = await _visible(parts, caller.tenant_id if caller else tenant_id, property_id, caller)
    etag = f'"{found.version}"'
    if is_unchanged(if_none_match, found.version):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(as_json(found, numbers), 200, {"ETag": etag}, "application/json")


@router.get("/{property_id}/history", **query("EventPage", "invalid-request", "invalid-cursor", "not-found"))
async def property_events(
    property_id: UUID,
    caller: CallerDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[CursorText, Query()] = None,
) -> Response:
    """The events of a listing, oldest first, as they were published: for its owner and administrators.

    They stay when the listing is deleted.
    """
    use = f"events:{caller.tenant_id}:{property_id}"
    after = 0
    if cursor is not None:
        try:
            after = parts.signer.open_version(use, cursor)
        except Tampered as error:
            raise ApiError("invalid-cursor") from error
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await find_property(connection, property_id)
        owner = found.owner_id if found else await event_store.owner_of_deleted(connection, property_id)
        if owner is None or not (caller.is_admin or caller.user_id == owner):
            raise ApiError("not-found")
        events = await event_store.of_aggregate(connection, property_id, after_version=after, limit=limit + 1)
    more = len(events) > limit
    page: dict[str, Any] = {
        "items": events[:limit],
        "nextCursor": parts.signer.sign_version(use, events[limit - 1]["version"]) if more else None,
    }
    return Response(orjson.dumps(page), media_type="application/json")


async def _visible(
    parts: Parts, tenant_id: str, property_id: UUID, caller: Caller | None
) -> tuple[Property, dict[str, int]]:
    """The listing with its numbers, for somebody who may see it.

    Raises ApiError not-found, or gone for who owned a deleted one.
    """
    async with parts.database.statements(tenant_id) as connection:
        found = await find_property(connection, property_id)
        if found is None:
            deleted_from = await event_store.owner_of_deleted(connection, property_id) if caller else None
            raise ApiError("gone" if caller and deleted_from == caller.user_id else "not-found")
        if not (found.is_public or (caller and (caller.is_admin or caller.user_id == found.owner_id))):
            raise ApiError("not-found")
        return found, (await numbers_of(connection, [property_id]))[property_id]
