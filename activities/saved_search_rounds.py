"""The rounds of saved searches: each finds new matches, and records what its owner is notified of."""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import orjson
from sqlalchemy.exc import DataError
from temporalio import activity
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from activities.saved_searches import SAVED_SEARCH
from activities.saving import CommandStore
from adapters import event_store, listing_events, outbox, saved_searches, temporal
from adapters.outbox import PendingEvent
from adapters.postgres import Database
from adapters.saved_searches import ActiveSavedSearch
from adapters.sealing import Keyring
from adapters.search.engine import SearchEngine
from adapters.search.reading import interpret_query
from domain.command import Saved
from domain.events import observation_events
from domain.matching import (
    MAX_SHOWN,
    RELISTED_WITHIN,
    Found,
    SentMail,
    is_given_up,
    likeness_of,
    matches_of,
    unread_in_a_row,
)
from domain.model import Fact
from domain.notifications import notices_of
from domain.observations import Matched, MatchedListing, MatchReason, RecordActivity, SavedSearchMatched
from domain.saved_searches import PausedBy, PauseSavedSearch
from domain.search import Hit, SearchFilters, SearchQuery

log = logging.getLogger(__name__)

_WRONG_DATA = (ValueError, TypeError, LookupError, ArithmeticError, DataError)
"""What filters raise that a later release no longer reads, and events without what theirs should have."""


class SavedSearchOf(Fact):
    """The input of a `saved-search` workflow."""

    tenant_id: str
    saved_search_id: UUID
    user_id: UUID

    @property
    def workflow_id(self) -> str:
        return f"saved-search/{self.tenant_id}/{self.saved_search_id}"


class Round(SavedSearchOf):
    """One round of a saved search."""

    at: datetime


class RoundDone(Fact):
    """What a round has done."""

    reported: int = 0
    """Listings."""
    recorded: UUID | None = None
    """The command id of the event that is to be published; None without any."""
    unread: bool = False
    """Whether nothing was reported because the last mails were not read."""
    due_at: datetime | None = None
    """The next round; None ends the rounds: the saved search is paused or deleted, or its owner may not sign in."""


