"""A user's history: /api/user-history."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Request, Response

from api.deps import caller_of, held_by, parts_of
from api.errors import ApiError, responses
from api.opaque import Tampered

router = APIRouter(prefix="/api/user-history", tags=["history"])


@router.get(
    "/{user_id}",
    responses={
        200: {
            "description": "Entries, newest first",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HistoryPage"}}},
        },
        **responses(
            "unauthenticated",
            "invalid-token",
            "expired-token",
            "invalid-request",
            "invalid-cursor",
            "invalid-consistency-token",
            "not-found",
            "unavailable",
        ),
    },
)
async def user_history(
    user_id: UUID,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    consistency_token: Annotated[
        str | None,
        Header(max_length=200, description="From the answer to a command: the page will not be older than it"),
    ] = None,
) -> Response:
    """What a user did, newest first: for that user and administrators; to everybody else it does not exist."""
    parts, caller = parts_of(request), caller_of(request)
    if caller.user_id != user_id and not caller.is_admin:
        raise ApiError("not-found")
    user, use = str(user_id), f"history:{caller.tenant_id}:{user_id}"
    before = None
    if cursor is not None:
        try:
            before = parts.signer.open(use, cursor)
        except Tampered as error:
            raise ApiError("invalid-cursor") from error
    holding = held_by(parts, caller.tenant_id, user, consistency_token)
    page = await parts.histories.page(caller.tenant_id, user, limit, before, holding)
    next_cursor = orjson.dumps(parts.signer.sign(use, page.next)) if page.next else b"null"
    return Response(
        b'{"items":[' + b",".join(page.entries) + b'],"nextCursor":' + next_cursor + b"}",
        headers={"Cache-Control": "private, no-store"},
        media_type="application/json",
    )
