"""The searches of the caller: /api/search/history."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Response

from adapters.paging import Cursor
from api.commands import new_id
from api.deps import CallerDep, CursorText, Parts, PartsDep, consistency_cursor, consistency_token
from api.errors import ApiError, header_references, responses
from api.openapi import SIGNED_IN, query
from api.paging import opened
from api.tokens import Caller
from domain.model import Model
from domain.observations import DeletedSearches, SearchHistoryDeleted
from domain.search_history import remembered
from projections.past_searches import PastSearch

router = APIRouter(prefix="/api/search/history", tags=["search"])


class RememberedSearch(Model):
    """A search of the caller; the same search made again is the same item."""

    id: UUID
    filters: dict[str, Any]
    """What was asked, by the names that `/api/search/properties` takes; the text is `q`."""
    total: int | None
    """How many listings it found, or at least so many."""
    searched_at: datetime
    """When it was made last."""


class SearchHistoryPage(Model):
    """One page of the caller's searches."""

    items: list[RememberedSearch]
    next_cursor: str | None


_DELETED: dict[str, Any] = {
    "status_code": 204,
    "response_class": Response,
    "responses": {
        204: {"headers": header_references("Consistency-Token")},
        **responses(*SIGNED_IN, "invalid-request", "too-many-requests", "unavailable"),
    },
}


@router.get("", **query(SearchHistoryPage, "invalid-request", "invalid-cursor", "invalid-consistency-token"))
async def list_searches(
    caller: CallerDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: CursorText = None,
    consistency: Annotated[
        str | None,
        Header(
            alias="Consistency-Token",
            max_length=200,
            description="Of the response to deleting: the page has nothing that was deleted",
        ),
    ] = None,
) -> Response:
    """The searches of the caller, each once, the latest first. A search appears within about a second."""
    user = str(caller.user_id)
    purpose = f"searches:{caller.tenant_id}:{user}"
    older_than = opened(parts.signer.open, purpose, cursor)
    has_deleted = consistency_cursor(parts, caller.tenant_id, user, consistency) is not None
    found = await parts.past_searches.page(
        caller.tenant_id, caller.user_id, limit, older_than, reads_deletions=has_deleted
    )
    shown = SearchHistoryPage(
        items=[_shown(search) for search in found.searches],
        next_cursor=parts.signer.sign(purpose, found.next) if found.next else None,
    )
    headers = {"Cache-Control": "private, no-store"}
    return Response(shown.model_dump_json(by_alias=True), 200, headers, "application/json")


@router.delete("", **_DELETED)
async def delete_searches(caller: CallerDep, parts: PartsDep) -> Response:
    """Delete all searches of the caller."""
    return await _delete(parts, caller, None)


@router.delete("/{search_id}", **{**_DELETED, "responses": {**_DELETED["responses"], **responses("not-found")}})
async def delete_search(search_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Delete a search of the caller. The same search made later is remembered again."""
    if not await parts.past_searches.some(caller.tenant_id, caller.user_id, [search_id]):
        raise ApiError("not-found", "You have no search with this id in your history.")
    return await _delete(parts, caller, search_id)


async def _delete(parts: Parts, caller: Caller, search_id: UUID | None) -> Response:
    limit = parts.settings.commands_per_minute
    await parts.limits.count(caller.tenant_id, "commands", str(caller.user_id), limit)
    event_id, now = new_id(), datetime.now(UTC)
    deletion = DeletedSearches(
        event_id=event_id,
        aggregate_id=caller.user_id,
        user_id=caller.user_id,
        timestamp=now,
        data=SearchHistoryDeleted(user_id=caller.user_id, search_id=search_id, up_to=now),
    )
    await parts.observations.record(caller.tenant_id, deletion)
    token = consistency_token(parts, caller.tenant_id, caller.user_id, Cursor(now, event_id))
    return Response(status_code=204, headers={"Consistency-Token": token})


def _shown(search: PastSearch) -> RememberedSearch:
    filters = orjson.loads(remembered(search.filters))
    return RememberedSearch(id=search.id, filters=filters, total=search.total, searched_at=search.searched_at)
