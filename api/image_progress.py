"""How far the images of a command are: from their rows, and for those being made from the heartbeats of the workers."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.client import Client
from temporalio.service import RPCError

from adapters.tables import property_images, uploads
from domain.image_commands import AddImages
from domain.images import ImageRefusal, ImageStatus
from domain.model import Model
from workflows import registry

ADD_IMAGES: str = AddImages.model_fields["type"].default
_DESCRIBE_TIMEOUT = timedelta(seconds=1)
"""The step is a nicety: without it the answer says only that the image is being processed."""


class ImageProgress(Model):
    """How far one image of a command is."""

    id: UUID
    file_name: str | None
    size: int
    """Bytes."""
    status: ImageStatus
    step: str | None
    """What is being done: `waiting`, `reading the file`, `decoding`, `avif 1280`, `storing the files`; null when it is
    READY or REFUSED."""
    refused: ImageRefusal | None


async def images_of_command(connection: AsyncConnection, property_id: UUID, command_id: UUID) -> list[ImageProgress]:
    """The images of a listing that a command has added and that were not removed since, in the order of the listing."""
    query = (
        select(
            property_images.c.image_id,
            uploads.c.file_name,
            property_images.c.size,
            property_images.c.status,
            property_images.c.refused,
        )
        .outerjoin(uploads, uploads.c.upload_id == property_images.c.upload_id)
        .where(property_images.c.property_id == property_id, property_images.c.command_id == command_id)
        .order_by(property_images.c.position)
    )
    return [
        ImageProgress(
            id=row.image_id,
            file_name=row.file_name,
            size=row.size,
            status=row.status,
            step="waiting" if row.status == ImageStatus.PROCESSING else None,
            refused=ImageRefusal.model_validate(row.refused) if row.refused else None,
        )
        for row in await connection.execute(query)
    ]


async def with_steps(client: Client, command_id: UUID, images: Sequence[ImageProgress]) -> list[dict[str, Any]]:
    """The images as JSON, with what the workers do to those that are being processed."""
    steps: Mapping[str, str] = {}
    if any(image.status is ImageStatus.PROCESSING for image in images):
        with suppress(RPCError, RuntimeError, asyncio.TimeoutError):
            steps = await _steps(client, command_id)
    shown = [
        image.model_copy(update={"step": steps[str(image.id)]}) if image.step and str(image.id) in steps else image
        for image in images
    ]
    return [image.model_dump(mode="json", by_alias=True) for image in shown]


async def _steps(client: Client, command_id: UUID) -> dict[str, str]:
    """By the id of the image: the last heartbeat of each running activity."""
    handle = client.get_workflow_handle(registry.workflow_id(ADD_IMAGES, command_id))
    described = await handle.describe(rpc_timeout=_DESCRIBE_TIMEOUT)
    steps = {}
    for running in described.raw_description.pending_activities:
        if running.HasField("heartbeat_details"):
            image_id, step = await client.data_converter.decode(running.heartbeat_details.payloads, [str, str])
            steps[image_id] = step
    return steps
