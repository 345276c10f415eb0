"""A user's history: /api/user-history."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from adapters.paging import Cursor
from api.deps import CursorText, caller_of, consistency_cursor, parts_of
from api.errors import ApiError
from api.openapi import query
from api.paging import opened, page
from api.parameters import Parameters, RequestRoute
from api.tokens import Caller
from domain.activity import NO_ACTIVITY
from domain.events import KINDS, PROPERTY_EVENTS
from domain.model import Model
from domain.search_history import remembered
from projections.history_pages import Page
from projections.history_rows import EVERYTHING, Wanted

router = APIRouter(prefix="/api/user-history", tags=["history"], route_class=RequestRoute)

_ACTIVITY_TYPES = [kind.name for kind in KINDS.values() if kind.model not in NO_ACTIVITY]
_OF_PROPERTIES = tuple(kind.name for kind in KINDS.values() if kind.topic == PROPERTY_EVENTS)
_SEARCHES = ("PROPERTY_SEARCHED",)
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _known_type(value: str) -> str:
    if value not in _ACTIVITY_TYPES:
        raise PydanticCustomError("activity_type", "Give a type of activity, such as PROPERTY_VIEWED.")
    return value


ActivityType = Annotated[str, AfterValidator(_known_type), WithJsonSchema({"type": "string", "enum": _ACTIVITY_TYPES})]
Moment = Annotated[AwareDatetime, Field(ge=_EARLIEST, le=_LATEST)]


class _OfUser(BaseModel):
    user_id: UUID


class _PageParameters(_OfUser):
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


class _Filtered(_PageParameters):
    since: Annotated[
        Moment | None,
        Field(alias="from", description="Entries of this time and later, such as 2026-11-30T00:00:00Z"),
    ] = None
    before: Annotated[Moment | None, Field(alias="to", description="Entries before this time")] = None
    type: Annotated[tuple[ActivityType, ...], Field(max_length=20, description="Entries of any of these types")] = ()

    @property
    def wanted(self) -> Wanted:
        if not self.model_fields_set & {"since", "before", "type"}:
            return EVERYTHING
        return Wanted(self.since, Cursor(self.before, UUID(int=0)) if self.before else None, self.type)


class _Recent(_PageParameters):
    hours: Annotated[int, Field(ge=1, le=744, description="Entries of the last so many hours")] = 24


class _OfType(_PageParameters):
    type: ActivityType


_PAGE = Parameters("/{user_id}", _Filtered)
_RECENT = Parameters("/{user_id}/recent", _Recent)
_PROPERTIES = Parameters("/{user_id}/properties", _PageParameters)
_SEARCHED = Parameters("/{user_id}/searches", _PageParameters)
_TYPE = Parameters("/{user_id}/activities/{type}", _OfType)
_SUMMARY = Parameters("/{user_id}/summary", _OfUser)

_QUERY = query("HistoryPage", "invalid-request", "invalid-cursor", "invalid-consistency-token", "not-found")


class ActiveDay(Model):
    """The day on which a user did most."""

    day: date
    """In Asia/Kolkata."""
    count: int


class Latest30Days(Model):
    """The last 30 days in Asia/Kolkata, today included."""

    total: int
    counts_by_type: dict[str, int]


class HistorySummary(Model):
    """What a history has. An entry is counted within about a second."""

    total: int
    counts_by_type: dict[str, int]
    last_30_days: Latest30Days
    most_active_day: ActiveDay | None
    """The latest of several; null for an empty history."""
    last_activity: dict[str, Any] | None
    """The newest entry, as a page has it."""


@router.get("/{user_id}", openapi_extra=_PAGE.openapi, **_QUERY)
async def user_history(request: Request) -> Response:
    """The activities of a user, newest first. For that user and administrators; for others it is not found.

    Pages of this and of the following routes share one kind of cursor, and have neither gaps nor repeats while entries
    are added.
    """
    caller, parameters = caller_of(request), _PAGE.read(request)
    return await _page(request, caller, parameters, parameters.wanted)


@router.get("/{user_id}/recent", openapi_extra=_RECENT.openapi, **_QUERY)
async def recent_history(request: Request) -> Response:
    """The activities of a user in the last hours, newest first."""
    caller, parameters = caller_of(request), _RECENT.read(request)
    since = datetime.now(UTC) - timedelta(hours=parameters.hours)
    return await _page(request, caller, parameters, Wanted(since=since))


@router.get("/{user_id}/properties", openapi_extra=_PROPERTIES.openapi, **_QUERY)
async def property_history(request: Request) -> Response:
    """What a user did with listings, newest first: theirs and those that they have viewed or favourited."""
    caller, parameters = caller_of(request), _PROPERTIES.read(request)
    return await _page(request, caller, parameters, Wanted(types=_OF_PROPERTIES))


@router.get("/{user_id}/searches", openapi_extra=_SEARCHED.openapi, **_QUERY)
async def search_activities(request: Request) -> Response:
    """The searches of a user, newest first, each as often as it was made.

    To that user, `activityData` has what was asked as `filters`; null if they have deleted it from /api/search/history.
    """
    caller, parameters = caller_of(request), _SEARCHED.read(request)
    found = await _found(request, caller, parameters, Wanted(types=_SEARCHES))
    if caller.user_id == parameters.user_id:
        found = Page(await _with_filters(request, caller, found.entries), found.next)
    return _shown(request, caller, parameters, found)


@router.get("/{user_id}/activities/{type}", openapi_extra=_TYPE.openapi, **_QUERY)
async def activities_of_type(request: Request) -> Response:
    """The activities of one type of a user, newest first."""
    caller, parameters = caller_of(request), _TYPE.read(request)
    return await _page(request, caller, parameters, Wanted(types=(parameters.type,)))


@router.get(
    "/{user_id}/summary", openapi_extra=_SUMMARY.openapi, **query(HistorySummary, "invalid-request", "not-found")
)
async def history_summary(request: Request) -> Response:
    """How many activities of each type a user has, how many of the last 30 days, the most active day and the last."""
    caller, user_id = caller_of(request), _SUMMARY.read(request).user_id
    _check_reader(caller, user_id)
    found = await parts_of(request).summaries.of(caller.tenant_id, user_id, datetime.now(UTC))
    most = found.most_active
    shown = HistorySummary(
        total=sum(found.by_type.values()),
        counts_by_type=found.by_type,
        last_30_days=Latest30Days(total=sum(found.latest_by_type.values()), counts_by_type=found.latest_by_type),
        most_active_day=ActiveDay(day=most.day, count=most.count) if most else None,
        last_activity=orjson.loads(found.latest) if found.latest else None,
    )
    headers = {"Cache-Control": "private, no-store"}
    return Response(shown.model_dump_json(by_alias=True), 200, headers, "application/json")


def _check_reader(caller: Caller, user_id: UUID) -> None:
    """Raises ApiError not-found unless the caller may read this user's history."""
    if caller.user_id != user_id and not caller.is_admin:
        raise ApiError("not-found")


