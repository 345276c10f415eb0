"""A saved search: its commands and events, with `decide` and `evolve`, and when its rounds are due.

What somebody looks for (a budget, the area of a family) is about a person, so the name and the filters are personal.
Filters are one JSON text, because a personal value is encrypted as a text.
"""

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from domain import fields as f
from domain.command import Actor, Change, Command
from domain.errors import Refusal, check_version
from domain.india import INDIA
from domain.model import Fact, Model
from domain.search import SearchFilters

MAX_SAVED = 50
"""Saved searches of a user: more than anybody reads mails of, and a bound of the rounds that one account causes. Of two
that are created at the same moment both may be saved.
"""
BATCH = timedelta(minutes=10)
"""How long the matches of an instant search are collected, so that an import of listings is one mail."""


class TooManySavedSearches(Refusal):
    code = "too-many-saved-searches"
    advice = f"You have {MAX_SAVED} saved searches. Delete one first."


class SavedSearchNotFound(Refusal):
    code = "not-found"
    advice = "You have no saved search with this id. Check the id."


class Frequency(StrEnum):
    """How often a saved search looks for matches."""

    INSTANT = "INSTANT"
    """Every ten minutes."""
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"


class Weekday(StrEnum):
    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


class PausedBy(StrEnum):
    """Why a saved search is paused."""

    OWNER = "OWNER"
    LINK = "LINK"
    """The link in one of its mails."""
    UNREAD = "UNREAD"
    """Its last six mails were not read."""


_WEEKDAYS = list(Weekday)
_Hour = Annotated[f.Whole, Field(ge=0, le=23)]


def _json_of_filters(text: str) -> str:
    SearchFilters.model_validate_json(text)
    return text


class Schedule(Model):
    """When a saved search looks for matches, in the time of India."""

    frequency: Frequency = Frequency.DAILY
    hour: _Hour = 9
    """Of the day; an instant search ignores it."""
    weekday: Weekday = Weekday.MONDAY
    """Of a weekly search; others ignore it."""

    def next_due(self, after: datetime) -> datetime:
        """The first round later than `after`, in UTC."""
        if self.frequency is Frequency.INSTANT:
            return after + BATCH
        there = after.astimezone(INDIA)
        due = there.replace(hour=self.hour, minute=0, second=0, microsecond=0)
        if self.frequency is Frequency.WEEKLY:
            due += timedelta(days=(_WEEKDAYS.index(self.weekday) - due.weekday()) % 7)
        if due <= there:
            due += timedelta(days=7 if self.frequency is Frequency.WEEKLY else 1)
        return due.astimezone(UTC)


class SearchToSave(Schedule):
    """What its owner sets of a saved search, as the command has it."""

    name: Annotated[f.Label, f.PERSONAL]
    filters: Annotated[str, AfterValidator(_json_of_filters), f.PERSONAL]
    """SearchFilters as JSON."""
    paused: Annotated[bool, Field(strict=True)] = False


class SavedSearch(Schedule, Fact):
    """The state of a saved search."""

    id: UUID
    user_id: UUID
    version: int
    name: Annotated[f.Label, f.PERSONAL]
    filters: Annotated[str, f.PERSONAL]
    """SearchFilters as JSON."""
    paused: PausedBy | None = None
    since: datetime
    """When it was saved, resumed, or given other filters: what happened before is no news."""
    due_at: datetime
    """When its next round is due, if it is not paused. Rounds move it on."""
    created_at: datetime
    updated_at: datetime


class CreateSavedSearch(Command):
    """Save a search for the user who sends the command."""

    type: Literal["create-saved-search"] = "create-saved-search"
    saved_search_id: UUID
    search: SearchToSave

    @property
    def aggregate_id(self) -> UUID:
        return self.saved_search_id


class _SavedSearchChange(Change):
    saved_search_id: UUID

    @property
    def aggregate_id(self) -> UUID:
        return self.saved_search_id


class ChangeSavedSearch(_SavedSearchChange):
    """Replace what the owner sets of a saved search; one that is not `paused` is resumed."""

    type: Literal["change-saved-search"] = "change-saved-search"
    search: SearchToSave


class PauseSavedSearch(_SavedSearchChange):
    """Stop the mails of a saved search: by the link in one of them, or because nobody reads them."""

    type: Literal["pause-saved-search"] = "pause-saved-search"
    by: Literal[PausedBy.LINK, PausedBy.UNREAD]


