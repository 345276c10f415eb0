"""A user's history: /api/user-history."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.deps import CursorText, caller_of, consistency_cursor, parts_of
from api.errors import ApiError
from api.opaque import Tampered
from api.openapi import query
from api.parameters import Parameters, RequestRoute

router = APIRouter(prefix="/api/user-history", tags=["history"], route_class=RequestRoute)


class _PageParameters(BaseModel):
    user_id: UUID
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: CursorText = None
    consistency_token: Annotated[
        str | None,
        Field(
            alias="Consistency-Token",
            max_length=200,
            description="Of the response to a command: the page includes what the command wrote",
        ),
    ] = None


_PAGE = Parameters("/{user_id}", _PageParameters)


@router.get(
    "/{user_id}",
    openapi_extra=_PAGE.openapi,
    **query("HistoryPage", "invalid-request", "invalid-cursor", "invalid-consistency-token", "not-found"),
)
async def user_history(request: Request) -> Response:
    """The activities of a user, newest first. For that user and administrators; for others it is not found."""
    parts, caller, parameters = parts_of(request), caller_of(request), _PAGE.read(request)
    if caller.user_id != parameters.user_id and not caller.is_admin:
        raise ApiError("not-found")
    user = str(parameters.user_id)
    purpose, cursor = f"history:{caller.tenant_id}:{user}", None
    if parameters.cursor is not None:
        try:
            cursor = parts.signer.open(purpose, parameters.cursor)
        except Tampered as error:
            raise ApiError("invalid-cursor") from error
    holding = consistency_cursor(parts, caller.tenant_id, user, parameters.consistency_token)
    page = await parts.histories.page(caller.tenant_id, user, parameters.limit, cursor, holding)
    next_cursor = orjson.dumps(parts.signer.sign(purpose, page.next)) if page.next else b"null"
    return Response(
        b'{"items":[' + b",".join(page.entries) + b'],"nextCursor":' + next_cursor + b"}",
        headers={"Cache-Control": "private, no-store"},
        media_type="application/json",
    )