async def _page(request: Request, caller: Caller, parameters: _PageParameters, wanted: Wanted) -> Response:
    return _shown(request, caller, parameters, await _found(request, caller, parameters, wanted))


async def _found(request: Request, caller: Caller, parameters: _PageParameters, wanted: Wanted) -> Page:
    _check_reader(caller, parameters.user_id)
    parts, user = parts_of(request), str(parameters.user_id)
    cursor = opened(parts.signer.open, _purpose(caller, user), parameters.cursor)
    must_contain = consistency_cursor(parts, caller.tenant_id, user, parameters.consistency_token)
    return await parts.histories.page(caller.tenant_id, user, parameters.limit, cursor, must_contain, wanted)


def _shown(request: Request, caller: Caller, parameters: _PageParameters, found: Page) -> Response:
    purpose = _purpose(caller, str(parameters.user_id))
    next_cursor = parts_of(request).signer.sign(purpose, found.next) if found.next else None
    return page(found.entries, next_cursor, {"Cache-Control": "private, no-store"})


def _purpose(caller: Caller, user: str) -> str:
    return f"history:{caller.tenant_id}:{user}"


async def _with_filters(request: Request, caller: Caller, entries: list[bytes]) -> list[bytes]:
    """The entries of searches with what was asked, where the user has not deleted it."""
    shown = [orjson.loads(entry) for entry in entries]
    ids = {UUID(entry["activityData"]["searchId"]) for entry in shown}
    asked = await parts_of(request).past_searches.some(caller.tenant_id, caller.user_id, ids)
    for entry in shown:
        search = asked.get(UUID(entry["activityData"]["searchId"]))
        entry["activityData"]["filters"] = orjson.loads(remembered(search.filters)) if search else None
    return [orjson.dumps(entry) for entry in shown]
