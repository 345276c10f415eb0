"""Reconcile starts imports that should go on and have no workflow."""

from contextlib import suppress

import pytest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment

from activities.overdue_imports import OverdueImports
from activities.publishing import Publishing
from activities.saving import CommandStore
from adapters.kafka import Publisher
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from domain.imports import ImportStatus
from tests.activities.accounts import Saving
from tests.activities.importing import Importing, csv_of, row
from tests.platform import until


@pytest.fixture
async def importing(
    database: Database,
    all_tenants: Database,
    settings: Settings,
    keyring: Keyring,
    store: CommandStore,
    publisher: Publisher,
    saving: Saving,
    tenant: str,
) -> Importing:
    user_id = await saving.registered(tenant)
    publishing = Publishing(all_tenants, publisher)
    return Importing(database, Objects(settings), keyring, store, publishing, tenant, user_id)


async def test_imports_that_are_lost_are_started_once_and_paused_ones_are_not(
    importing: Importing, all_tenants: Database, temporal_client: Client
) -> None:
    running, paused, cancelled = [await importing.start(csv_of([row(n)])) for n in range(3)]
    await importing.set_status(paused, ImportStatus.PAUSED)
    await importing.set_status(cancelled, ImportStatus.CANCELLED)
    overdue = OverdueImports(all_tenants, temporal_client, "nobody-works-here", 0)

    await ActivityEnvironment().run(overdue.start_overdue_imports)
    await ActivityEnvironment().run(overdue.start_overdue_imports)

    started = [running, cancelled]
    for order in started:
        await until(lambda order=order: _has_workflow(temporal_client, order.workflow_id))  # type: ignore[misc]
    assert not await _has_workflow(temporal_client, paused.workflow_id)
    for order in started:
        with suppress(RPCError):  # the reconcile of a running platform may have started it, and it has ended
            await temporal_client.get_workflow_handle(order.workflow_id).terminate()


async def _has_workflow(client: Client, workflow_id: str) -> bool:
    return bool([one async for one in client.list_workflows(f"WorkflowId = '{workflow_id}'")])


async def test_young_imports_are_left_to_their_command(
    importing: Importing, all_tenants: Database, temporal_client: Client
) -> None:
    order = await importing.start(csv_of([row(1)]))
    overdue = OverdueImports(all_tenants, temporal_client, "nobody-works-here", 3600)

    await ActivityEnvironment().run(overdue.start_overdue_imports)

    with pytest.raises(RPCError, match=r"(?i)not found"):
        await temporal_client.get_workflow_handle(order.workflow_id).describe()
