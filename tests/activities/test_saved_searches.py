"""Commands on saved searches, on real Postgres."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from temporalio.exceptions import ApplicationError

from activities.saved_searches import SavedSearches
from activities.saving import CommandStore
from adapters import event_store, saved_searches
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import saved_filters, saved_search_matches, users
from domain.command import Command, Saved
from domain.saved_searches import (
    MAX_SAVED,
    ChangeSavedSearch,
    CreateSavedSearch,
    DeleteSavedSearch,
    PausedBy,
    PauseSavedSearch,
    SavedSearch,
    SearchToSave,
)
from tests.activities.accounts import Saving
from tests.samples import new_id, new_tenant

FILTERS = '{"bedrooms":["2"],"maxPrice":9000000,"q":"near Canary Street"}'


class Searching:
    """Users of one tenant who save searches, through the real activity."""

    def __init__(self, store: CommandStore, keyring: Keyring, database: Database, tenant: str) -> None:
        self._searches = SavedSearches(store)
        self._keyring = keyring
        self._database = database
        self.tenant = tenant

    def creating(self, user: UUID, **more: Any) -> CreateSavedSearch:
        wanted = SearchToSave(**{"name": "Flats", "filters": FILTERS, **more})
        return CreateSavedSearch(**self._by(user), saved_search_id=new_id(), search=wanted)

    def of(self, created: CreateSavedSearch, command: Any, **more: Any) -> Any:
        return command(**self._by(created.user_id), saved_search_id=created.saved_search_id, **more)

    def _by(self, user: UUID) -> dict[str, Any]:
        return {"command_id": new_id(), "tenant_id": self.tenant, "user_id": user, "issued_at": datetime.now(UTC)}

    async def save(self, command: Command) -> Saved:
        return await self._searches.save_saved_search(self._keyring.seal_in_transit(command, command.command_id))

    async def created(self, user: UUID, **more: Any) -> CreateSavedSearch:
        command = self.creating(user, **more)
        await self.save(command)
        return command

    async def found(self, created: CreateSavedSearch) -> SavedSearch | None:
        async with self._database.statements(self.tenant) as connection:
            return await saved_searches.find(connection, created.user_id, created.saved_search_id)


@pytest.fixture
def searching(store: CommandStore, keyring: Keyring, database: Database, tenant: str) -> Searching:
    return Searching(store, keyring, database, tenant)


async def test_saved_search_is_a_row_and_an_event_that_only_its_owners_key_opens(
    database: Database, saving: Saving, searching: Searching
) -> None:
    user = await saving.registered(searching.tenant)
    command = searching.creating(user)

    first, again = await searching.save(command), await searching.save(command)

    assert saving.answer(again) == saving.answer(first)
    found = await searching.found(command)
    assert found is not None
    assert (found.name, found.filters, found.version, found.since) == ("Flats", FILTERS, 1, command.issued_at)
    assert found == SavedSearch.model_validate(saving.resource(first))
    async with database.statements(searching.tenant) as connection:
        [event] = await event_store.of_aggregate(connection, command.saved_search_id, limit=10)
        [row] = await connection.execute(select(saved_filters.c.due_at, saved_filters.c.paused))
        assert await saved_searches.of_user(connection, user) == [found]
    assert event["data"]["name"].keys() == event["data"]["filters"].keys() == {"sealed"}
    assert "Canary" not in str(event)
    assert row.due_at == command.search.next_due(command.issued_at)


async def test_pause_change_and_deletion_follow_each_other(
    database: Database, saving: Saving, searching: Searching
) -> None:
    created = await searching.created(await saving.registered(searching.tenant))

    await searching.save(searching.of(created, PauseSavedSearch, by=PausedBy.LINK))
    paused = await searching.found(created)
    resumed = searching.of(created, ChangeSavedSearch, search=created.search, expected_versions=(2,))
    await searching.save(resumed)
    going_on = await searching.found(created)
    gone = await searching.save(searching.of(created, DeleteSavedSearch, expected_versions=(3,)))

    assert (paused and paused.paused, paused and paused.version) == (PausedBy.LINK, 2)
    assert (going_on and going_on.paused, going_on and going_on.since) == (None, resumed.issued_at)
    assert (gone.resource, await searching.found(created)) == (None, None)
    with pytest.raises(ApplicationError) as refused:
        await searching.save(searching.of(created, DeleteSavedSearch))
    assert refused.value.type == "not-found"
    late_click = await searching.save(searching.of(created, PauseSavedSearch, by=PausedBy.LINK))
    assert late_click.events == ()


async def test_deletion_forgets_what_was_reported(database: Database, saving: Saving, searching: Searching) -> None:
    created = await searching.created(await saving.registered(searching.tenant))
    of = {"saved_search_id": created.saved_search_id, "user_id": created.user_id, "property_id": new_id()}
    row = {"tenant_id": searching.tenant, **of, "version": 1, "price": 1, "reported_at": datetime.now(UTC)}
    async with database.transaction(searching.tenant) as tx:
        await saved_searches.store_reported(tx, created.saved_search_id, [{**row, "back_at": None}], datetime.now(UTC))

    await searching.save(searching.of(created, DeleteSavedSearch))

    async with database.statements(searching.tenant) as connection:
        assert (await connection.execute(select(saved_search_matches))).all() == []


async def test_fifty_first_saved_search_is_refused(saving: Saving, searching: Searching) -> None:
    user = await saving.registered(searching.tenant)
    for _ in range(MAX_SAVED):
        await searching.created(user)

    with pytest.raises(ApplicationError) as refused:
        await searching.created(user)

    assert refused.value.type == "too-many-saved-searches"


async def test_search_of_somebody_else_or_of_another_tenant_is_not_found(
    store: CommandStore, keyring: Keyring, database: Database, saving: Saving, searching: Searching
) -> None:
    created = await searching.created(await saving.registered(searching.tenant))
    other = await saving.registered(searching.tenant)
    elsewhere = Searching(store, keyring, database, new_tenant())
    stranger = await saving.registered(elsewhere.tenant)

    for where, user in ((searching, other), (elsewhere, stranger)):
        mine = created.model_copy(update={"user_id": user})
        with pytest.raises(ApplicationError) as refused:
            await where.save(where.of(mine, ChangeSavedSearch, search=created.search))
        assert refused.value.type == "not-found"
        assert await where.found(mine) is None
    async with database.statements(elsewhere.tenant) as connection:
        assert await saved_searches.find_active(connection, created.saved_search_id) is None


async def test_suspended_user_may_stop_mails_but_not_save_searches(
    database: Database, saving: Saving, searching: Searching
) -> None:
    created = await searching.created(await saving.registered(searching.tenant))
    async with database.statements(searching.tenant) as connection:
        await connection.execute(users.update().where(users.c.user_id == created.user_id).values(status="SUSPENDED"))

    with pytest.raises(ApplicationError) as refused:
        await searching.created(created.user_id)
    await searching.save(searching.of(created, PauseSavedSearch, by=PausedBy.LINK))

    assert refused.value.type == "account-closed"
    found = await searching.found(created)
    assert found is not None
    assert found.paused is PausedBy.LINK
