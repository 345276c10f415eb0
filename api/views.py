"""Views of listings: POST /api/properties/{property_id}/views."""

from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.deps import address_of, caller_or_none, parts_of, tenant_of
from api.errors import responses
from api.observations import Visitor
from api.reading import Asked, RequestRoute

router = APIRouter(prefix="/api/properties", tags=["properties"], route_class=RequestRoute)


class _ViewAsked(BaseModel):
    property_id: UUID


_VIEW = Asked("/{property_id}/views", _ViewAsked)


@router.post(
    "/{property_id}/views",
    status_code=204,
    response_class=Response,
    openapi_extra=_VIEW.openapi,
    responses=responses(
        "invalid-request", "invalid-token", "expired-token", "repeated-header", "not-found", "unavailable"
    ),
)
async def view_property(request: Request) -> Response:
    """Record that somebody looks at a listing. The owner's views and a visitor's of the last half hour do not count.

    A visitor without an account is known by a salted hash of address and browser, whose salt changes every day.
    """
    caller, property_id = caller_or_none(request), _VIEW.read(request).property_id
    visitor = Visitor(caller, address_of(request), request.headers.get("user-agent", ""))
    tenant_id = caller.tenant_id if caller else tenant_of(request)
    await parts_of(request).observations.viewed(tenant_id, property_id, visitor)
    return Response(status_code=204)
