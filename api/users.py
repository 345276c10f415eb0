"""The account of the caller: /api/users."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from adapters.current_state import find_user
from api.conditional import is_not_wanted
from api.deps import CallerDep, PartsDep
from api.errors import ApiError
from api.openapi import query
from domain.user import MAY_SIGN_IN, User
from projections.counts import Kind, counts_of

router = APIRouter(prefix="/api/users", tags=["users"])


class Profile(User):
    """The account, with its number of properties, which is updated within about a second."""

    property_count: int
    """Properties that the user has listed and not deleted."""


@router.get("/profile", **query(Profile, "account-closed", etag=True))
async def own_profile(
    caller: CallerDep, parts: PartsDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """The account of the caller."""
    async with parts.database.statements(caller.tenant_id) as connection:
        user = await find_user(connection, caller.user_id)
        [(owned,)] = (await counts_of(connection, [caller.user_id], Kind.PROPERTY)).values()
    if user is None or user.status not in MAY_SIGN_IN:
        raise ApiError("account-closed")
    headers = {"ETag": f'"{user.version}"', "Cache-Control": "private, no-store"}
    if is_not_wanted(if_none_match):
        return Response(status_code=304, headers=headers)
    profile = Profile(**dict(user), property_count=owned)
    return Response(profile.model_dump_json(by_alias=True), 200, headers, "application/json")
