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
from adapters.saved_searches import Looking
from adapters.sealing import Keyring
from adapters.search.engine import SearchEngine
from adapters.search.reading import understood
from domain.command import Saved
from domain.events import observation_events
from domain.matching import (
    MAX_SHOWN,
    MAX_UNREAD,
    RELISTED_WITHIN,
    Found,
    SentMail,
    likeness_of,
    matches_of,
    unread_in_a_row,
)
from domain.model import Fact
from domain.notifications import in_app_id, notices_of
from domain.observations import Matched, MatchedListing, MatchReason, RecordActivity, SavedSearchMatched
from domain.saved_searches import PausedBy, PauseSavedSearch
from domain.search import SearchFilters, SearchQuery, Sort

_OVERLAP = timedelta(hours=6)
"""How far a round looks back beyond the last one: the read model may have been so late. What was reported is known."""
_PAGE = 100
_MAX_FOUND = 500
"""Listings that one round looks at, the newest. A search with more of them in six hours asks for too much."""
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
            looking = await saved_searches.find_looking(connection, of.saved_search_id)
        return looking.due_at if looking else None

    @activity.defn
    async def find_matches(self, round: Round) -> RoundDone:
        """Find what is news, and store what is reported of it with its notice, once.

        Raises DatabaseUnavailable or SearchUnavailable.
        """
        event_id = uuid5(round.saved_search_id, f"round/{round.at.isoformat()}")
        async with self._database.statements(round.tenant_id) as connection:
            looking = await saved_searches.find_looking(connection, round.saved_search_id)
        if looking is None:
            return RoundDone()
        if looking.looked_at and looking.looked_at >= round.at:
            return await self._done_before(round, looking, event_id)
        found = await self._matches(round.tenant_id, looking)
        unread = await self._unread(round.tenant_id, looking) if found else 0
        if unread >= MAX_UNREAD:
            return RoundDone(unread=True)
        due_at = looking.search.next_due(round.at)
        if await self._record(round, looking, due_at, found, unread, event_id):
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

    async def _done_before(self, round: Round, looking: Looking, event_id: UUID) -> RoundDone:
        """The result of a round whose answer was lost."""
        async with self._database.statements(round.tenant_id) as connection:
            is_stored = await event_store.by_id(connection, event_id) is not None
        return RoundDone(recorded=event_id if is_stored else None, due_at=looking.due_at)

    async def _matches(self, tenant_id: str, looking: Looking) -> list[tuple[Found, MatchedListing]]:
        """What is news to a saved search, the newest first."""
        since = looking.search.since
        if looking.looked_at:
            since = max(since, looking.looked_at - _OVERLAP)
        cards = {UUID(card["id"]): card for card in await self._cards(tenant_id, looking, since)}
        async with self._database.statements(tenant_id) as connection:
            reported = await saved_searches.reported_of(connection, looking.search.id, list(cards))
            unknown = [id for id, card in cards.items() if id not in reported or card["version"] > reported[id].version]
            steps = await saved_searches.steps_of(connection, tenant_id, unknown)
            found = [_found(cards[id], steps[id]) for id in unknown if id in steps]
            owners = {cards[one.id]["ownerId"] for one in found if one.steps[-1].at >= since and one.id not in reported}
            gone = await saved_searches.gone_of(connection, tenant_id, owners, since - RELISTED_WITHIN)
        return matches_of(found, reported, [one for id, one in gone if id not in cards], since)

    async def _cards(self, tenant_id: str, looking: Looking, since: datetime) -> list[dict[str, Any]]:
        """The listings of others that match, and have changed since."""
        filters = SearchFilters.model_validate_json(looking.search.filters)
        changed = max(filters.changed_since or since, since)
        async with self._database.statements(tenant_id) as connection:
            read, _ = await understood(connection, SearchQuery(**dict(filters)), interpret=True)
        query = read.model_copy(update={"changed_since": changed, "sort": Sort.NEWEST, "limit": _PAGE})
        cards: list[dict[str, Any]] = []
        after = None
        while len(cards) < _MAX_FOUND:
            page = await self._engine.search(tenant_id, query, after, with_counts=False)
            cards += [orjson.loads(hit.card) for hit in page.hits]
            after = page.next
            if after is None:
                break
        return [card for card in cards if card["ownerId"] != str(looking.search.user_id)]

    async def _unread(self, tenant_id: str, looking: Looking) -> int:
        if not looking.mails:
            return 0
        search = looking.search
        async with self._database.statements(tenant_id) as connection:
            readings = await saved_searches.readings_of(connection, search.user_id, search.id, looking.mails[0].at)
        return unread_in_a_row(looking.mails, readings)

    async def _record(
        self,
        round: Round,
        looking: Looking,
        due_at: datetime,
        found: Sequence[tuple[Found, MatchedListing]],
        unread: int,
        event_id: UUID,
    ) -> bool:
        """Store a round, with its event and notice if it reports something; False when it is stored already."""
        search, shown = looking.search, tuple(match for _, match in found[:MAX_SHOWN])
        mails = [*looking.mails]
        if found:
            ids = frozenset(match.property_id for match in shown)
            mails.append(SentMail(in_app_id(event_id, search.user_id), round.at, ids))
        async with self._database.transaction(round.tenant_id) as tx:
            if not await saved_searches.record_round(tx, looking, round.at, due_at, mails[-MAX_UNREAD:]):
                return False
            if found:
                rows = [_reported(round, search.user_id, listing, match) for listing, match in found]
                await saved_searches.store_reported(tx, search.id, rows)
                matched = Matched(
                    event_id=event_id,
                    aggregate_id=search.id,
                    user_id=search.user_id,
                    timestamp=round.at,
                    data=SavedSearchMatched(
                        saved_search_id=search.id,
                        user_id=search.user_id,
                        total=len(found),
                        listings=shown,
                        unread=unread,
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


def _reported(round: Round, user_id: UUID, listing: Found, match: MatchedListing) -> dict[str, Any]:
    return {
        "tenant_id": round.tenant_id,
        "saved_search_id": round.saved_search_id,
        "property_id": listing.id,
        "user_id": user_id,
        "version": listing.version,
        "price": listing.price,
        "reported_at": round.at,
        "back_at": round.at if match.because is MatchReason.BACK else None,
    }
