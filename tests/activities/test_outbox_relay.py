"""The relay: promises of a moment share a workflow, which the Temporal UI finds by each of their commands."""

from collections.abc import AsyncIterator

import pytest
from activities.relay import AT_MOST, Outgoing, Promise, Relay, together
from temporalio.client import Client, WorkflowExecution

from adapters import temporal
from adapters.settings import Settings
from tests.platform import until
from tests.samples import new_id, new_tenant

pytestmark = pytest.mark.temporal


def promise(tenant: str) -> Promise:
    return Promise(tenant, new_id(), new_id())


@pytest.fixture
async def relay(temporal_client: Client, tenant: str) -> AsyncIterator[Relay]:
    """Its workflows wait in a queue that nobody works on."""
    yield Relay(temporal_client, queue=tenant)
    async for run in temporal_client.list_workflows(f"TaskQueue = '{tenant}'"):
        await temporal_client.get_workflow_handle(run.id).terminate()


async def started(client: Client, query: str, count: int) -> list[WorkflowExecution]:
    async def there() -> list[WorkflowExecution]:
        runs = [run async for run in client.list_workflows(query)]
        return runs if len(runs) == count else []

    return await until(there)


async def test_promises_of_a_moment_share_a_workflow(relay: Relay, temporal_client: Client, tenant: str) -> None:
    promises = [promise(tenant) for _ in range(3)]

    for one in promises:
        relay.promised(one)

    for one in promises:
        [run] = await started(temporal_client, f"CommandIds = '{one.command_id}'", 1)
    assert run.typed_search_attributes[temporal.TENANT_ID] == tenant
    described = await temporal_client.get_workflow_handle(run.id).describe()
    assert await described.static_summary() == "Mails about 3 events"
    [started_with] = (await temporal_client.get_workflow_handle(run.id).fetch_history()).events[:1]
    [payload] = started_with.workflow_execution_started_event_attributes.input.payloads
    assert Outgoing.model_validate_json(payload.data).event_ids == tuple(one.event_id for one in promises)


async def test_ending_worker_starts_what_it_has_gathered(relay: Relay, temporal_client: Client, tenant: str) -> None:
    one = promise(tenant)
    relay.promised(one)

    await relay.close()

    await started(temporal_client, f"CommandIds = '{one.command_id}'", 1)


async def test_workflow_that_still_tries_is_not_joined_by_a_second(
    relay: Relay, temporal_client: Client, tenant: str
) -> None:
    one, name = promise(tenant), f"overdue/{new_id()}"

    assert [await relay.start([one], name) for _ in range(2)] == [True, False]


async def test_promises_are_left_to_reconcile_while_temporal_is_away(
    settings: Settings, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    relay = Relay(await temporal.connect(nobody), queue=tenant)

    relay.promised(promise(tenant))

    await relay.close()

    assert "1 mails are left to reconcile" in caplog.text


def test_portals_do_not_share_a_workflow_and_none_is_too_large() -> None:
    here, there = new_tenant(), new_tenant()
    promises = [promise(here if n % 3 else there) for n in range(AT_MOST * 3)]

    groups = together(promises)

    assert sorted(map(id, promises)) == sorted(id(one) for group in groups for one in group)
    assert all(len({one.tenant_id for one in group}) == 1 for group in groups)
    assert [len(group) for group in groups] == [AT_MOST, AT_MOST, AT_MOST]
