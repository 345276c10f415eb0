"""Temporal: the one plugin of client, worker and replayer, and the registry of search attributes."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import packages_distributions
from typing import TypeVar

from pydantic import ValidationError
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import StorageDriverStoreContext
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

from adapters.settings import Settings

log = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

_CONNECT_SECONDS = 10
"""A server that answers does so within milliseconds; one that drops packets would never refuse."""
_TAKEN_UP_SECONDS = 120
"""The server's caches of search attributes are a minute old at most."""

COMMAND_ID = SearchAttributeKey.for_keyword("CommandId")
AGGREGATE_ID = SearchAttributeKey.for_keyword("AggregateId")
USER_ID = SearchAttributeKey.for_keyword("UserId")
TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
COMMAND_IDS = SearchAttributeKey.for_keyword_list("CommandIds")
"""Of a workflow that does something for several commands."""
SEARCH_ATTRIBUTES = {
    **{key.name: "Keyword" for key in (COMMAND_ID, AGGREGATE_ID, USER_ID, TENANT_ID)},
    COMMAND_IDS.name: "KeywordList",
}
_ASKS_FOR_EACH = " AND ".join(f"{name} = 'nothing'" for name in SEARCH_ATTRIBUTES)
"""A query that a server refuses until it knows the namespace and every search attribute."""
_PREPARED_RPC_TIMEOUT = timedelta(seconds=5)
"""An answer takes milliseconds; the client would go on trying for longer than whoever asks wants to wait."""
_KINDS = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
}


class NotPrepared(Exception):
    """The server does not know the namespace or its search attributes; the message says what an operator has to do."""


class _ContextFree(WorkflowInstance):
    """A workflow whose payloads need no context.

    The worker asks for one several times for each payload, and each question enters the sandbox, which took a fifth of
    the worker's Python. Pydantic's converter makes no use of the answer, and we have no store outside Temporal.
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
    """The sandbox, with workflows that need no context."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _ContextFree(super().create_instance(det))


@lru_cache
def _restrictions() -> SandboxRestrictions:
    """Each run loads our workflows' modules anew, for a module that is passed through meets the real clock and the real
    dice. Everything that they import is passed through: loading that anew would cost more than the command. What they
    share is, too; that it asks for neither clock nor dice, `make check` sees to (import-linter in pyproject.toml).
    """
    ours = ("activities", "adapters", "domain", "workflows.command", "workflows.options")
    return SandboxRestrictions.default.with_passthrough_modules(
        *ours, *sys.stdlib_module_names, *packages_distributions()
    )


def plugin() -> SimplePlugin:
    """What client, worker and replayer must agree on: how data travels and where workflow code runs."""
    return SimplePlugin(
        "hyderabad-infra",
        data_converter=pydantic_data_converter,
        workflow_runner=_Runner(_restrictions()),
        # An input of another form, as of a workflow that was started by hand: its task would be tried again for ever.
        workflow_failure_exception_types=[ValidationError],
    )


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


async def ensure_prepared(client: Client) -> None:
    """Raises NotPrepared when the namespace or its search attributes are missing, RPCError or RuntimeError when the
    server does not answer.
    """
    try:
        await client.count_workflows(_ASKS_FOR_EACH, rpc_timeout=_PREPARED_RPC_TIMEOUT)
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


async def ensure_search_attributes(settings: Settings) -> None:
    """Register the search attributes that the namespace lacks, which may itself be a moment old.

    Raises ConnectionError when the server cannot be reached, TimeoutError when it does not answer or does not come to
    know the namespace or its attributes.
    """
    namespace = settings.temporal_namespace
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            client = await Client.connect(settings.temporal_address, namespace=namespace, plugins=[plugin()])
    except RuntimeError as error:
        raise ConnectionError(str(error)) from error
    try:
        async with asyncio.timeout(_TAKEN_UP_SECONDS):
            await _register(client, namespace)
            await _once_heard_of(client.count_workflows, _ASKS_FOR_EACH)
    except TimeoutError as error:
        raise TimeoutError(
            f"it has no namespace {namespace!r}, or has not taken its search attributes up within "
            f"{_TAKEN_UP_SECONDS} s; does TEMPORAL_NAMESPACE name one that is registered?"
        ) from error


async def _register(client: Client, namespace: str) -> None:
    operator = client.operator_service
    known = await _once_heard_of(operator.list_search_attributes, ListSearchAttributesRequest(namespace=namespace))
    missing = SEARCH_ATTRIBUTES.keys() - known.custom_attributes.keys()
    if not missing:
        return
    kinds = {name: _KINDS[SEARCH_ATTRIBUTES[name]] for name in missing}
    try:
        await operator.add_search_attributes(AddSearchAttributesRequest(namespace=namespace, search_attributes=kinds))
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def _once_heard_of(ask: Callable[[A], Awaitable[T]], what: A) -> T:
    """An answer that a frontend gives when it has heard of what is new. It hears with a delay, and refuses until then:
    what belongs to a namespace as not found, what carries a search attribute as invalid.
    """
    told = False
    while True:
        try:
            return await ask(what)
        except RPCError as error:
            if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                raise
            if not told:
                log.warning("asking Temporal again until it has heard of what is new: %s", error)
            told = True
        await asyncio.sleep(0.2)
