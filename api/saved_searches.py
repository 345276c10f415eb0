"""The caller's saved searches: /api/search/saved."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Response
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from adapters import saved_searches
from adapters.paging import Cursor
from api.answers import IfMatchDep, NoBody, SenderDep, answered
from api.bodies import BodyOf
from api.commands import Accepted, Done, new_id
from api.conditional import is_not_wanted
from api.deps import CallerDep, PartsDep, consistency_token
from api.errors import ApiError, header_references, responses
from api.openapi import CHANGE, SIGNED_IN, command, query
from domain import fields as f
from domain.model import Model
from domain.observations import SavedSearchVisited, Visit
from domain.saved_searches import (
    ChangeSavedSearch,
    CreateSavedSearch,
    DeleteSavedSearch,
    PausedBy,
    SavedSearch,
    Schedule,
    SearchToSave,
)
from domain.search import SearchFilters

router = APIRouter(prefix="/api/search/saved", tags=["saved-searches"])

_PRIVATE = {"Cache-Control": "private, no-store"}
_CHANGE = tuple(kind for kind in CHANGE if kind != "forbidden")


class NewSavedSearch(Schedule):
    """A search to save, and when its owner wants to hear of what is new, cheaper or back on the market."""

    name: f.Label
    filters: SearchFilters
    paused: bool = False

    @model_validator(mode="after")
    def _check_filters(self) -> Self:
        if not self.filters.given:
            raise PydanticCustomError("no_filters", "Give at least one filter in filters.")
        return self


class ShownSavedSearch(Schedule):
    """A saved search."""

    id: UUID
    version: int
    name: str
    filters: dict[str, Any]
    """Those that were given, by their names in a search."""
    paused: bool
    paused_by: PausedBy | None
    """`UNREAD`: its last six mails were not read, so it was paused by itself."""
    due_at: datetime | None
    """When it looks for matches next; null while it is paused."""
    created_at: datetime
    updated_at: datetime


class SavedSearchList(Model):
    """The saved searches of a user, newest first: 50 at most."""

    items: list[ShownSavedSearch]


@router.get("", **query(SavedSearchList))
async def list_saved_searches(caller: CallerDep, parts: PartsDep) -> Response:
    """The saved searches of the caller, newest first."""
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await saved_searches.of_user(connection, caller.user_id)
    body = SavedSearchList(items=[_shown(search) for search in found])
    return Response(body.model_dump_json(by_alias=True), 200, _PRIVATE, "application/json")


@router.post("", **command(201, ShownSavedSearch, "account-closed", "too-many-saved-searches"))
async def create_saved_search(body: BodyOf[NewSavedSearch], sender: SenderDep) -> Response:
    """Save a search. What matches from then on is mailed: every ten minutes, each day, or each week."""
    outcome = await sender.send(
        CreateSavedSearch,
        body,
        f"Save a search ({body.frequency.value})",
        saved_search_id=new_id(),
        search=_given(body),
    )
    return answered(sender, _resource(outcome), 201, location="/api/search/saved/{id}")


@router.get("/{saved_search_id}", **query(ShownSavedSearch, "not-found", etag=True))
async def get_saved_search(
    saved_search_id: UUID,
    caller: CallerDep,
    parts: PartsDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A saved search of the caller."""
    found = await _find(parts, caller, saved_search_id)
    headers = {"ETag": f'"{found.version}"', **_PRIVATE}
    if is_not_wanted(if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(_shown(found).model_dump_json(by_alias=True), 200, headers, "application/json")


@router.put("/{saved_search_id}", **command(200, ShownSavedSearch, *_CHANGE))
async def change_saved_search(
    saved_search_id: UUID, body: BodyOf[NewSavedSearch], sender: SenderDep, expected: IfMatchDep
) -> Response:
    """Replace the settings of a saved search. `paused` stops its mails, and `false` lets them go on.

    With other filters, and when it is resumed, it begins anew: what happened before is not mailed.
    """
    outcome = await sender.send(
        ChangeSavedSearch,
        body,
        f"Change a saved search ({body.frequency.value})",
        saved_search_id=saved_search_id,
        search=_given(body),
        expected_versions=expected,
    )
    return answered(sender, _resource(outcome))


@router.delete("/{saved_search_id}", **command(204, None, *_CHANGE))
async def delete_saved_search(saved_search_id: UUID, sender: SenderDep, expected: IfMatchDep) -> Response:
    """Delete a saved search, and what is remembered of its mails."""
    outcome = await sender.send(
        DeleteSavedSearch,
        NoBody(),
        "Delete a saved search",
        saved_search_id=saved_search_id,
        expected_versions=expected,
    )
    return answered(sender, outcome)


@router.post(
    "/{saved_search_id}/visits",
    status_code=204,
    response_class=Response,
    responses={
        204: {"headers": header_references("Consistency-Token")},
        **responses(*SIGNED_IN, "invalid-request", "not-found", "too-many-requests", "unavailable"),
    },
)
async def visit_saved_search(saved_search_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Record that the caller has opened a saved search, so that its mails count as read.

    After six mails in a row that nobody has read, a saved search is paused.
    """
    await parts.limits.count(caller.tenant_id, "views", str(caller.user_id), parts.settings.views_per_minute)
    await _find(parts, caller, saved_search_id)
    visit = Visit(
        event_id=new_id(),
        aggregate_id=saved_search_id,
        user_id=caller.user_id,
        timestamp=datetime.now(UTC),
        data=SavedSearchVisited(saved_search_id=saved_search_id, user_id=caller.user_id),
    )
    await parts.observations.record(caller.tenant_id, visit)
    entry = Cursor(visit.timestamp, visit.event_id)
    token = consistency_token(parts, caller.tenant_id, caller.user_id, entry)
    return Response(status_code=204, headers={"Consistency-Token": token})


async def _find(parts: PartsDep, caller: CallerDep, saved_search_id: UUID) -> SavedSearch:
    """A saved search of the caller. Raises ApiError not-found."""
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await saved_searches.find(connection, caller.user_id, saved_search_id)
    if found is None:
        raise ApiError("not-found", "You have no saved search with this id. Check the id.")
    return found


def _given(body: NewSavedSearch) -> SearchToSave:
    """The settings of a command, with the filters that were given as JSON."""
    filters = body.filters.model_dump(mode="json", by_alias=True, exclude_unset=True)
    text = orjson.dumps(filters, option=orjson.OPT_SORT_KEYS).decode()
    settings = {name: getattr(body, name) for name in NewSavedSearch.model_fields if name != "filters"}
    return SearchToSave(**settings, filters=text)


def _resource(outcome: Done | Accepted) -> Done | Accepted:
    if not isinstance(outcome, Done) or outcome.resource is None:
        return outcome
    shown = _shown(SavedSearch.model_validate(outcome.resource))
    return replace(outcome, resource=shown.model_dump(mode="json", by_alias=True))


def _shown(search: SavedSearch) -> ShownSavedSearch:
    return ShownSavedSearch(
        **{name: getattr(search, name) for name in (*Schedule.model_fields, "id", "version", "name")},
        filters=orjson.loads(search.filters),
        paused=search.paused is not None,
        paused_by=search.paused,
        due_at=None if search.paused else search.due_at,
        created_at=search.created_at,
        updated_at=search.updated_at,
    )
