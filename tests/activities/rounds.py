"""A saved search, its rounds, and the listings of others, on real Postgres."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from temporalio.testing import ActivityEnvironment

from activities.saved_search_rounds import Round, RoundDone, SavedSearchOf, SavedSearchRounds
from adapters import event_store
from adapters.postgres import Database
from adapters.tables import deliveries, notices, saved_filters
from domain.events import observation_events
from domain.preferences import Channel, NoticeKind
from domain.property import PropertyPatch
from domain.property_commands import CreateProperty
from domain.saved_searches import CreateSavedSearch
from projections.generations import generation_of
from projections.projection import as_consumed
from projections.search import Search
from tests.activities.accounts import Saving, change
from tests.activities.test_saved_searches import Searching
from tests.projections.messages import stored_messages
from tests.samples import create_property, record_activity

FILTERS = '{"location":["Kondapur"]}'


class Rounds:
    """A saved search of a user for all of Kondapur, its rounds, and the listings of others."""

    def __init__(
        self, rounds: SavedSearchRounds, searching: Searching, saving: Saving, database: Database, all_tenants: Database
    ) -> None:
        self.activities, self.searching, self.saving = rounds, searching, saving
        self.database, self.all_tenants = database, all_tenants
        self.tenant = searching.tenant
        self.of: SavedSearchOf
        self.created: CreateSavedSearch
        self.now: datetime
        self._applied: set[tuple[UUID, int]] = set()

    async def begin(self, **more: Any) -> None:
        user = await self.saving.registered(self.tenant)
        self.created = await self.searching.created(user, **{"filters": FILTERS, "frequency": "INSTANT", **more})
        self.of = SavedSearchOf(tenant_id=self.tenant, saved_search_id=self.created.saved_search_id, user_id=user)
        self.now = self.created.issued_at

    async def has_looked_since(self, ago: timedelta) -> None:
        """Have the saved search be as old, without rounds."""
        of = saved_filters.c.saved_search_id == self.of.saved_search_id
        async with self.database.statements(self.tenant) as connection:
            await connection.execute(update(saved_filters).where(of).values(since=self.created.issued_at - ago))

    async def listed_before(self, ago: timedelta, **more: Any) -> CreateProperty:
        """A listing of a new owner, so long ago."""
        listed = create_property(self.tenant, await self.saving.registered(self.tenant), location="Kondapur", **more)
        listed = listed.model_copy(update={"issued_at": listed.issued_at - ago})
        await self.saving.property(listed)
        return listed

    async def listed(self, **more: Any) -> CreateProperty:
        return await self.saving.listed(self.tenant, location="Kondapur", **more)

    async def changed(self, listed: CreateProperty, command: Any, ago: timedelta = timedelta(), **fields: Any) -> None:
        """Save a change of a listing by its owner, so long ago."""
        changed = change(command, listed, **fields)
        await self.saving.property(changed.model_copy(update={"issued_at": changed.issued_at - ago}))

    async def project(self) -> None:
        """Apply the stored events of the tenant that were not applied to the read model of search."""
        search = Search()
        messages = as_consumed(search, await stored_messages(self.all_tenants, self.tenant), where="test").messages
        read = [event for message in messages if (event := search.read(message.topic, message.value))]
        read = [event for event in read if (event.property_id, event.version) not in self._applied]
        async with self.all_tenants.transaction() as tx:
            await search.apply(tx, read, await generation_of(tx, search.name, locked=True))
        self._applied |= {(event.property_id, event.version) for event in read}

    async def next(self, after: timedelta = timedelta(minutes=10), times: int = 1, projected: bool = True) -> RoundDone:
        """The next round, with everything that was saved in the read model if it is `projected`."""
        if projected:
            await self.project()
        self.now = max(self.now, datetime.now(UTC)) + after
        for _ in range(times):
            done = await ActivityEnvironment().run(self.activities.find_matches, self.round)
        return done

    @property
    def round(self) -> Round:
        return Round(**dict(self.of), at=self.now)

    async def reported(self, done: RoundDone) -> list[tuple[str, str, int | None]]:
        """Listing, reason and previous price of each that the mail of a round shows."""
        return [
            (one["propertyId"], one["because"], one["previousPrice"]) for one in (await self.data(done))["listings"]
        ]

    async def data(self, done: RoundDone) -> Any:
        assert done.recorded is not None
        async with self.database.statements(self.tenant) as connection:
            message = await event_store.by_id(connection, done.recorded)
        assert message is not None
        return message["data"]

    async def delivered(self, event_id: UUID | None, reported: str | None = None) -> None:
        """Record that the mail of a round was sent, and what its provider reports."""
        row: dict[str, Any] = {
            "event_id": event_id,
            "command_id": event_id,
            "recipient_id": self.of.user_id,
            "reported": reported,
        }
        row |= {"tenant_id": self.tenant, "channel": Channel.EMAIL.value, "sent_at": self.now}
        async with self.database.statements(self.tenant) as connection:
            template = NoticeKind.SAVED_SEARCH_MATCHES.value
            await connection.execute(insert(deliveries).values(**row, template=template))

    async def unsent(self, event_id: UUID | None) -> None:
        """Have the mail of a round never be sent: reconcile of a platform that runs beside would send it."""
        async with self.database.statements(self.tenant) as connection:
            await connection.execute(delete(notices).where(notices.c.event_id == event_id))

    async def read(self, *observations: Any) -> None:
        """What the owner does with mails."""
        async with self.database.statements(self.tenant) as connection:
            await event_store.store_observations(
                connection, observation_events(record_activity(self.tenant, *observations))
            )

    async def count(self, table: Any) -> int:
        async with self.database.statements(self.tenant) as connection:
            return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def id_of(listed: CreateProperty) -> str:
    return str(listed.property_id)


def cheaper(price: int) -> dict[str, Any]:
    return {"changes": PropertyPatch.model_validate({"price": price})}
