"""Commands and queries on a listing: /api/properties."""

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Response

from adapters import duplicates, event_store
from adapters.current_state import find_property
from api import documents, imports, listings
from api.answers import NoBody, SenderDep, answered
from api.bodies import BodyOf
from api.commands import new_id
from api.conditional import is_not_wanted
from api.deps import CallerDep, CursorText, MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError
from api.openapi import CHANGE, command, query
from api.paging import opened, page
from api.property_answers import CountedProperty, answered_property, as_json, json_counts_of, json_images_of
from api.property_changes import ChangerDep
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
# Before `/{property_id}`, which would match `favorites` as an invalid id.
router.routes.extend([*listings.router.routes, *imports.start_router.routes, *documents.listing_router.routes])


class NewProperty(PropertyDetails):
    """A new listing: public at once, or a draft."""

    status: Literal[PropertyStatus.ACTIVE, PropertyStatus.DRAFT] = PropertyStatus.ACTIVE


class StatusChange(Model):
    status: PropertyStatus
    reason: f.Note | None = None


class Switch(Model):
    value: bool


@router.post("", **command(201, CountedProperty, "account-closed", "email-not-verified"))
async def create_property(body: BodyOf[NewProperty], sender: SenderDep) -> Response:
    """List a property. It is public at once unless it is a draft. A history entry and a mail to the owner follow."""
    property_id = new_id()
    summary = f"{body.listing_type.value} {body.property_type.value}: {body.title} ({body.location})"
    details = PropertyDetails.model_construct(**{name: getattr(body, name) for name in PropertyDetails.model_fields})
    outcome = await sender.send(
        CreateProperty, body, summary, property_id=property_id, details=details, status=body.status
    )
    return await answered_property(sender, outcome, 201, location="/api/properties/{id}")


@router.put("/{property_id}", **command(200, CountedProperty, *CHANGE, "listing-closed"))
async def update_property(body: BodyOf[PropertyDetails], changer: ChangerDep) -> Response:
    """Replace the details of a listing. For its owner and administrators."""
    return await changer.send(UpdateProperty, body, f"{body.title} ({body.location})", details=body)


@router.patch("/{property_id}", **command(200, CountedProperty, *CHANGE, "listing-closed"))
async def patch_property(body: BodyOf[PropertyPatch], changer: ChangerDep) -> Response:
    """Change some fields of a listing (JSON Merge Patch, RFC 7396): absent fields stay, `null` removes."""
    summary = ", ".join(sorted(body.model_fields_set)) or "nothing"
    return await changer.send(PatchProperty, body, summary, changes=body)


@router.delete("/{property_id}", **command(204, None, *CHANGE))
async def delete_property(changer: ChangerDep) -> Response:
    """Delete a listing. Its events can still be read by its owner and administrators."""
    return await changer.send(DeleteProperty, NoBody(), "delete")


@router.put("/{property_id}/status", **command(200, CountedProperty, *CHANGE, "status-refused", "email-not-verified"))
async def change_property_status(body: BodyOf[StatusChange], changer: ChangerDep) -> Response:
    """Change the status of a listing. docs/reference/statuses.md is the table of transitions and who may make each."""
    return await changer.send(ChangePropertyStatus, body, body.status.value, status=body.status, reason=body.reason)


@router.put("/{property_id}/featured", **command(200, CountedProperty, *CHANGE))
async def feature_property(body: BodyOf[Switch], changer: ChangerDep) -> Response:
    """Feature a listing, or end it. For administrators."""
    return await changer.send(FeatureProperty, body, str(body.value), value=body.value)


@router.put("/{property_id}/verified", **command(200, CountedProperty, *CHANGE))
async def verify_property(body: BodyOf[Switch], changer: ChangerDep) -> Response:
    """Verify a listing, or withdraw it. For administrators."""
    return await changer.send(VerifyProperty, body, str(body.value), value=body.value)


@router.put("/{property_id}/favorite", **command(204, None, "account-closed", "not-found"))
async def favorite_property(property_id: UUID, sender: SenderDep) -> Response:
    """Add a listing to the caller's favourites. Idempotent."""
    outcome = await sender.send(FavoriteProperty, NoBody(), str(property_id), property_id=property_id)
    return answered(sender, outcome, 204)


@router.delete("/{property_id}/favorite", **command(204, None, "account-closed", "not-found"))
async def unfavorite_property(property_id: UUID, sender: SenderDep) -> Response:
    """Remove a listing from the caller's favourites, even if it is deleted. Idempotent."""
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
    """A listing. One that is not public is shown to its owner and administrators only."""
    found, images, counts = await _visible(parts, caller.tenant_id if caller else tenant_id, property_id, caller)
    etag = f'"{found.version}"'
    if is_not_wanted(if_none_match):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(as_json(found, images, counts), 200, {"ETag": etag}, "application/json")


@router.get("/{property_id}/history", **query("EventPage", "invalid-request", "invalid-cursor", "not-found"))
async def property_events(
    property_id: UUID,
    caller: CallerDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[CursorText, Query()] = None,
) -> Response:
    """The events of a listing, also of a deleted one, oldest first. For its owner and administrators."""
    purpose = f"events:{caller.tenant_id}:{property_id}"
    after = opened(parts.signer.open_version, purpose, cursor) or 0
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await find_property(connection, property_id)
        owner = found.owner_id if found else await event_store.owner_of_deleted(connection, property_id)
        if owner is None or not (caller.is_admin or caller.user_id == owner):
            raise ApiError("not-found")
        events = await event_store.of_aggregate(connection, property_id, after_version=after, limit=limit + 1)
    more = len(events) > limit
    next_cursor = parts.signer.sign_version(purpose, events[limit - 1]["version"]) if more else None
    return page((orjson.dumps(event) for event in events[:limit]), next_cursor)


async def _visible(
    parts: Parts, tenant_id: str, property_id: UUID, caller: Caller | None
) -> tuple[Property, list[dict[str, Any]], dict[str, Any]]:
    """The listing, its images, its counts, and for its owner its possible duplicates, if the caller may see it.

    Raises ApiError not-found, or gone if the caller was the owner of a deleted listing.
    """
    async with parts.database.statements(tenant_id) as connection:
        found = await find_property(connection, property_id)
        if found is None:
            deleted_from = await event_store.owner_of_deleted(connection, property_id) if caller else None
            if caller and deleted_from == caller.user_id:
                raise ApiError("gone", f"Read its events at /api/properties/{property_id}/history.")
            raise ApiError("not-found")
        if not (found.is_public or (caller and (caller.is_admin or caller.user_id == found.owner_id))):
            raise ApiError("not-found")
        more: dict[str, Any] = {**(await json_counts_of(connection, [property_id]))[property_id]}
        if caller and (caller.is_admin or caller.user_id == found.owner_id):
            same_place = await duplicates.among(connection, found.owner_id, [property_id])
            same_photo = await duplicates.by_photo(connection, found.owner_id, [property_id])
            others = dict.fromkeys([*same_place.get(property_id, ()), *same_photo.get(property_id, ())])
            more["possibleDuplicates"] = [str(other) for other in others]
        images = await json_images_of(connection, parts.settings, [found], caller, tenant_id)
        return found, images[property_id], more
