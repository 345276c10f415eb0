"""A user's history: /api/user-history."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.deps import CursorText, caller_of, held_by, parts_of
from api.errors import ApiError
from api.opaque import Tampered
from api.openapi import query
from api.reading import Asked, RequestRoute

router = APIRouter(prefix="/api/user-history", tags=["history"], route_class=RequestRoute)


class _PageAsked(BaseModel):
    user_id: UUID
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: CursorText = None
    consistency_token: Annotated[
        str | None,
        Field(
            alias="Consistency-Token",
            max_length=200,
            description="From the answer to a command: the page will not be older than it",
        ),
    ] = None


_PAGE = Asked("/{user_id}", _PageAsked)


@router.get(
    "/{user_id}",
    openapi_extra=_PAGE.openapi,
    **query("HistoryPage", "invalid-request", "invalid-cursor", "invalid-consistency-token", "not-found"),
)
async def user_history(request: Request) -> Response:
    """What a user did, newest first: for that user and administrators; to everybody else it does not exist."""
    parts, caller, asked = parts_of(request), caller_of(request), _PAGE.read(request)
    if caller.user_id != asked.user_id and not caller.is_admin:
        raise ApiError("not-found")
    user = str(asked.user_id)
    use, before = f"history:{caller.tenant_id}:{user}", None
    if asked.cursor is not None:
        try:
            before = parts.signer.open(use, asked.cursor)
        except Tampered as error:
            raise ApiError("invalid-cursor") from error
    must_contain = held_by(parts, caller.tenant_id, user, asked.consistency_token)
    page = await parts.histories.page(caller.tenant_id, user, asked.limit, before, must_contain)
    next_cursor = orjson.dumps(parts.signer.sign(use, page.next)) if page.next else b"null"
    return Response(
        b'{"items":[' + b",".join(page.entries) + b'],"nextCursor":' + next_cursor + b"}",
        headers={"Cache-Control": "private, no-store"},
        media_type="application/json",
    )
