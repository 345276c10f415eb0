"""Saved searches: their commands, and when their rounds are due."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from domain.errors import VersionConflict
from domain.roles import UserRole
from domain.saved_searches import (
    BATCH,
    MAX_SAVED,
    ChangeSavedSearch,
    CreateSavedSearch,
    DeleteSavedSearch,
    Frequency,
    PausedBy,
    PauseSavedSearch,
    SavedSearch,
    SavedSearchCommand,
    SavedSearchDeleted,
    SavedSearchNotFound,
    Schedule,
    Searcher,
    SearchToSave,
    TooManySavedSearches,
    Weekday,
    decide,
    evolve,
)
from tests.samples import new_id

SEARCH, OWNER = new_id(), new_id()
AT = datetime(2026, 11, 30, 6, 0, tzinfo=UTC)
LATER = AT + timedelta(days=1)
TWO_ROOMS = '{"bedrooms":["2"],"maxPrice":9000000}'


def wanted(**more: Any) -> SearchToSave:
    return SearchToSave(**{"name": "Flats in Kondapur", "filters": TWO_ROOMS, **more})


def common(at: datetime = AT, by: UUID = OWNER) -> dict[str, Any]:
    return {
        "command_id": new_id(),
        "tenant_id": "hyderabad",
        "user_id": by,
        "issued_at": at,
        "saved_search_id": SEARCH,
    }


def creating(**more: Any) -> CreateSavedSearch:
    return CreateSavedSearch(**common(), search=wanted(**more))


def changing(at: datetime = LATER, by: UUID = OWNER, expected: int | None = None, **more: Any) -> ChangeSavedSearch:
    versions = None if expected is None else (expected,)
    return ChangeSavedSearch(**common(at, by), search=wanted(**more), expected_versions=versions)


def pausing(by: Any = PausedBy.UNREAD) -> PauseSavedSearch:
    return PauseSavedSearch(**common(LATER), by=by)


def searcher(saved: int = 0, user_id: UUID = OWNER) -> Searcher:
    return Searcher(user_id=user_id, role=UserRole.USER, saved=saved)


def after(*commands: SavedSearchCommand) -> Any:
    """The state after commands."""
    state: SavedSearch | None = None
    version = 0
    for command in commands:
        for fact in decide(state, command, searcher()):
            version += 1
            state = evolve(state, fact, version, command.issued_at)
    return state


def test_saved_search_is_what_its_owner_asked_for() -> None:
    state = after(creating(frequency=Frequency.WEEKLY, weekday=Weekday.SATURDAY, hour=18))

    assert (state.id, state.user_id, state.version, state.name) == (SEARCH, OWNER, 1, "Flats in Kondapur")
    assert (state.filters, state.frequency, state.weekday, state.hour) == (TWO_ROOMS, "WEEKLY", "SATURDAY", 18)
    assert (state.paused, state.since, state.created_at, state.updated_at) == (None, AT, AT, AT)
    assert state.due_at == state.next_due(AT)
    assert decide(state, creating(), searcher()) == []


def test_fifty_first_saved_search_is_refused() -> None:
    assert decide(None, creating(), searcher(MAX_SAVED - 1))
    with pytest.raises(TooManySavedSearches):
        decide(None, creating(), searcher(MAX_SAVED))


def test_filters_that_cannot_be_read_are_no_command() -> None:
    with pytest.raises(ValidationError):
        wanted(filters='{"bedrooms":["many"]}')


def test_new_name_and_hour_do_not_begin_anew_but_new_filters_do() -> None:
    renamed = after(creating(), changing(name="Homes", hour=7, filters='{"maxPrice": 9000000, "bedrooms": ["2"]}'))
    other = after(creating(), changing(filters='{"bedrooms":["3"]}'))

    assert (renamed.name, renamed.hour, renamed.version, renamed.since) == ("Homes", 7, 2, AT)
    assert (other.since, other.updated_at) == (LATER, LATER)


def test_same_settings_change_nothing() -> None:
    assert decide(after(creating()), changing(filters='{"maxPrice": 9000000, "bedrooms": ["2"]}'), searcher()) == []


@pytest.mark.parametrize("by", [PausedBy.UNREAD, PausedBy.LINK])
def test_paused_search_says_why_and_begins_anew_when_it_is_resumed(by: PausedBy) -> None:
    paused = after(creating(), pausing(by))
    kept = after(creating(), pausing(by), changing(paused=True, name="Homes"))
    resumed = after(creating(), pausing(by), changing())

    assert (paused.paused, paused.since) == (by, AT)
    assert decide(paused, pausing(), searcher()) == []
    assert (kept.paused, kept.since) == (by, AT)
    assert (resumed.paused, resumed.since) == (None, LATER)


def test_owner_pauses_by_a_change() -> None:
    state = after(creating(), changing(paused=True))

    assert state.paused is PausedBy.OWNER


def test_deleted_search_is_gone_and_the_link_in_its_mails_does_nothing() -> None:
    [fact] = decide(after(creating()), DeleteSavedSearch(**common()), searcher())

    assert isinstance(fact, SavedSearchDeleted)
    assert after(creating(), DeleteSavedSearch(**common())) is None
    assert decide(None, pausing(PausedBy.LINK), searcher()) == []
    for command in (changing(), DeleteSavedSearch(**common())):
        with pytest.raises(SavedSearchNotFound):
            decide(None, command, searcher())


def test_saved_search_of_somebody_else_is_not_found() -> None:
    other = new_id()
    with pytest.raises(SavedSearchNotFound):
        decide(after(creating()), changing(by=other), searcher(user_id=other))


def test_change_of_another_version_is_refused() -> None:
    with pytest.raises(VersionConflict):
        decide(after(creating()), changing(expected=7, name="Homes"), searcher())


MONDAY_NOON = datetime(2026, 11, 30, 6, 30, tzinfo=UTC)
"""12:00 in India."""


@pytest.mark.parametrize(
    ("schedule", "every"),
    [
        (Schedule(frequency=Frequency.DAILY, hour=9), timedelta(days=1)),
        (Schedule(frequency=Frequency.WEEKLY, weekday=Weekday.SUNDAY, hour=9), timedelta(days=7)),
    ],
    ids=["daily", "weekly"],
)
def test_hour_is_the_same_all_the_year_round(schedule: Schedule, every: timedelta) -> None:
    due = [schedule.next_due(AT)]
    while due[-1] < AT + timedelta(days=366):
        due.append(schedule.next_due(due[-1]))

    assert {(at.hour, at.minute, at.second) for at in due} == {(3, 30, 0)}
    assert {later - earlier for earlier, later in pairwise(due)} == {every}


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        (Schedule(frequency=Frequency.INSTANT), MONDAY_NOON + BATCH),
        (Schedule(frequency=Frequency.DAILY, hour=18), datetime(2026, 11, 30, 12, 30, tzinfo=UTC)),
        (Schedule(frequency=Frequency.DAILY, hour=12), datetime(2026, 12, 1, 6, 30, tzinfo=UTC)),
        # Midnight to half past five in India is the day before in UTC.
        (Schedule(frequency=Frequency.DAILY, hour=2), datetime(2026, 11, 30, 20, 30, tzinfo=UTC)),
        (
            Schedule(frequency=Frequency.WEEKLY, weekday=Weekday.MONDAY, hour=13),
            datetime(2026, 11, 30, 7, 30, tzinfo=UTC),
        ),
        (
            Schedule(frequency=Frequency.WEEKLY, weekday=Weekday.MONDAY, hour=9),
            datetime(2026, 12, 7, 3, 30, tzinfo=UTC),
        ),
        (
            Schedule(frequency=Frequency.WEEKLY, weekday=Weekday.SUNDAY, hour=9),
            datetime(2026, 12, 6, 3, 30, tzinfo=UTC),
        ),
    ],
)
def test_round_is_due_at_the_chosen_time_in_india(schedule: Schedule, due: datetime) -> None:
    assert schedule.next_due(MONDAY_NOON) == due
