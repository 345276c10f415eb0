"""The steps of an erasure on real servers, each of them twice."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, update
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment

from activities.erasing import Erasures, OverdueErasures
from activities.favorites import Favorites
from activities.publishing import Publishing
from activities.saving import CommandStore
from activities.sweeping import Sweeping
from adapters import event_store, personal_data, tables, temporal, uploads
from adapters.event_store import Position
from adapters.kafka import Publisher
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from domain.events import read_event
from domain.favorite_commands import FavoriteProperty
from domain.preferences import Channel
from domain.property_commands import ChangePropertyStatus, FeatureProperty
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.user import ProfilePatch
from domain.user_commands import ChangeRole, RequestPasswordReset, UpdateProfile
from projections.history import History
from projections.history_pages import HistoryPages
from projections.rebuild import rebuild
from tests.activities.accounts import Saving, change
from tests.activities.erased import (
    EMAIL,
    NAME,
    PHONE,
    Account,
    add_last_mail,
    add_read_models,
    add_rows,
    count,
    last_event,
    project,
    rows_of,
)
from tests.activities.filing import Filing, original
from tests.activities.test_accounts import on, opened
from tests.files import JPEG, pdf
from tests.platform import until
from tests.projections.messages import stored_messages
from tests.samples import create_property, new_id, register_user
from workflows.create_property import CreatePropertyWorkflow

STEPS = ("withdraw_listings", "delete_listings", "delete_executions", "delete_cached", "delete_rows", "destroy_key")


@pytest.fixture
async def publishing(all_tenants: Database, publisher: Publisher) -> AsyncIterator[Publishing]:
    publishing = Publishing(all_tenants, publisher)
    yield publishing
    await publishing.close()


@pytest.fixture
def erasures(
    database: Database,
    all_tenants: Database,
    keyring: Keyring,
    store: CommandStore,
    publishing: Publishing,
    valkey: Redis,
    temporal_client: Client,
    settings: Settings,
) -> Erasures:
    return Erasures(database, all_tenants, keyring, store, publishing, valkey, temporal_client, Objects(settings))


async def run(erasures: Erasures, step: str, account: Account) -> Any:
    return await ActivityEnvironment().run(getattr(erasures, step), account.erasing)


async def done(erasures: Erasures, account: Account, *, times: int = 1) -> None:
    """Save the erasure and take each step, without its last mail."""
    await account.erase()
    for step in STEPS:
        for _ in range(times):
            await run(erasures, step, account)


@pytest.fixture
async def account(database: Database, store: CommandStore, saving: Saving, keyring: Keyring, tenant: str) -> Account:
    """Has a row in each table of persons."""
    user_id = await saving.registered(tenant, username=NAME, email=EMAIL, phoneNumber=PHONE)
    listed = create_property(tenant, user_id, contactPhone=PHONE, contactName="Canary Bird")
    await saving.property(listed)
    others = await saving.listed(tenant)
    favorite = on(tenant, user_id, FavoriteProperty, property_id=others.property_id)
    await Favorites(store).save_favorite(keyring.seal_in_transit(favorite, favorite.command_id))
    await saving.user(on(tenant, user_id, UpdateProfile, changes=ProfilePatch(address="12 Canary Street")))
    await saving.user(on(tenant, user_id, RequestPasswordReset))
    await opened(database, tenant, user_id)
    await add_rows(database, keyring, tenant, user_id)
    return Account(tenant, user_id, listed, saving)


@pytest.mark.temporal
async def test_every_step_taken_twice_leaves_no_row_of_the_person_and_every_row_of_others(
    erasures: Erasures, account: Account, saving: Saving, all_tenants: Database, valkey: Redis, keyring: Keyring
) -> None:
    await add_read_models(all_tenants, account)
    await add_last_mail(all_tenants, account)
    neighbour = await saving.registered(account.tenant)
    await project(all_tenants, History(valkey), account.tenant)
    before, of_neighbour = await rows_of(all_tenants, account.id), await rows_of(all_tenants, neighbour)
    bad = tables.bad_addresses.c.address_digest == keyring.address_digest(Channel.SMS, PHONE)

    await done(erasures, account, times=2)

    assert all(before.values()), before
    after = await rows_of(all_tenants, account.id)
    assert {name: left for name, left in after.items() if left} == {"deliveries": 1}  # the mail about the erasure
    assert await count(all_tenants, tables.notices, tables.notices.c.audience_id == account.id) == 1
    left = await rows_of(all_tenants, neighbour)
    # More is no fault: the platform beside this test may have expanded the notice of the registration.
    assert {name for name, count in of_neighbour.items() if left[name] < count} == set()
    assert await count(all_tenants, tables.bad_addresses, bad, tables.bad_addresses.c.tenant_id == account.tenant) == 0


async def test_uploads_and_documents_are_deleted_and_what_others_have_of_the_same_bytes_stays(
    erasures: Erasures,
    account: Account,
    saving: Saving,
    database: Database,
    all_tenants: Database,
    store: CommandStore,
    settings: Settings,
) -> None:
    filing = Filing(database, all_tenants, Objects(settings), store, account.tenant)
    neighbour = await saving.registered(account.tenant)
    shared, own = pdf(), pdf(b"4 0 obj (only the canary has this) endobj\n")
    for content in (shared, own):
        await filing.added(account.id, content)
    kept = await filing.added(neighbour, shared)
    begun, waiting = await filing.uploaded(account.id, JPEG), await filing.uploaded(neighbour, JPEG)
    await filing.objects.copy(begun.key, begun.incoming_key)

    await done(erasures, account, times=2)

    assert await filing.keys() == {
        waiting.key,
        original(account.tenant, shared),
        original(account.tenant, own),  # until the next sweep after its grace period
    }
    await filing.age()
    async with database.statements(account.tenant) as connection:
        await uploads.claim(connection, waiting.upload_id)
    await ActivityEnvironment().run(Sweeping(all_tenants, filing.objects, 24).sweep_files)
    assert await filing.keys() == {waiting.key, original(account.tenant, shared)}
    assert await filing.document(kept)


async def test_erased_address_is_free(erasures: Erasures, account: Account, saving: Saving) -> None:
    again = {"username": NAME, "email": EMAIL}
    await account.erase()
    with pytest.raises(ApplicationError):
        await saving.registered(account.tenant, **again)

    await run(erasures, "delete_rows", account)

    assert await saving.registered(account.tenant, **again) != account.id


async def test_listings_are_withdrawn_then_deleted_and_favourites_removed_once(
    erasures: Erasures, account: Account, saving: Saving, all_tenants: Database
) -> None:
    draft = create_property(account.tenant, account.id)
    sold = create_property(account.tenant, account.id)
    for listed in (draft, sold):
        await saving.property(listed)
    await saving.property(change(ChangePropertyStatus, sold, status=PropertyStatus.SOLD))
    await account.erase()

    counts = [await run(erasures, "withdraw_listings", account) for _ in range(2)]
    deleted = [await run(erasures, "delete_listings", account) for _ in range(2)]

    assert (counts, deleted) == ([3, 0], [3, 0])
    types = [message["eventType"] for message in await stored_messages(all_tenants, account.tenant)]
    # The sold one cannot be withdrawn.
    assert types.count("PROPERTY_STATUS_CHANGED") == 1 + 2
    assert types.count("PROPERTY_UNFAVORITED") == 1
    assert types.count("PROPERTY_DELETED") == 3


async def test_event_store_is_whole_and_sealed_and_read_models_are_rebuilt_without_the_person(
    erasures: Erasures,
    account: Account,
    saving: Saving,
    database: Database,
    all_tenants: Database,
    keyring: Keyring,
    valkey: Redis,
) -> None:
    neighbour = await saving.listed(account.tenant)
    before = await stored_messages(all_tenants, account.tenant)
    history = History(valkey)
    await project(all_tenants, history, account.tenant)
    pages = HistoryPages(database, valkey, wait_seconds=0)
    of_neighbour = (await pages.page(account.tenant, str(neighbour.user_id), 100)).entries

    await done(erasures, account)
    await project(all_tenants, history, account.tenant)  # as when all events are delivered again
    await rebuild(all_tenants, history, lambda _: None)

    stored = await stored_messages(all_tenants, account.tenant)
    assert stored[: len(before)] == before
    versions: dict[str, list[int]] = {}
    for message in stored:
        event = read_event(message)
        if event.version:
            versions.setdefault(str(event.aggregate_id), []).append(event.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    registered = next(message for message in stored if message["aggregateId"] == str(account.id))
    assert registered["data"]["email"].keys() == {"sealed"}
    assert keyring.unseal(registered["data"], None, UUID(registered["eventId"]))["email"] is None
    assert (await pages.page(account.tenant, str(account.id), 100)).entries == []
    assert (await pages.page(account.tenant, str(neighbour.user_id), 100)).entries == of_neighbour
    async with all_tenants.statements() as connection:
        assert await event_store.in_order(connection, Position(), 1)


async def test_late_events_bring_no_history_back(
    account: Account, database: Database, all_tenants: Database, valkey: Redis
) -> None:
    """In any order: the account is erased when the first event comes, or the last."""
    history, pages = History(valkey), HistoryPages(database, valkey, wait_seconds=0)
    await project(all_tenants, history, account.tenant)
    assert (await pages.page(account.tenant, str(account.id), 100)).entries  # cached in Redis, too
    await account.erase()

    await project(all_tenants, history, account.tenant)

    assert (await pages.page(account.tenant, str(account.id), 100)).entries == []
    assert await valkey.keys(f"*{account.id}*:history:*") != []  # an empty one, of the read before
    await project(all_tenants, history, account.tenant)
    assert (await pages.page(account.tenant, str(account.id), 100)).entries == []


async def test_long_history_is_deleted_some_entries_at_a_time(
    account: Account,
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(4):
        await saving.property(create_property(account.tenant, account.id))
    await project(all_tenants, History(valkey), account.tenant)
    of_user = tables.user_activity.c.user_id == str(account.id)
    before = await count(all_tenants, tables.user_activity, of_user)
    monkeypatch.setattr(personal_data, "_ENTRIES_DELETED", 2)

    async with all_tenants.transaction() as tx:
        await personal_data.delete_history(tx, account.tenant, account.id)

    assert before > 4
    assert await count(all_tenants, tables.user_activity, of_user) == 0
    assert await count(all_tenants, tables.activity_counts, tables.activity_counts.c.user_id == account.id) == 0


async def test_last_mail_is_waited_for(
    erasures: Erasures, account: Account, database: Database, all_tenants: Database
) -> None:
    await account.erase()  # which stores the notice

    async def is_settled() -> bool:
        try:
            await run(erasures, "ensure_notified", account)
        except ApplicationError as error:
            return error.type != "NotNotified" or error.non_retryable
        return True

    assert not await is_settled()
    await add_last_mail(all_tenants, account)
    of_event = tables.deliveries.c.event_id == last_event(account)
    for statement, settled in (
        (update(tables.notices).values(expanded_at=func.now()), False),
        (update(tables.deliveries).values(sent_at=func.now()).where(of_event), True),
        (update(tables.deliveries).values(sent_at=None).where(of_event), False),
        (update(tables.deliveries).values(given_up="rejected").where(of_event), True),
        (update(tables.notices).values(expanded_at=None), False),
    ):
        async with database.statements(account.tenant) as connection:
            await connection.execute(statement)
        assert await is_settled() is settled


async def test_sessions_are_deleted_once_their_access_tokens_have_expired(
    erasures: Erasures, account: Account, database: Database, all_tenants: Database
) -> None:
    of_user = tables.sessions.c.user_id == account.id
    await done(erasures, account)

    left = await run(erasures, "delete_sessions", account)

    assert 900 < left <= 960
    assert await count(all_tenants, tables.sessions, of_user, tables.sessions.c.revoked_at.is_not(None)) == 1
    async with database.statements(account.tenant) as connection:
        closed = func.now() - timedelta(minutes=17)
        await connection.execute(update(tables.sessions).where(of_user).values(revoked_at=closed))
    assert [await run(erasures, "delete_sessions", account) for _ in range(2)] == [0, 0]
    assert await count(all_tenants, tables.sessions, of_user) == 0


async def test_redis_keys_of_the_person_are_deleted_and_those_of_others_kept(
    erasures: Erasures, account: Account, keyring: Keyring, valkey: Redis
) -> None:
    tenant, by_name, by_email = account.tenant, keyring.name_digest(NAME), keyring.name_digest(EMAIL)
    others = [f"{tenant}:limit:commands:{new_id()}", f"{tenant}:failed-logins:account:{keyring.name_digest('other')}"]
    own = [
        f"{{{tenant}:{account.id}}}:history:1",
        f"{{{tenant}:{account.id}}}:history:1:lease",
        f"{tenant}:limit:commands:{account.id}",
        f"{tenant}:failed-codes:{account.id}:pause",
        f"{tenant}:viewed:{new_id()}:{account.id}",
        f"{tenant}:limit:link:{by_email}",
        f"{tenant}:failed-logins:account:{by_name}:pause",
        f"{tenant}:failed-logins:pair:{by_email}:00",
        f"{tenant}:failed-logins:trust:{by_name}:00",
    ]
    for key in (*own, *others):
        await valkey.set(key, 1, ex=600)
    await account.erase()

    deleted = [await run(erasures, "delete_cached", account) for _ in range(2)]

    assert deleted == [len(own), 0]
    assert await valkey.exists(*own) == 0
    assert await valkey.exists(*others) == len(others)


@pytest.mark.temporal
async def test_workflows_of_the_person_and_of_their_listings_are_deleted_running_ones_too(
    erasures: Erasures, account: Account, temporal_client: Client, keyring: Keyring
) -> None:
    """They wait in a queue without a worker, as while the worker is down."""
    admin, tenant = new_id(), account.tenant
    by_admin = change(FeatureProperty, account.listed, admin, value=True)
    of_account = on(tenant, admin, ChangeRole, role=UserRole.AGENT, account_id=account.id)
    unrelated = create_property(tenant, new_id())
    commands = [account.listed, by_admin, of_account, account.command, unrelated]
    for command in commands:
        await temporal_client.start_workflow(
            CreatePropertyWorkflow.run if command is not account.command else "erase-user",
            keyring.seal_in_transit(command, command.command_id),
            id=f"{command.type}/{command.command_id}",
            task_queue="nobody-works-here",
            search_attributes=temporal.search_attributes_of(command, keyring),
        )
    await account.erase()

    async def listed() -> set[str]:
        # Without those that reconcile starts, when the platform is running.
        query = f"TenantId = '{tenant}' AND TaskQueue = 'nobody-works-here'"
        return {one.id async for one in temporal_client.list_workflows(query)}

    await until(lambda: _equal(listed, {f"{command.type}/{command.command_id}" for command in commands}))

    deleted = [await run(erasures, "delete_executions", account) for _ in range(2)]

    assert deleted == [3, 0]
    kept = {f"{command.type}/{command.command_id}" for command in (account.command, unrelated)}
    await until(lambda: _equal(listed, kept))
    for workflow_id in kept:
        await temporal_client.get_workflow_handle(workflow_id).terminate()


@pytest.mark.temporal
async def test_refused_registrations_with_the_names_of_the_person_are_deleted_and_no_others(
    erasures: Erasures, account: Account, temporal_client: Client, keyring: Keyring, database: Database
) -> None:
    async def registration(tenant: str = account.tenant, *, ended: bool = True, **names: str) -> str:
        command = register_user(tenant, **names)
        handle = await temporal_client.start_workflow(
            "register-user",
            keyring.seal_in_transit(command, command.command_id),
            id=f"{command.type}/{command.command_id}",
            task_queue="nobody-works-here",
            search_attributes=temporal.search_attributes_of(command, keyring),
        )
        if ended:
            await handle.terminate()
        return handle.id

    await account.erase()
    refused = {await registration(email=EMAIL.upper()), await registration(username=NAME)}
    of_others = {
        await registration(),
        await registration(f"{account.tenant}-2", email=EMAIL, username=NAME),
        # It may be saved after the address is free.
        await registration(email=EMAIL, ended=False),
    }

    async def listed() -> set[str]:
        query = f"TenantId STARTS_WITH '{account.tenant}' AND WorkflowType = 'register-user'"
        return {one.id async for one in temporal_client.list_workflows(query)}

    await until(lambda: _equal(listed, refused | of_others))
    await run(erasures, "delete_rows", account)
    await until(lambda: _equal(listed, of_others))

    # As when the step was interrupted, and the address was registered again before it went on.
    digests = [keyring.name_digest(EMAIL), keyring.name_digest(NAME)]
    assert await name_digests(database, account) is None
    later = {await registration(email=EMAIL)}
    await until(lambda: _equal(listed, of_others | later))
    async with database.statements(account.tenant) as connection:
        of_account = tables.erasures.c.user_id == account.id
        await connection.execute(update(tables.erasures).where(of_account).values(name_digests=digests))
    await run(erasures, "delete_rows", account)

    assert await listed() == of_others | later
    assert await name_digests(database, account) is None
    for workflow_id in of_others:
        with suppress(RPCError):  # ended
            await temporal_client.get_workflow_handle(workflow_id).terminate()


async def name_digests(database: Database, account: Account) -> list[str] | None:
    async with database.statements(account.tenant) as connection:
        query = select(tables.erasures.c.name_digests).where(tables.erasures.c.user_id == account.id)
        found: list[str] | None = (await connection.execute(query)).scalar_one()
    return found


async def _equal(found: Callable[[], Any], expected: object) -> bool:
    return bool(await found() == expected)


@pytest.mark.temporal
async def test_lost_erasure_is_started_again_once(
    account: Account, all_tenants: Database, database: Database, temporal_client: Client, keyring: Keyring
) -> None:
    overdue = OverdueErasures(all_tenants, keyring, temporal_client, "nobody-works-here")
    handle = temporal_client.get_workflow_handle(f"erase-user/{account.command.command_id}")
    await account.erase()
    assert await ActivityEnvironment().run(overdue.start_overdue_erasures) == 0
    old = datetime.now(UTC) - timedelta(hours=3)
    async with database.statements(account.tenant) as connection:
        await connection.execute(update(tables.erasures).values(requested_at=old))

    started = [await ActivityEnvironment().run(overdue.start_overdue_erasures) for _ in range(2)]

    assert started == [1, 0]
    assert (await handle.describe()).workflow_type == "erase-user"
    await handle.terminate()
    async with database.statements(account.tenant) as connection:
        await connection.execute(update(tables.erasures).values(erased_at=old))
    assert await ActivityEnvironment().run(overdue.start_overdue_erasures) == 0


async def test_erasure_is_saved_once_and_its_answer_has_nothing_of_the_person(
    account: Account, saving: Saving, keyring: Keyring, database: Database, all_tenants: Database
) -> None:
    first, again = [await saving.user(account.command) for _ in range(2)]

    assert first == again
    assert first.resource is None
    assert [event.event_type for event in first.events] == ["USER_DELETED"]
    of_user = tables.sessions.c.user_id == account.id
    assert await count(all_tenants, tables.sessions, of_user, tables.sessions.c.revoked_at.is_(None)) == 0
    with pytest.raises(ApplicationError) as refused:
        await saving.property(create_property(account.tenant, account.id))
    assert refused.value.type == "account-closed"


async def test_erasure_of_one_tenant_is_not_seen_by_another(account: Account, database: Database) -> None:
    await account.erase()

    async with database.statements("another") as connection:
        assert (await connection.execute(select(tables.erasures))).all() == []
    async with database.statements(account.tenant) as connection:
        assert len((await connection.execute(select(tables.erasures))).all()) == 1


async def test_steps_of_another_tenant_do_nothing(erasures: Erasures, account: Account, all_tenants: Database) -> None:
    await account.erase()
    before = await rows_of(all_tenants, account.id)
    elsewhere = account.erasing.model_copy(update={"tenant_id": "another"})

    for step in ("withdraw_listings", "delete_listings", "delete_rows", "destroy_key", "delete_sessions"):
        await ActivityEnvironment().run(getattr(erasures, step), elsewhere)

    assert await rows_of(all_tenants, account.id) == before
