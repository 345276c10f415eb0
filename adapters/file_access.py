"""Who may read a file: reads of what refers to its content."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.tables import documents, file_contents, properties, property_images
from domain.documents import AttachedListing
from domain.property_status import PUBLIC_STATUSES


@dataclass(frozen=True)
class PictureUse:
    """The listings that show a picture."""

    is_public: bool
    """Whether everybody may see one of them."""
    is_own: bool
    """Whether one of them is the user's."""


async def use_of_picture(connection: AsyncConnection, sha256: bytes, user_id: UUID | None) -> PictureUse | None:
    """Where a picture of the connection's tenant is shown; None if no listing shows it."""
    query = (
        select(
            func.bool_or(properties.c.status.in_(PUBLIC_STATUSES)),
            func.bool_or(properties.c.owner_id == user_id),
        )
        .select_from(property_images)
        .join(properties, properties.c.property_id == property_images.c.property_id)
        .where(property_images.c.sha256 == sha256, property_images.c.status == "READY")
    )
    is_public, is_own = (await connection.execute(query)).one()
    return None if is_public is None else PictureUse(is_public, bool(is_own))


async def original_type(connection: AsyncConnection, sha256: bytes, owner_id: UUID | None) -> str | None:
    """The media type of stored content that an image or document of `owner_id` has, or of anybody's without it.

    None if there is none.
    """
    images = (
        select(1)
        .select_from(property_images)
        .join(properties, properties.c.property_id == property_images.c.property_id)
        .where(property_images.c.sha256 == sha256)
    )
    own_documents = select(1).where(documents.c.sha256 == sha256)
    if owner_id is not None:
        images = images.where(properties.c.owner_id == owner_id)
        own_documents = own_documents.where(documents.c.owner_id == owner_id)
    query = select(file_contents.c.media_type).where(
        file_contents.c.sha256 == sha256,
        file_contents.c.stored_at.is_not(None),
        images.exists() | own_documents.exists(),
    )
    media_type: str | None = (await connection.execute(query)).scalar_one_or_none()
    return media_type


async def attached_listing(connection: AsyncConnection, property_id: UUID) -> AttachedListing | None:
    """What attaching to a listing of the connection's tenant depends on; None if there is none."""
    query = select(properties.c.owner_id, properties.c.status.in_(PUBLIC_STATUSES)).where(
        properties.c.property_id == property_id
    )
    row = (await connection.execute(query)).one_or_none()
    return AttachedListing(owner_id=row[0], is_public=row[1]) if row else None
