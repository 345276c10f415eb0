"""Registration of search attributes by `python -m migrations`."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from adapters import temporal
from adapters.settings import Settings
from tests.samples import new_id


async def test_missing_namespace_is_named_in_the_timeout(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal, "_PROPAGATION_SECONDS", 0.5)

    with pytest.raises(TimeoutError, match=r"no namespace 'nowhere'.* Does TEMPORAL_NAMESPACE name one"):
        await temporal.ensure_search_attributes(settings.model_copy(update={"temporal_namespace": "nowhere"}))


@pytest.mark.temporal
async def test_search_attributes_are_registered_once_the_namespace_is(
    settings: Settings, temporal_client: Client
) -> None:
    """A frontend finds a newly registered namespace with a delay."""
    late = settings.model_copy(update={"temporal_namespace": f"late-{new_id()}"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await temporal.ensure_search_attributes(late)
    ensuring = asyncio.create_task(temporal.ensure_search_attributes(late))
    await temporal_client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=late.temporal_namespace, workflow_execution_retention_period=Duration(seconds=86_400)
        )
    )
    await ensuring

    known = await temporal_client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=late.temporal_namespace)
    )
    assert temporal.SEARCH_ATTRIBUTES.keys() <= known.custom_attributes.keys()
