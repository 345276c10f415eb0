"""Lists of listings: /api/properties, `featured`, `my-properties` and `favorites` below it."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from api.deps import CallerDep, CursorText, MaybeCallerDep, Parts, PartsDep, TenantDep
from api.errors import ApiError
from api.opaque import Signer, Tampered
from api.openapi import query
from api.property_answers import CountedProperty, as_json, numbers_of
from domain.model import Model
from domain.property_status import PropertyStatus
from projections import listings
from projections.listings import ListingPage
from projections.paging import Cursor

router = APIRouter(prefix="/api/properties", tags=["properties"])

_PRIVATE = {"Cache-Control": "private, no-store"}
_LIST = ("invalid-request", "invalid-cursor")

LimitQuery = Annotated[int, Query(ge=1, le=100, description="How many listings a page has at the most.")]
CursorQuery = Annotated[CursorText, Query()]


class PropertyPage(Model):
    """Listings, newest first."""

    items: tuple[CountedProperty, ...]
    next_cursor: str | None
    """For the next page; null on the last."""


@router.get("", **query(PropertyPage, *_LIST, signed_in="optional"))
async def list_properties(
    caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> Response:
    """The active listings, newest first: by the time they were first public."""
    tenant_id = caller.tenant_id if caller else tenant_id
    read = partial(listings.newest, limit=limit)
    return await _answer(parts, tenant_id, f"listings:{tenant_id}", cursor, read)


@router.get("/featured", **query(PropertyPage, *_LIST, signed_in="optional"))
async def list_featured_properties(
    caller: MaybeCallerDep, tenant_id: TenantDep, parts: PartsDep, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> Response:
    """The active listings that stand out, newest first: by the time they were first public."""
    tenant_id = caller.tenant_id if caller else tenant_id
    read = partial(listings.featured, limit=limit)
    return await _answer(parts, tenant_id, f"featured:{tenant_id}", cursor, read)


@router.get("/my-properties", **query(PropertyPage, *_LIST))
async def list_own_properties(
    caller: CallerDep,
    parts: PartsDep,
    status: Annotated[PropertyStatus | None, Query(description="Only listings in this status.")] = None,
    limit: LimitQuery = 20,
    cursor: CursorQuery = None,
) -> Response:
    """The listings of whoever asks, in every status, newest first: by the time they were created."""
    use = f"own:{caller.tenant_id}:{caller.user_id}:{status}"
    read = partial(listings.of_owner, owner_id=caller.user_id, status=status, limit=limit)
    return await _answer(parts, caller.tenant_id, use, cursor, read, _PRIVATE)


@router.get("/favorites", **query(PropertyPage, *_LIST))
async def list_favorites(
    caller: CallerDep, parts: PartsDep, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> Response:
    """The favourites of whoever asks, the newest favourite first; without listings that they may not see any more."""
    use = f"favorites:{caller.tenant_id}:{caller.user_id}"
    read = partial(listings.favorites_of, user_id=caller.user_id, limit=limit, sees_all=caller.is_admin)
    return await _answer(parts, caller.tenant_id, use, cursor, read, _PRIVATE)


def _after(signer: Signer, use: str, cursor: str | None) -> Cursor | None:
    """Open the cursor of a request. Raises ApiError invalid-cursor."""
    if cursor is None:
        return None
    try:
        return signer.open(use, cursor)
    except Tampered as error:
        raise ApiError("invalid-cursor") from error


async def _answer(
    parts: Parts,
    tenant_id: str,
    use: str,
    cursor: str | None,
    read: Callable[..., Awaitable[ListingPage]],
    headers: dict[str, str] | None = None,
) -> Response:
    """The page that `read` (connection, after) finds after the cursor. Raises ApiError invalid-cursor."""
    after = _after(parts.signer, use, cursor)
    async with parts.database.statements(tenant_id) as connection:
        page = await read(connection, after=after)
        numbers = await numbers_of(connection, [item.id for item in page.items])
    items = b",".join(as_json(item, numbers[item.id]) for item in page.items)
    next_cursor = orjson.dumps(parts.signer.sign(use, page.next)) if page.next else b"null"
    body = b'{"items":[' + items + b'],"nextCursor":' + next_cursor + b"}"
    return Response(body, headers=headers, media_type="application/json")
