"""The time-skipping server, and workers with fake activities."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from adapters import temporal
from adapters.settings import Settings
from embedded.engines import binary
from tests.platform import until
from tests.workflows.fakes import Script
from workflows import options
from workflows.registry import WORKFLOWS

Workers = Callable[[Client, Script], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    async with time_skipping() as environment:
        yield environment


@asynccontextmanager
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """The test server, which skips time while workflows wait for timers only."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"), plugins=[temporal.plugin()]
    ) as environment:
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        kinds = {key.name: keyword for key in (temporal.TENANT_ID, temporal.USER_ID, temporal.AGGREGATE_ID)}
        # It waits for ever with a child workflow whose search attributes it does not know.
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=environment.client.namespace, search_attributes=kinds)
        )
        yield environment


@pytest.fixture
def workers() -> Workers:
    return running


@asynccontextmanager
async def running(client: Client, script: Script) -> AsyncIterator[None]:
    """A worker on every queue."""
    async with AsyncExitStack() as pools:
        for queue in options.QUEUES:
            workflows = WORKFLOWS.get(queue, [])
            await pools.enter_async_context(
                Worker(client, task_queue=queue, workflows=workflows, activities=script.activities)
            )
        yield


@pytest.fixture(scope="session")
async def apart(settings: Settings) -> Client:
    """A client of a separate namespace on the real server, where the platform's workers do not poll."""
    namespace = "scripted"
    default = await temporal.connect_when_up(settings)
    await default.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=Duration(seconds=24 * 3600))
    )
    client = await temporal.connect_when_up(settings.model_copy(update={"temporal_namespace": namespace}))

    async def known() -> bool:
        """The server's frontends cache namespaces, so a new one is usable after a delay."""
        try:
            await client.count_workflows()
        except RPCError:
            return False
        return True

    await until(known)
    # Child workflows have them.
    await temporal.ensure_search_attributes(settings.model_copy(update={"temporal_namespace": namespace}))
    return client
