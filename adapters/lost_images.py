"""Finds images that are being processed for long: their workflow may be lost, because Temporal was wiped."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import commands, property_images, uploads
from domain.image_commands import AddImages, NewImage


async def processing_since(connection: AsyncConnection, before: datetime, limit: int) -> list[AddImages]:
    """The commands of every tenant that have added images before `before` which are still being processed.

    Oldest first, at most `limit`. Each names all its images that are left, as the command did.
    """
    waiting = (
        select(property_images.c.tenant_id, property_images.c.command_id)
        .where(property_images.c.status == "PROCESSING", property_images.c.added_at < before)
        .order_by(property_images.c.added_at)
        .limit(limit)
        .subquery()
    )
    of_command = (commands.c.tenant_id == property_images.c.tenant_id) & (
        commands.c.command_id == property_images.c.command_id
    )
    of_upload = (uploads.c.tenant_id == property_images.c.tenant_id) & (
        uploads.c.upload_id == property_images.c.upload_id
    )
    query = (
        select(
            property_images.c.tenant_id,
            property_images.c.command_id,
            property_images.c.property_id,
            property_images.c.image_id,
            property_images.c.upload_id,
            property_images.c.size,
            uploads.c.file_name,
            commands.c.user_id,
            commands.c.started_at,
            commands.c.fingerprint,
        )
        .join(commands, of_command)
        .outerjoin(uploads, of_upload)
        .where(
            property_images.c.status == "PROCESSING",
            select(waiting.c.command_id)
            .where(
                waiting.c.tenant_id == property_images.c.tenant_id,
                waiting.c.command_id == property_images.c.command_id,
            )
            .exists(),
        )
        .order_by(property_images.c.added_at, property_images.c.command_id, property_images.c.position)
    )
    found: dict[tuple[str, UUID], AddImages] = {}
    for row in await connection.execute(query):
        image = NewImage(
            id=row.image_id, upload_id=row.upload_id, file_name=row.file_name or str(row.upload_id), size=row.size
        )
        known = found.get((row.tenant_id, row.command_id))
        found[row.tenant_id, row.command_id] = AddImages(
            command_id=row.command_id,
            tenant_id=row.tenant_id,
            user_id=row.user_id,
            issued_at=row.started_at,
            fingerprint=row.fingerprint,
            property_id=row.property_id,
            images=(*(known.images if known else ()), image),
        )
    return list(found.values())
