"""A user's history: /api/user-history."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.deps import CursorText, caller_of, consistency_cursor, parts_of
from api.errors import ApiError
from api.openapi import query
from api.paging import opened, page
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
    purpose = f"history:{caller.tenant_id}:{user}"
    cursor = opened(parts.signer.open, purpose, parameters.cursor)
    must_contain = consistency_cursor(parts, caller.tenant_id, user, parameters.consistency_token)
    found = await parts.histories.page(caller.tenant_id, user, parameters.limit, cursor, must_contain)
    next_cursor = parts.signer.sign(purpose, found.next) if found.next else None
    return page(found.entries, next_cursor, {"Cache-Control": "private, no-store"})
