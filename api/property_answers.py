"""A listing as the API answers it: its state, and the numbers that follow it within a second."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.answers import Sender, answered
from api.commands import Accepted, Done
from domain.property import Property
from projections.counts import Kind, counts_of


class CountedProperty(Property):
    """A listing and how often it was viewed and is a favourite."""

    views_count: int = 0
    favorites_count: int = 0


async def numbers_of(connection: AsyncConnection, property_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """The numbers of listings, by the names that the API gives them."""
    counted = await counts_of(connection, property_ids, Kind.VIEW, Kind.FAVORITE)
    return {
        property_id: {"viewsCount": views, "favoritesCount": favorites}
        for property_id, (views, favorites) in counted.items()
    }


def as_json(listing: Property, numbers: dict[str, int]) -> bytes:
    """A listing with its numbers."""
    return orjson.dumps({**listing.model_dump(mode="json", by_alias=True), **numbers})


async def answered_property(
    sender: Sender, outcome: Done | Accepted, status: int = 200, location: str = ""
) -> Response:
    """The answer to a command on a listing. Raises DatabaseUnavailable."""
    numbers: dict[str, Any] = {"viewsCount": 0, "favoritesCount": 0}
    if isinstance(outcome, Done) and outcome.resource and status != 201:  # nobody has seen what was just made
        property_id = outcome.saved.aggregate_id
        async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
            numbers = (await numbers_of(connection, [property_id]))[property_id]
    return answered(sender, outcome, status, location, numbers)
