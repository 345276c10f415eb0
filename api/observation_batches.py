"""Saves a batch of observations by a `record-activity` workflow."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.service import RPCError

from adapters import temporal
from adapters.telemetry import OBSERVATIONS
from api.commands import new_id
from api.errors import unavailable
from domain.observations import Observation, RecordActivity
from workflows import options, registry
from workflows.record_activity import RecordActivityWorkflow

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
"""Of the observations of one workflow as JSON: half of what Temporal takes as an input, which it otherwise refuses."""


def by_size(observations: Iterable[Observation], most: int = MAX_BYTES) -> Iterator[list[Observation]]:
    """The observations in batches of at most so many bytes each; a larger one is a batch of its own."""
    batch: list[Observation] = []
    size = 0
    for one in observations:
        added = len(one.model_dump_json().encode())
        if batch and size + added > most:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += added
    if batch:
        yield batch


async def save_observations(
    client: Client, tenant_id: str, observations: Sequence[Observation], wait_seconds: float
) -> None:
    """Start the workflow of a batch and wait until it is saved. Raises ApiError unavailable."""
    batch = RecordActivity(command_id=new_id(), tenant_id=tenant_id, observations=tuple(observations))
    definition: Any = RecordActivityWorkflow  # the library's types have no case for an update without an argument
    start = WithStartWorkflowOperation(
        definition.run,
        batch,
        id=registry.workflow_id("record-activity", batch.command_id),
        task_queue=options.COMMANDS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,  # a retry by the SDK joins the first call
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(temporal.TENANT_ID, tenant_id),
                SearchAttributePair(temporal.COMMAND_ID, str(batch.command_id)),
            ]
        ),
        static_summary=f"{len(observations)} observations",
    )
    outcome = "failed"
    try:
        async with asyncio.timeout(wait_seconds):
            await client.execute_update_with_start_workflow(
                definition.saved, start_workflow_operation=start, id="saved"
            )
        outcome = "saved"
    except (
        TimeoutError,
        WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError,
        RPCError,
        RuntimeError,  # raised by the SDK's lazy connection when the server is unavailable
    ) as error:
        log.warning("%d observations were not saved in time: %r", len(observations), error)
        raise unavailable("The command service") from error
    finally:
        for event_type, count in Counter(one.event_type for one in observations).items():
            OBSERVATIONS.labels(event_type, outcome).inc(count)
        # The SDK sets the error on `workflow_handle()` too; asyncio would log it as never retrieved.
        if start._workflow_handle.done():
            start._workflow_handle.exception()
