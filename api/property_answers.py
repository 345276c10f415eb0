"""A listing as the API returns it: its state, and the counts of the projection `counts`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import DatabaseUnavailable
from adapters.settings import Settings
from adapters.uploads import file_names
from api.answers import Sender, accepted, answered
from api.commands import Accepted, Done
from api.shown_images import FileUrls, ShownImage, shown_to_all, shown_to_owner
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


async def json_images_of(
    connection: AsyncConnection, settings: Settings, listings: Sequence[Property], caller: Caller | None, tenant_id: str
) -> dict[UUID, list[dict[str, Any]]]:
    """The images of listings as JSON, as the caller may see them."""
    urls = FileUrls.of(settings, tenant_id)
    own = {each.id for each in listings if caller and (caller.is_admin or caller.user_id == each.owner_id)}
    uploaded = [image.upload_id for each in listings if each.id in own for image in each.images]
    names = await file_names(connection, uploaded) if uploaded else {}
    shown = {
        each.id: shown_to_owner(each.images, urls, names)
        if each.id in own
        else [shown_to_all(image, urls) for image in listed(each.images)]
        for each in listings
    }
    return {id: [image.model_dump(mode="json", by_alias=True) for image in images] for id, images in shown.items()}


def as_json(listing: Property, images: list[dict[str, Any]], counts: dict[str, Any]) -> bytes:
    """A listing with its images and counts, as JSON."""
    # The images in their place, as in the answer to a command.
    return orjson.dumps({**listing.model_dump(mode="json", by_alias=True), "images": images, **counts})


async def answered_property(
    sender: Sender, outcome: Done | Accepted, status: int = 200, location: str = ""
) -> Response:
    """The response to a command on a listing; 202 when the listing is saved but its counts cannot be read."""
    more: dict[str, Any] = {"viewsCount": 0, "favoritesCount": 0, "images": []}
    if isinstance(outcome, Done) and outcome.resource and status != 201:  # a new listing has neither views nor images
        property_id, tenant_id, images = outcome.saved.aggregate_id, sender.caller.tenant_id, images_of(outcome)
        urls = FileUrls.of(sender.parts.settings, tenant_id)
        try:
            async with sender.parts.database.statements(tenant_id) as connection:
                counts = (await json_counts_of(connection, [property_id]))[property_id]
                names = await file_names(connection, [each.upload_id for each in images]) if images else {}
        except DatabaseUnavailable:
            return accepted(Accepted(outcome.saved.command_id))
        # As its owner or an administrator sees them, who alone can send the command.
        shown = shown_to_owner(images, urls, names)
        more = {**counts, "images": [each.model_dump(mode="json", by_alias=True) for each in shown]}
    return answered(sender, outcome, status, location, more)


def images_of(outcome: Done) -> list[Image]:
    """The images of a listing after a command."""
    return [Image.model_validate(each) for each in (outcome.resource or {}).get("images", ())]
