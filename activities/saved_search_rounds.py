"""The rounds of saved searches: each finds what is news, and records what its owner is told of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson
from temporalio import activity
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.saved_searches import SAVED_SEARCH
from activities.saving import CommandStore
from adapters import event_store, outbox, saved_searches, temporal
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
from domain.search import SearchFilters, SearchQuery

_LOST_AFTER = timedelta(minutes=15)
"""A round takes seconds: its workflow is lost, or something that it needs is unavailable."""
_LIMIT = 500
"""Workflows of one run: reconcile runs again after a minute."""


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
    """Looks for what is news to saved searches."""

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
        """Find what is news, and store what is reported of it with its notice, once.

        Raises DatabaseUnavailable or SearchUnavailable.
        """
        event_id = saved_searches.round_id(round.saved_search_id, round.at)
        async with self._database.statements(round.tenant_id) as connection:
            active = await saved_searches.find_active(connection, round.saved_search_id)
        if active is None:
            return RoundDone()
        if active.last_round_at and active.last_round_at >= round.at:
            return await self._done_before(round, active, event_id)
        checkpoint = await self._checkpoint(round, active)
        found = await self._news(round.tenant_id, active)
        unread = await self._unread(round.tenant_id, active) if found else []
        if is_given_up(unread, round.at):
            return RoundDone(unread=True)
        due_at = active.search.next_due(round.at)
        if await self._record(round, active, due_at, checkpoint, found, unread, event_id):
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

    async def _checkpoint(self, round: Round, active: ActiveSavedSearch) -> datetime | None:
        """Up to when changes can be known: not up to the time of the round, because the read model may have stopped.

        It is read first, because later changes may or may not be among those that the round then looks at.
        """
        last = await self._engine.last_change(round.tenant_id)
        if last is None:
            return active.checkpoint
        return max(filter(None, (active.checkpoint, min(last, round.at))))

    async def _news(self, tenant_id: str, active: ActiveSavedSearch) -> list[MatchedListing]:
        """All that is news to a saved search, what has changed last first."""
        filters = SearchFilters.model_validate_json(active.search.filters)
        async with self._database.statements(tenant_id) as connection:
            read, _ = await interpret_query(connection, SearchQuery(**dict(filters)), interpret=True)
        news: dict[UUID, MatchedListing] = {}
        after = None
        while True:
            page = await self._engine.changes(tenant_id, read, active.changed_since, after)
            cards = {hit.id: orjson.loads(hit.card) for hit in page.hits}
            for id in cards:
                news.pop(id, None)  # it has changed since it was on an earlier page
            of_others = {id: card for id, card in cards.items() if card["ownerId"] != str(active.search.user_id)}
            news |= {match.property_id: match for match in await self._matches(tenant_id, active, of_others)}
            if page.next is None:
                return [*news.values()][::-1]
            after = page.next
            activity.heartbeat(len(news))

    async def _matches(
        self, tenant_id: str, active: ActiveSavedSearch, cards: dict[UUID, dict[str, Any]]
    ) -> list[MatchedListing]:
        """What is news of a page, in its order."""
        since, id = active.changed_since, active.search.id
        async with self._database.statements(tenant_id) as connection:
            reported = await saved_searches.reported_of(connection, id, list(cards))
            unknown = [id for id, card in cards.items() if id not in reported or card["version"] > reported[id].version]
            steps = await saved_searches.steps_of(connection, tenant_id, unknown)
            found = [_found(cards[id], steps[id]) for id in unknown if id in steps]
            owners = {cards[one.id]["ownerId"] for one in found if one.steps[-1].at >= since and one.id not in reported}
            gone = await saved_searches.gone_of(connection, tenant_id, owners, since - RELISTED_WITHIN)
            if gone:
                reported |= await saved_searches.reported_of(connection, id, [one.id for one in gone])
        return matches_of(found, reported, gone, since)

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
        active: ActiveSavedSearch,
        due_at: datetime,
        checkpoint: datetime | None,
        found: Sequence[MatchedListing],
        unread: Sequence[SentMail],
        event_id: UUID,
    ) -> bool:
        """Store a round, with its event and notice if it reports something; False when it is stored already."""
        search = active.search
        mails = [*(mail.at for mail in unread), round.at] if found else active.unread_mails
        async with self._database.transaction(round.tenant_id) as tx:
            if not await saved_searches.record_round(tx, active, round.at, due_at, checkpoint, mails):
                return False
            if found:
                rows = [_reported(round, match) for match in found]
                await saved_searches.store_reported(tx, search.id, rows, active.changed_since)
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


class OverdueSavedSearches:
    """Finds saved searches whose workflow is lost: Temporal was wiped, or their owner may sign in again."""

    def __init__(self, database: Database, client: Client, queue: str) -> None:
        self._database = database
        self._client = client
        self._queue = queue

    @activity.defn
    async def start_overdue_saved_searches(self) -> int:
        """Start the workflows of saved searches with an overdue round; returns how many."""
        async with self._database.statements() as connection:
            overdue = await saved_searches.overdue(connection, datetime.now(UTC), _LOST_AFTER, _LIMIT)
        started = 0
        for one in overdue:
            of = SavedSearchOf(tenant_id=one.tenant_id, saved_search_id=one.saved_search_id, user_id=one.user_id)
            try:
                await self._client.start_workflow(
                    "saved-search",
                    of,
                    id=of.workflow_id,
                    task_queue=self._queue,
                    search_attributes=search_attributes(of),
                )
            except WorkflowAlreadyStartedError:
                continue  # something that it needs is unavailable
            started += 1
            activity.heartbeat(started)
        return started


def search_attributes(of: SavedSearchOf) -> TypedSearchAttributes:
    """Those of a `saved-search` workflow, by which an erasure finds it."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(temporal.TENANT_ID, of.tenant_id),
            SearchAttributePair(temporal.USER_ID, str(of.user_id)),
            SearchAttributePair(temporal.AGGREGATE_ID, str(of.saved_search_id)),
        ]
    )


def _found(card: dict[str, Any], steps: Any) -> Found:
    return Found(
        id=UUID(card["id"]),
        version=card["version"],
        title=card["title"],
        location=card["location"],
        price=card["price"],
        likeness=likeness_of(card, card["ownerId"]),
        steps=steps,
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
