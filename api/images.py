"""The images of a listing: /api/properties/{id}/images."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from api.answers import NoBody
from api.bodies import BodyOf
from api.openapi import CHANGE, command
from api.property_answers import CountedProperty
from api.property_changes import ChangerDep
from domain import fields as f
from domain.image_commands import ChangeImage, OrderImages, RemoveImage
from domain.images import MOST_IMAGES
from domain.model import Model

router = APIRouter(prefix="/api/properties", tags=["properties"])

_CHANGE = (*CHANGE, "listing-closed")


class ImageOrder(Model):
    """An order of the images of a listing."""

    image_ids: Annotated[tuple[UUID, ...], Field(max_length=10 * MOST_IMAGES)]
    """Each image of the listing once, also those that are not READY."""


class ImageDetails(Model):
    """What an owner says about an image."""

    caption: f.Caption | None = None
    is_primary: bool = False
    """Whether it stands for the listing where one picture is shown. If none is chosen, the first that is READY does."""


@router.put("/{property_id}/images/order", **command(200, CountedProperty, *_CHANGE))
async def order_images(body: BodyOf[ImageOrder], changer: ChangerDep) -> Response:
    """Put the images of a listing into an order. For its owner and administrators."""
    return await changer.send(OrderImages, body, f"{len(body.image_ids)} images", image_ids=body.image_ids)


@router.put("/{property_id}/images/{image_id}", **command(200, CountedProperty, *_CHANGE))
async def change_image(image_id: UUID, body: BodyOf[ImageDetails], changer: ChangerDep) -> Response:
    """Set the caption of an image, and whether it is the primary one. For the owner and administrators."""
    fields = {"image_id": image_id, "caption": body.caption, "is_primary": body.is_primary}
    return await changer.send(ChangeImage, body, str(image_id), **fields)


@router.delete("/{property_id}/images/{image_id}", **command(200, CountedProperty, *_CHANGE))
async def remove_image(image_id: UUID, changer: ChangerDep) -> Response:
    """Remove an image from a listing, also one that is being processed, or was refused. The answer is the listing."""
    return await changer.send(RemoveImage, NoBody(), str(image_id), image_id=image_id)
