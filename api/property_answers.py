"""A listing as the API returns it: its state, and the counts of the projection `counts`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import DatabaseUnavailable
from api.answers import Sender, accepted, answered
from api.commands import Accepted, Done
from api.deps import Parts
from api.shown_images import ShownImage, shown_to_all, shown_to_owner
from api.tokens import Caller
from domain.images import Image, listed
from domain.property import Property
from projections.counts import Kind, counts_of


class CountedProperty(Property):
    """A listing with its counts, which are updated within about a second."""

    images: tuple[ShownImage, ...] = ()  # type: ignore[assignment]
    """In order. Those that are not READY are shown to the owner and administrators only."""
    views_count: int = 0
    favorites_count: int = 0
    possible_duplicates: tuple[UUID, ...] | None = None
    """Other listings of the owner at the same place with the same unit, and any with the same photo. Only where one
    listing is read, by its owner or an administrator."""


async def json_counts_of(connection: AsyncConnection, property_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """The counts of listings, by their JSON names."""
    counted = await counts_of(connection, property_ids, Kind.VIEW, Kind.FAVORITE)
    return {
        property_id: {"viewsCount": views, "favoritesCount": favorites}
        for property_id, (views, favorites) in counted.items()
    }


def as_json(parts: Parts, listing: Property, counts: dict[str, Any], caller: Caller | None) -> bytes:
    """A listing with its counts, as JSON, as the caller may see it."""
    files_url = parts.settings.files_url
    if caller and (caller.is_admin or caller.user_id == listing.owner_id):
        images = shown_to_owner(listing.images, files_url)
    else:
        images = [shown_to_all(each, files_url) for each in listed(listing.images)]
    shown = {"images": [each.model_dump(mode="json", by_alias=True) for each in images]}
    return orjson.dumps({**listing.model_dump(mode="json", by_alias=True, exclude={"images"}), **shown, **counts})


async def answered_property(
    sender: Sender, outcome: Done | Accepted, status: int = 200, location: str = ""
) -> Response:
    """The response to a command on a listing; 202 when the listing is saved but its counts cannot be read."""
    counts: dict[str, Any] = {"viewsCount": 0, "favoritesCount": 0}
    if isinstance(outcome, Done) and outcome.resource and status != 201:  # a new listing has no views
        property_id = outcome.saved.aggregate_id
        try:
            async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
                counts = (await json_counts_of(connection, [property_id]))[property_id]
        except DatabaseUnavailable:
            return accepted(Accepted(outcome.saved.command_id))
    return answered(sender, outcome, status, location, {**counts, "images": _images(sender, outcome)})


def images_of(outcome: Done) -> list[Image]:
    """The images of a listing after a command."""
    return [Image.model_validate(each) for each in (outcome.resource or {}).get("images", ())]


def _images(sender: Sender, outcome: Done | Accepted) -> list[dict[str, Any]]:
    """As its owner or an administrator sees them, who alone can send the command."""
    if isinstance(outcome, Accepted):
        return []
    shown = shown_to_owner(images_of(outcome), sender.parts.settings.files_url)
    return [each.model_dump(mode="json", by_alias=True) for each in shown]