class DeleteSavedSearch(_SavedSearchChange):
    """Delete a saved search, and what was sent of it."""

    type: Literal["delete-saved-search"] = "delete-saved-search"


SavedSearchCommand = Annotated[
    CreateSavedSearch | ChangeSavedSearch | PauseSavedSearch | DeleteSavedSearch, Field(discriminator="type")
]


class Searcher(Actor):
    """The user who sends a command, and how many searches they have saved."""

    saved: int


class _WholeSavedSearch(Schedule, Fact):
    """The whole state of a saved search after a change."""

    saved_search_id: UUID
    user_id: UUID
    name: Annotated[f.Label | f.Sealed, f.PERSONAL]
    filters: Annotated[str | f.Sealed, f.PERSONAL]
    paused: PausedBy | None = None
    since: datetime


class SavedSearchCreated(_WholeSavedSearch):
    """SAVED_SEARCH_CREATED: a user has saved a search."""


class SavedSearchChanged(_WholeSavedSearch):
    """SAVED_SEARCH_CHANGED: a saved search has other settings, is paused, or is resumed."""


class SavedSearchDeleted(Fact):
    """SAVED_SEARCH_DELETED: a tombstone, the last event of a saved search."""

    saved_search_id: UUID
    user_id: UUID


SavedSearchFact = SavedSearchCreated | SavedSearchChanged | SavedSearchDeleted


def decide(state: SavedSearch | None, command: SavedSearchCommand, by: Searcher) -> list[SavedSearchFact]:
    """The events that `command` causes; empty when it changes nothing.

    Raises SavedSearchNotFound, TooManySavedSearches or VersionConflict.
    """
    if isinstance(command, CreateSavedSearch):
        if state is None and by.saved >= MAX_SAVED:
            raise TooManySavedSearches
        return [] if state else [SavedSearchCreated(**_settings(command, command.search), since=command.issued_at)]
    if state is None or state.user_id != by.user_id:
        if isinstance(command, PauseSavedSearch):
            return []  # the link in a mail of a search that is deleted in the meantime
        raise SavedSearchNotFound
    check_version(command.expected_versions, state.version)
    match command:
        case ChangeSavedSearch():
            return _changed(state, command)
        case PauseSavedSearch():
            return [] if state.paused else [_after(state, paused=command.by)]
        case DeleteSavedSearch():
            return [SavedSearchDeleted(saved_search_id=state.id, user_id=state.user_id)]


def evolve(state: SavedSearch | None, fact: SavedSearchFact, version: int, at: datetime) -> SavedSearch | None:
    """The state after an event, whose personal fields must be decrypted; None after a tombstone."""
    if isinstance(fact, SavedSearchDeleted):
        return None
    values = {name: getattr(fact, name) for name in SavedSearchCreated.model_fields if name != "saved_search_id"}
    times = {"created_at": state.created_at if state else at, "updated_at": at, "due_at": fact.next_due(at)}
    return SavedSearch(id=fact.saved_search_id, version=version, **times, **values)


def _changed(state: SavedSearch, command: ChangeSavedSearch) -> list[SavedSearchFact]:
    wanted = _settings(command, command.search)
    if command.search.paused and state.paused:
        wanted["paused"] = state.paused
    # Compared by value, because Postgres keeps no order of names.
    same = json.loads(wanted["filters"]) == json.loads(state.filters)
    if same:
        wanted["filters"] = state.filters
    begins_anew = not same or (state.paused is not None and wanted["paused"] is None)
    changed = SavedSearchChanged(**wanted, since=command.issued_at if begins_anew else state.since)
    return [] if changed == _after(state) else [changed]


def _settings(command: CreateSavedSearch | ChangeSavedSearch, search: SearchToSave) -> dict[str, Any]:
    paused = PausedBy.OWNER if search.paused else None
    whose = {"saved_search_id": command.saved_search_id, "user_id": command.user_id}
    return {**dict(search), **whose, "paused": paused}


def _after(state: SavedSearch, **changes: Any) -> SavedSearchChanged:
    values = {name: getattr(state, name) for name in SavedSearchChanged.model_fields if name != "saved_search_id"}
    return SavedSearchChanged(saved_search_id=state.id, **{**values, **changes})