class SavedSearchRounds:
    """Finds new matches of saved searches."""

    def __init__(
        self,
        database: Database,
        engine: SearchEngine,
        store: CommandStore,
        keyring: Keyring,
        enqueued: Callable[[Sequence[PendingEvent]], None],
    ) -> None:
        """`enqueued` is called with the event of a round that reports something, after it is saved."""
        self._database = database
        self._engine = engine
        self._store = store
        self._keyring = keyring
        self._enqueued = enqueued

    @activity.defn
    async def next_round(self, of: SavedSearchOf) -> datetime | None:
        """When the next round is due; None ends the rounds. Raises DatabaseUnavailable."""
        async with self._database.statements(of.tenant_id) as connection:
            active = await saved_searches.find_active(connection, of.saved_search_id)
        return active.search.due_at if active else None

    @activity.defn
    async def find_matches(self, round: Round) -> RoundDone:
        """Find new matches, and store what is reported of them with its notice, once.

        A round whose data is wrong reports nothing, and the next one looks at the same changes again: it would fail
        however often it is retried at once. Raises DatabaseUnavailable or SearchUnavailable.
        """
        event_id = saved_searches.round_id(round.saved_search_id, round.at)
        async with self._database.statements(round.tenant_id) as connection:
            active = await saved_searches.find_active(connection, round.saved_search_id)
        if active is None:
            return RoundDone()
        if active.last_round_at and active.last_round_at >= round.at:
            return await self._done_before(round, active, event_id)
        seen = active
        found: list[MatchedListing] = []
        unread: list[SentMail] = []
        try:
            seen, since = await self._seen(round, active)
            found = await self._new_matches(round.tenant_id, active, since)
            unread = await self._unread(round.tenant_id, active) if found else []
        except _WRONG_DATA as error:
            [frame] = traceback.extract_tb(error.__traceback__)[-1:]
            # Without the message, which may have what somebody looks for.
            where = f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
            log.error("saved search %s: a round fails by its data: %s", round.saved_search_id, where)
            seen, found, unread = active, [], []
        if is_given_up(unread, round.at):
            return RoundDone(unread=True)
        due_at = active.search.next_due(round.at)
        if await self._record(round, seen, due_at, found, unread, event_id):
            return RoundDone(reported=len(found), recorded=event_id if found else None, due_at=due_at)
        return RoundDone(due_at=await self.next_round(round))

    @activity.defn
    async def pause_unread(self, round: Round) -> Saved:
        """Pause a saved search whose last mails were not read, once. Raises DatabaseUnavailable."""
        command = PauseSavedSearch(
            command_id=uuid5(round.saved_search_id, f"unread/{round.at.isoformat()}"),
            tenant_id=round.tenant_id,
            user_id=round.user_id,
            issued_at=round.at,
            saved_search_id=round.saved_search_id,
            by=PausedBy.UNREAD,
        )
        return await self._store.save(SAVED_SEARCH, self._keyring.seal_in_transit(command, command.command_id))

    async def _done_before(self, round: Round, active: ActiveSavedSearch, event_id: UUID) -> RoundDone:
        """The result of a round whose answer was lost."""
        async with self._database.statements(round.tenant_id) as connection:
            is_stored = await event_store.by_id(connection, event_id) is not None
        return RoundDone(recorded=event_id if is_stored else None, due_at=active.search.due_at)

    async def _seen(self, round: Round, active: ActiveSavedSearch) -> tuple[ActiveSavedSearch, datetime]:
        """The saved search with what this round will have seen, and from when on it looks at changes.

        Not up to the time of the round, because the read model may have stopped. Both are read first, because later
        changes and switches may or may not be among what the round then looks at.
        """
        async with self._database.statements(round.tenant_id) as connection:
            rebuilt = await saved_searches.rebuilt_since(connection, active.generation)
        last = await self._engine.last_change(round.tenant_id)
        checkpoint = max(filter(None, (active.checkpoint, last and min(last, round.at))), default=None)
        since = active.applied_since
        if rebuilt.since and active.checkpoint:
            since = min(since, rebuilt.since - saved_searches.OVERLAP)
        return replace(active, checkpoint=checkpoint, generation=rebuilt.generation), since

    async def _new_matches(self, tenant_id: str, active: ActiveSavedSearch, since: datetime) -> list[MatchedListing]:
        """All new matches of a saved search among the changes applied since, what was applied last first."""
        filters = SearchFilters.model_validate_json(active.search.filters)
        async with self._database.statements(tenant_id) as connection:
            read, _ = await interpret_query(connection, SearchQuery(**dict(filters)), interpret=True)
        matches: dict[UUID, MatchedListing] = {}
        after = None
        while True:
            page = await self._engine.changes(tenant_id, read, since, after)
            for hit in page.hits:
                matches.pop(hit.id, None)  # it has changed since it was on an earlier page
            matches |= {match.property_id: match for match in await self._matches(tenant_id, active, page.hits)}
            if page.next is None:
                return [*matches.values()][::-1]
            after = page.next
            activity.heartbeat(len(matches))

    async def _matches(self, tenant_id: str, active: ActiveSavedSearch, hits: Sequence[Hit]) -> list[MatchedListing]:
        """The new matches of a page, in its order."""
        since, id = active.changed_since, active.search.id
        cards = {hit.id: orjson.loads(hit.card) for hit in hits}
        cards = {id: card for id, card in cards.items() if card["ownerId"] != str(active.search.user_id)}
        late = {hit.id: max(active.search.since, hit.changed_at) for hit in hits if hit.changed_at}
        async with self._database.statements(tenant_id) as connection:
            reported = await saved_searches.reported_of(connection, id, list(cards))
            unknown = [id for id, card in cards.items() if id not in reported or card["version"] > reported[id].version]
            steps = await listing_events.steps_of(connection, tenant_id, unknown)
            found = [_found(cards[id], steps[id], late.get(id)) for id in unknown if id in steps]
            owners = {cards[one.id]["ownerId"] for one in found if one.id not in reported}
            earliest = min(since, *late.values()) if late else since
            gone = await listing_events.gone_of(connection, tenant_id, owners, earliest - RELISTED_WITHIN)
            listed = []
            if gone:
                reported |= await saved_searches.reported_of(connection, id, [one.id for one in gone])
                owners = {str(one.likeness.kind[0]) for one in gone}
                listed = await listing_events.created_by(connection, owners, earliest - 2 * RELISTED_WITHIN)
        return matches_of(found, reported, gone, since, listed)

    async def _unread(self, tenant_id: str, active: ActiveSavedSearch) -> list[SentMail]:
        """The last mails that were not read, one after the other."""
        if not active.unread_mails:
            return []
        search = active.search
        async with self._database.statements(tenant_id) as connection:
            mails = await saved_searches.mails_of(connection, active)
            readings = await saved_searches.readings_of(connection, search.user_id, search.id, mails[0].at)
        return unread_in_a_row(mails, readings)

    async def _record(
        self,
        round: Round,
        seen: ActiveSavedSearch,
        due_at: datetime,
        found: Sequence[MatchedListing],
        unread: Sequence[SentMail],
        event_id: UUID,
    ) -> bool:
        """Store a round, with its event and notice if it reports something; False when it is stored already."""
        search = seen.search
        mails = [*(mail.at for mail in unread), round.at] if found else seen.unread_mails
        async with self._database.transaction(round.tenant_id) as tx:
            if not await saved_searches.record_round(tx, seen, round.at, due_at, mails):
                return False
            if found:
                rows = [_reported(round, match) for match in found]
                await saved_searches.store_reported(tx, search.id, rows, seen.applied_since)
                matched = Matched(
                    event_id=event_id,
                    aggregate_id=search.id,
                    user_id=search.user_id,
                    timestamp=round.at,
                    data=SavedSearchMatched(
                        saved_search_id=search.id,
                        user_id=search.user_id,
                        total=len(found),
                        listings=tuple(found[:MAX_SHOWN]),
                        unread=sum(mail.delivered for mail in unread),
                    ),
                )
                batch = RecordActivity(command_id=event_id, tenant_id=round.tenant_id, observations=(matched,))
                [event] = observation_events(batch)
                await event_store.store_observations(tx, [event])
                await outbox.store_notices(tx, round.tenant_id, event_id, notices_of(event))
        if found:
            self._enqueued([PendingEvent(round.tenant_id, event_id, event_id)])
        return True


def search_attributes(of: SavedSearchOf) -> TypedSearchAttributes:
    """Those of a `saved-search` workflow, by which an erasure finds it."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(temporal.TENANT_ID, of.tenant_id),
            SearchAttributePair(temporal.USER_ID, str(of.user_id)),
            SearchAttributePair(temporal.AGGREGATE_ID, str(of.saved_search_id)),
        ]
    )


def _found(card: dict[str, Any], steps: Any, late_since: datetime | None) -> Found:
    return Found(
        id=UUID(card["id"]),
        version=card["version"],
        title=card["title"],
        location=card["location"],
        price=card["price"],
        likeness=likeness_of(card, card["ownerId"]),
        steps=steps,
        late_since=late_since,
    )


def _reported(round: Round, match: MatchedListing) -> dict[str, Any]:
    return {
        "tenant_id": round.tenant_id,
        "saved_search_id": round.saved_search_id,
        "property_id": match.property_id,
        "user_id": round.user_id,
        "version": match.version,
        "price": match.price,
        "reported_at": round.at,
        "back_at": round.at if match.because is MatchReason.BACK else None,
    }
