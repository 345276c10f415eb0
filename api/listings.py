"""Pages of listings: /api/properties, and `featured`, `my-properties` and `favorites` below it."""

from collections.abc import Awaitable
from functools import partial
from typing import Annotated, Protocol

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import property_lists
from adapters.paging import Cursor
from adapters.property_lists import ListingPage
from api.deps import CallerDep, CursorText, MaybeCallerDep, Parts, PartsDep, TenantDep
from api.openapi import query
from api.paging import opened, page
from api.property_answers import CountedProperty, as_json, json_counts_of, json_images_of
from api.tokens import Caller
from domain.model import Model
from domain.property_status import PropertyStatus

router = APIRouter(prefix="/api/properties", tags=["properties"])

_PRIVATE = {"Cache-Control": "private, no-store"}
_LIST = ("invalid-request", "invalid-cursor")

LimitQuery = Annotated[int, Query(ge=1, le=100, description="The maximum number of listings of a page.")]
CursorQuery = Annotated[CursorText, Query()]


class PropertyPage(Model):
    """Listings, newest first."""

    items: tuple[CountedProperty, ...]
    next_cursor: str | None
    """The cursor of the next page; null on the last page."""


@router.get("", **query(PropertyPage, *_LIST, signed_in="optional"))
async def list_properties(
    caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> Response:
    """The active listings, newest first: by the time they were first public."""
    tenant_id = caller.tenant_id if caller else tenant_id
    read = partial(property_lists.newest, limit=limit)
    return await _answer(parts, tenant_id, f"listings:{tenant_id}", cursor, read, caller)


@router.get("/featured", **query(PropertyPage, *_LIST, signed_in="optional"))
async def list_featured_properties(
    caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> Response:
    """The active featured listings, by the time they were first public, newest first."""
    tenant_id = caller.tenant_id if caller else tenant_id
    read = partial(property_lists.featured, limit=limit)
    return await _answer(parts, tenant_id, f"featured:{tenant_id}", cursor, read, caller)


@router.get("/my-properties", **query(PropertyPage, *_LIST))
async def list_own_properties(
    caller: CallerDep,
    parts: PartsDep,
    status: Annotated[PropertyStatus | None, Query(description="Only listings in this status.")] = None,
    limit: LimitQuery = 20,
    cursor: CursorQuery = None,
) -> Response:
    """The listings of the caller, in every status, by the time they were created, newest first."""
    purpose = f"own:{caller.tenant_id}:{caller.user_id}:{status}"
    read = partial(property_lists.of_owner, owner_id=caller.user_id, status=status, limit=limit)
    return await _answer(parts, caller.tenant_id, purpose, cursor, read, caller, _PRIVATE)


@router.get("/favorites", **query(PropertyPage, *_LIST))
async def list_favorites(
    caller: CallerDep, parts: PartsDep, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> Response:
    """The favourites of the caller, last added first, without listings that they may no longer see."""
    purpose = f"favorites:{caller.tenant_id}:{caller.user_id}"
    read = partial(property_lists.favorites_of, user_id=caller.user_id, limit=limit, sees_all=caller.is_admin)
    return await _answer(parts, caller.tenant_id, purpose, cursor, read, caller, _PRIVATE)


class ReadPage(Protocol):
    """Reads a page of one of the lists."""

    def __call__(self, connection: AsyncConnection, *, cursor: Cursor | None) -> Awaitable[ListingPage]: ...


async def _answer(
    parts: Parts,
    tenant_id: str,
    purpose: str,
    cursor: str | None,
    read: ReadPage,
    caller: Caller | None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The response with the page that `read(connection, cursor)` returns. Raises ApiError invalid-cursor."""
    position = opened(parts.signer.open, purpose, cursor)
    async with parts.database.statements(tenant_id) as connection:
        found = await read(connection, cursor=position)
        counts = await json_counts_of(connection, [item.id for item in found.items])
        images = await json_images_of(connection, parts.settings, found.items, caller, tenant_id)
    items = (as_json(item, images[item.id], counts[item.id]) for item in found.items)
    return page(items, parts.signer.sign(purpose, found.next) if found.next else None, headers)
