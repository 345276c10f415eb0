"""Finds the commands of images and documents that are being processed for long: their workflow may be lost.

That is so after Temporal was wiped. Commands of every tenant are found, in pages: those after a command's id.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import commands, documents, property_images, uploads
from domain.documents import AddDocument
from domain.image_commands import AddImages, NewImage


async def adding_images(
    connection: AsyncConnection, before: datetime, limit: int, after: UUID | None
) -> list[AddImages]:
    """The commands that have added images before `before`. Each names all its images that are left, as it did."""
    of_command = (commands.c.tenant_id == property_images.c.tenant_id) & (
        commands.c.command_id == property_images.c.command_id
    )
    waiting = (
        select(property_images.c.tenant_id, property_images.c.command_id)
        .join(commands, of_command)
        .where(property_images.c.status == "PROCESSING", property_images.c.added_at < before)
        .distinct()
        .order_by(property_images.c.command_id)
        .limit(limit)
    )
    if after:
        waiting = waiting.where(property_images.c.command_id > after)
    page = waiting.subquery()
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
            select(page.c.command_id)
            .where(
                page.c.tenant_id == property_images.c.tenant_id,
                page.c.command_id == property_images.c.command_id,
            )
            .exists(),
        )
        .order_by(property_images.c.command_id, property_images.c.position)
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


async def adding_documents(
    connection: AsyncConnection, before: datetime, limit: int, after: UUID | None
) -> list[AddDocument]:
    """The commands that have added documents before `before`."""
    of_command = (commands.c.tenant_id == documents.c.tenant_id) & (commands.c.command_id == documents.c.command_id)
    query = (
        select(
            documents.c.tenant_id,
            documents.c.command_id,
            documents.c.file_id,
            documents.c.upload_id,
            documents.c.property_id,
            documents.c.size,
            commands.c.user_id,
            commands.c.started_at.label("issued_at"),
            commands.c.fingerprint,
        )
        .join(commands, of_command)
        .where(documents.c.status == "PROCESSING", documents.c.created_at < before)
        .order_by(documents.c.command_id)
        .limit(limit)
    )
    if after:
        query = query.where(documents.c.command_id > after)
    return [AddDocument(**row._mapping) for row in await connection.execute(query)]
