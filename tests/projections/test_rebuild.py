"""Rebuild: a new generation from the store, while the old one serves."""

from redis.asyncio import Redis
from sqlalchemy import text

from activities.saving import Ledger
from adapters.postgres import Database
from adapters.sealing import Keyring
from projections.history import History, HistoryPages
from projections.rebuild import rebuild
from tests.activities.accounts import registered, saving
from tests.samples import create_property


async def test_rebuilt_history_has_every_event_and_nothing_else(
    database: Database, all_tenants: Database, valkey: Redis, ledger: Ledger, keyring: Keyring, tenant: str
) -> None:
    owner = await registered(ledger, keyring, tenant)
    saved = [await saving(ledger).save_property(create_property(tenant, owner)) for _ in range(3)]
    async with all_tenants.transaction() as tx:
        before = (await tx.execute(text("SELECT generation FROM user_history.read_models"))).scalar_one()
        wrong = (
            "INSERT INTO user_history.user_activity (tenant_id, generation, event_id, user_id, activity_type,"
            " description, activity_data, timestamp) VALUES (:tenant, :generation, gen_random_uuid(), :user, 'WRONG',"
            " 'never happened', '{}', now())"
        )
        await tx.execute(text(wrong), {"tenant": tenant, "user": str(owner), "generation": before})
    progress: list[int] = []

    _, generation = await rebuild(all_tenants, History(valkey), progress.append)

    page = await HistoryPages(database, valkey, wait_seconds=0).page(tenant, str(owner), 10)
    assert generation == before + 1
    assert progress[-1] >= 4
    assert len(page.entries) == 4
    assert all(page.holds(answer.events[0].event_id) for answer in saved)
    async with all_tenants.transaction() as tx:
        generations = await tx.execute(text("SELECT DISTINCT generation FROM user_history.user_activity"))
        assert [row.generation for row in generations] == [generation]
