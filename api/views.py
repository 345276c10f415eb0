"""Views of listings: POST /api/properties/{property_id}/views."""

from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.deps import address_of, caller_or_none, parts_of, tenant_of
from api.errors import responses
from api.observations import Visitor
from api.parameters import Parameters, RequestRoute

router = APIRouter(prefix="/api/properties", tags=["properties"], route_class=RequestRoute)


class _ViewParameters(BaseModel):
    property_id: UUID


_VIEW = Parameters("/{property_id}/views", _ViewParameters)


@router.post(
    "/{property_id}/views",
    status_code=204,
    response_class=Response,
    openapi_extra=_VIEW.openapi,
    responses=responses(
        "invalid-request",
        "invalid-token",
        "expired-token",
        "session-closed",
        "not-found",
        "too-many-requests",
        "unavailable",
    ),
)
async def view_property(request: Request) -> Response:
    """Record a view of a listing. Views by the owner, and repeated views within 30 minutes, are not counted.

    A visitor without an account is identified by a hash of address and browser with a salt that changes every day.
    """
    caller, property_id = caller_or_none(request), _VIEW.read(request).property_id
    parts, address = parts_of(request), address_of(request)
    visitor = Visitor(caller, address, request.headers.get("user-agent", ""))
    tenant_id = caller.tenant_id if caller else tenant_of(request)
    await parts.limits.count(
        tenant_id, "views", str(caller.user_id) if caller else address, parts.settings.views_per_minute
    )
    await parts.observations.viewed(tenant_id, property_id, visitor)
    return Response(status_code=204)
