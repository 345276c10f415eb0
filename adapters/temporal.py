"""Temporal: the one plugin of client, worker and replayer, and the registry of search attributes."""

import asyncio
import dataclasses
import logging

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from adapters.settings import Settings

log = logging.getLogger(__name__)

COMMAND_ID = SearchAttributeKey.for_keyword("CommandId")
AGGREGATE_ID = SearchAttributeKey.for_keyword("AggregateId")
USER_ID = SearchAttributeKey.for_keyword("UserId")
TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
SEARCH_ATTRIBUTES = {key.name: "Keyword" for key in (COMMAND_ID, AGGREGATE_ID, USER_ID, TENANT_ID)}


def _sandboxed(runner: WorkflowRunner | None) -> WorkflowRunner:
    """Keep the sandbox's checks of determinism, without loading each module once more for every workflow."""
    if isinstance(runner, SandboxedWorkflowRunner):
        restrictions = SandboxRestrictions.default.with_passthrough_all_modules()
        return dataclasses.replace(runner, restrictions=restrictions)
    return runner or SandboxedWorkflowRunner()


def plugin() -> SimplePlugin:
    """What client, worker and replayer must agree on: how data travels and where workflow code runs."""
    return SimplePlugin("hyderabad-infra", data_converter=pydantic_data_converter, workflow_runner=_sandboxed)


async def connect(settings: Settings) -> Client:
    """A client that connects when it is first used, so that a process starts while Temporal is still coming up."""
    return await Client.connect(
        settings.temporal_address, namespace=settings.temporal_namespace, plugins=[plugin()], lazy=True
    )


async def connect_when_up(settings: Settings) -> Client:
    """A connected client, however long Temporal takes to come up."""
    while True:
        try:
            return await Client.connect(
                settings.temporal_address, namespace=settings.temporal_namespace, plugins=[plugin()]
            )
        except RuntimeError as error:
            log.warning("Temporal at %s is not there yet: %s", settings.temporal_address, error)
            await asyncio.sleep(1)


async def ensure_search_attributes(settings: Settings) -> None:
    """Register the search attributes that the namespace lacks."""
    client = await connect_when_up(settings)
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=settings.temporal_namespace)
    )
    missing = SEARCH_ATTRIBUTES.keys() - known.custom_attributes.keys()
    if missing:
        try:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=settings.temporal_namespace,
                    search_attributes=dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
                )
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise
