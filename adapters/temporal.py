"""Temporal: the plugin that client, worker and replayer share, and the search attributes."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import packages_distributions
from typing import TypeVar

from pydantic import ValidationError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import StorageDriverStoreContext
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

from adapters.sealing import Keyring
from adapters.settings import Settings
from domain.command import Command
from domain.imports import ImportOrder

log = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

_CONNECT_SECONDS = 10
"""Time limit of a connection attempt, for a server that drops packets instead of refusing them."""
_PROPAGATION_SECONDS = 120
"""How long the server may take to apply a new namespace or search attribute; its caches expire after a minute."""
_EMPTY_ANSWERS, _INDEX_SECONDS = 3, 1.0
"""The index follows within some 0.1 s, and under load within a second or two."""

COMMAND_ID = SearchAttributeKey.for_keyword("CommandId")
AGGREGATE_ID = SearchAttributeKey.for_keyword("AggregateId")
USER_ID = SearchAttributeKey.for_keyword("UserId")
TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
COMMAND_IDS = SearchAttributeKey.for_keyword_list("CommandIds")
"""Set on a workflow that serves several commands."""
NAME_DIGESTS = SearchAttributeKey.for_keyword_list("NameDigests")
"""Set on a registration, which, refused, has no account by which an erasure would find it: `Keyring.name_digest`."""
SEARCH_ATTRIBUTES = {
    **{key.name: "Keyword" for key in (COMMAND_ID, AGGREGATE_ID, USER_ID, TENANT_ID)},
    **{key.name: "KeywordList" for key in (COMMAND_IDS, NAME_DIGESTS)},
}
_PREPARED_QUERY = " AND ".join(f"{name} = 'nothing'" for name in SEARCH_ATTRIBUTES)
"""A query that fails until the server knows the namespace and every search attribute."""
_PREPARED_RPC_TIMEOUT = timedelta(seconds=5)
"""The query takes milliseconds; without a limit the client would retry for much longer."""
_KINDS = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
}


class NotPrepared(Exception):
    """The namespace or its search attributes are not registered; the message says what an operator must do."""


class _WithoutSerializationContext(WorkflowInstance):
    """A workflow instance without serialization contexts.

    The worker asks for a context several times per payload, and each call enters the sandbox, which took a fifth of the
    worker's CPU time. Pydantic's converter does not use it, and payloads are not stored outside Temporal.
    """

    def __init__(self, sandboxed: WorkflowInstance) -> None:
        self._sandboxed = sandboxed

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._sandboxed.activate(act)

    def get_info(self) -> Info:
        return self._sandboxed.get_info()

    def get_thread_id(self) -> int | None:
        return self._sandboxed.get_thread_id()

    def get_serialization_context(self, command_info: object) -> None:
        return None

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        return StorageDriverStoreContext(target=None)


class _Runner(SandboxedWorkflowRunner):
    """The sandboxed runner, without serialization contexts."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _WithoutSerializationContext(super().create_instance(det))


@lru_cache
def _restrictions() -> SandboxRestrictions:
    """The sandbox reloads a workflow's own module for each run; everything that it imports is passed through.

    A module that is passed through can call the real clock and random generator, so a workflow's own is not. Reloading
    its imports would cost more than the command. `workflows.command` and `workflows.options` are passed through too:
    import-linter (pyproject.toml) keeps clock and random generator out of them.
    """
    ours = ("activities", "adapters", "domain", "projections", "workflows.command", "workflows.options")
    return SandboxRestrictions.default.with_passthrough_modules(
        *ours, *sys.stdlib_module_names, *packages_distributions()
    )


def plugin() -> SimplePlugin:
    """The data converter and the workflow runner, which client, worker and replayer must share."""
    return SimplePlugin(
        "hyderabad-infra",
        data_converter=pydantic_data_converter,
        workflow_runner=_Runner(_restrictions()),
        # Fails a workflow whose input is invalid, such as one started by hand; its task would be retried for ever.
        workflow_failure_exception_types=[ValidationError],
    )


async def connect(settings: Settings) -> Client:
    """A client that connects on first use, so that a process can start before Temporal is up."""
    return await Client.connect(
        settings.temporal_address, namespace=settings.temporal_namespace, plugins=[plugin()], lazy=True
    )


async def connect_when_up(settings: Settings) -> Client:
    """A connected client; waits until Temporal is up."""
    while True:
        try:
            return await Client.connect(
                settings.temporal_address, namespace=settings.temporal_namespace, plugins=[plugin()]
            )
        except RuntimeError as error:
            log.warning("Temporal at %s is unavailable, trying again: %s", settings.temporal_address, error)
            await asyncio.sleep(1)


async def ensure_prepared(client: Client) -> None:
    """Raises NotPrepared when the namespace or its search attributes are missing; RPCError or RuntimeError when the
    server does not answer.
    """
    try:
        await client.count_workflows(_PREPARED_QUERY, rpc_timeout=_PREPARED_RPC_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotPrepared(
                f"Temporal has no namespace {client.namespace!r}: register it, then run `python -m migrations`"
            ) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise NotPrepared(
                f"Temporal's namespace {client.namespace!r} lacks search attributes: run `python -m migrations`"
            ) from error
        raise


async def delete_executions(client: Client, queries: Sequence[str], progress: Callable[[int], None]) -> int:
    """Delete the workflows that queries find, running ones too; returns how many.

    The index follows the workflows with a delay, in both directions: it is asked until it finds nothing several times.
    """
    deleted, empty = 0, 0
    while empty < _EMPTY_ANSWERS:
        found = [execution for query in queries async for execution in client.list_workflows(query)]
        empty = 0 if found else empty + 1
        for execution in found:
            request = DeleteWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=execution.id, run_id=execution.run_id),
            )
            try:
                await client.workflow_service.delete_workflow_execution(request)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                continue  # it is deleted, and the index has not followed yet
            deleted += 1
            progress(deleted)
        progress(deleted)
        await asyncio.sleep(_INDEX_SECONDS)
    return deleted


async def ensure_search_attributes(settings: Settings) -> None:
    """Register the search attributes that the namespace lacks; the namespace may have just been registered.

    Raises ConnectionError when the server refuses, TimeoutError when it does not answer or does not apply them in time.
    """
    namespace = settings.temporal_namespace
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            client = await Client.connect(settings.temporal_address, namespace=namespace, plugins=[plugin()])
    except RuntimeError as error:
        raise ConnectionError(str(error)) from error
    try:
        async with asyncio.timeout(_PROPAGATION_SECONDS):
            await _register(client, namespace)
            await _retry_until_propagated(client.count_workflows, _PREPARED_QUERY)
    except TimeoutError as error:
        raise TimeoutError(
            f"it has no namespace {namespace!r}, or did not apply its search attributes within "
            f"{_PROPAGATION_SECONDS} s. Does TEMPORAL_NAMESPACE name one that is registered?"
        ) from error


async def _register(client: Client, namespace: str) -> None:
    operator = client.operator_service
    known = await _retry_until_propagated(
        operator.list_search_attributes, ListSearchAttributesRequest(namespace=namespace)
    )
    missing = SEARCH_ATTRIBUTES.keys() - known.custom_attributes.keys()
    if not missing:
        return
    kinds = {name: _KINDS[SEARCH_ATTRIBUTES[name]] for name in missing}
    try:
        await operator.add_search_attributes(AddSearchAttributesRequest(namespace=namespace, search_attributes=kinds))
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def _retry_until_propagated(call: Callable[[A], Awaitable[T]], request: A) -> T:
    """Retry a call until the frontend's caches have a new namespace (until then NOT_FOUND) or a new search attribute
    (until then INVALID_ARGUMENT).
    """
    logged = False
    while True:
        try:
            return await call(request)
        except RPCError as error:
            if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                raise
            if not logged:
                log.warning("waiting for Temporal to apply the namespace and its search attributes: %s", error)
            logged = True
        await asyncio.sleep(0.2)


def search_attributes_of(command: Command, keyring: Keyring) -> TypedSearchAttributes:
    """The search attributes of a command's workflow."""
    digests = [keyring.name_digest(name) for name in command.names]
    return TypedSearchAttributes(
        [
            SearchAttributePair(COMMAND_ID, str(command.command_id)),
            SearchAttributePair(AGGREGATE_ID, str(command.aggregate_id)),
            SearchAttributePair(USER_ID, str(command.user_id)),
            SearchAttributePair(TENANT_ID, command.tenant_id),
            *([SearchAttributePair(NAME_DIGESTS, digests)] if digests else ()),
        ]
    )


def search_attributes_of_import(order: ImportOrder) -> TypedSearchAttributes:
    """Those of an `import-file` workflow, by which an erasure finds it. An import has the id of its command."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(COMMAND_ID, str(order.import_id)),
            SearchAttributePair(TENANT_ID, order.tenant_id),
            SearchAttributePair(USER_ID, str(order.user_id)),
            SearchAttributePair(AGGREGATE_ID, str(order.import_id)),
        ]
    )


async def start_in_clear(client: Client, command: Command, queue: str, keyring: Keyring) -> bool:
    """Start the workflow of a command without personal fields again; False if it runs already. Raises RPCError."""
    try:
        await client.start_workflow(
            command.type,
            command.model_dump(mode="json", by_alias=True),
            id=f"{command.type}/{command.command_id}",
            task_queue=queue,
            search_attributes=search_attributes_of(command, keyring),
        )
    except WorkflowAlreadyStartedError:
        return False
    return True
