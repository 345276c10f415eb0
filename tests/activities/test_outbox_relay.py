"""The outbox relay: deliveries of a second share a workflow, which the Temporal UI finds by each of their commands."""

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowExecution

from activities.notices import DeliveryBatch
from activities.outbox_relay import MAX_EVENTS, OutboxRelay, group_by_tenant
from adapters import temporal
from adapters.outbox import PendingEvent
from adapters.settings import Settings
from tests.platform import until
from tests.samples import new_id, new_tenant

pytestmark = pytest.mark.temporal


def delivery(tenant: str) -> PendingEvent:
    return PendingEvent(tenant, new_id(), new_id())


@pytest.fixture
async def relay(temporal_client: Client, tenant: str) -> AsyncIterator[OutboxRelay]:
    """Its workflows are started on a task queue without workers."""
    yield OutboxRelay(temporal_client, queue=tenant)
    async for run in temporal_client.list_workflows(f"TaskQueue = '{tenant}'"):
        await temporal_client.get_workflow_handle(run.id).terminate()


async def started(client: Client, query: str, count: int) -> list[WorkflowExecution]:
    async def there() -> list[WorkflowExecution]:
        runs = [run async for run in client.list_workflows(query)]
        return runs if len(runs) == count else []

    return await until(there)


async def test_deliveries_of_a_second_share_a_workflow(
    relay: OutboxRelay, temporal_client: Client, tenant: str
) -> None:
    pending = [delivery(tenant) for _ in range(3)]

    for one in pending:
        relay.enqueued([one])

    for one in pending:
        [run] = await started(temporal_client, f"CommandIds = '{one.command_id}'", 1)
    assert run.typed_search_attributes[temporal.TENANT_ID] == tenant
    described = await temporal_client.get_workflow_handle(run.id).describe()
    assert await described.static_summary() == "3 events"
    [started_with] = (await temporal_client.get_workflow_handle(run.id).fetch_history()).events[:1]
    [payload] = started_with.workflow_execution_started_event_attributes.input.payloads
    assert DeliveryBatch.model_validate_json(payload.data).event_ids == tuple(one.event_id for one in pending)


async def test_worker_that_stops_starts_what_is_in_its_batch(
    relay: OutboxRelay, temporal_client: Client, tenant: str
) -> None:
    one = delivery(tenant)
    relay.enqueued([one])

    await relay.close()

    await started(temporal_client, f"CommandIds = '{one.command_id}'", 1)


async def test_workflow_that_still_runs_is_not_started_again(
    relay: OutboxRelay, temporal_client: Client, tenant: str
) -> None:
    one, name = delivery(tenant), f"overdue/{new_id()}"

    assert [await relay.start([one], name) for _ in range(2)] == [True, False]


async def test_deliveries_are_left_to_reconcile_while_temporal_is_unavailable(
    settings: Settings, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    relay = OutboxRelay(await temporal.connect(nowhere), queue=tenant)

    relay.enqueued([delivery(tenant)])

    await relay.close()

    assert "1 notices are left to reconcile" in caplog.text


def test_tenants_do_not_share_a_workflow_and_none_is_too_large() -> None:
    here, there = new_tenant(), new_tenant()
    pending = [delivery(here if n % 3 else there) for n in range(MAX_EVENTS * 3)]

    groups = group_by_tenant(pending)

    assert sorted(map(id, pending)) == sorted(id(one) for group in groups for one in group)
    assert all(len({one.tenant_id for one in group}) == 1 for group in groups)
    assert [len(group) for group in groups] == [MAX_EVENTS, MAX_EVENTS, MAX_EVENTS]


def test_work_of_a_later_release_is_read_and_its_further_fields_passed_over() -> None:
    outgoing = DeliveryBatch(tenant_id="hyderabad", event_ids=(new_id(),))

    assert DeliveryBatch.model_validate(outgoing.model_dump(by_alias=True) | {"priority": 1}) == outgoing
