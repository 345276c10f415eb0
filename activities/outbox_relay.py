"""The outbox relay: starts `notify` workflows for events with new notices, a batch of events for each workflow."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from uuid import uuid4

from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.batching import Batcher
from activities.notices import DeliveryBatch, DigestOf
from adapters import temporal
from adapters.outbox import PendingEvent

log = logging.getLogger(__name__)

_BATCH_SECONDS = 1.0
"""Under load this batches dozens of mails into one workflow; a mail that is a second later does not matter."""
MAX_EVENTS = 50
"""Events of one workflow: its search attribute `CommandIds` must fit into 2 kB."""


class OutboxRelay:
    """Starts `notify` workflows. Notices that are lost here are in the outbox, where reconcile finds them."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._batcher = Batcher(_BATCH_SECONDS, self._start_batch)

    def enqueued(self, pending: Sequence[PendingEvent]) -> None:
        """Add events whose notices were just stored to the current batch."""
        if pending:
            self._batcher.add(*pending)

    async def _start_batch(self, batch: list[PendingEvent]) -> None:
        for group in group_by_tenant(batch):
            try:
                await self.start(group, str(uuid4()))
            except (RPCError, RuntimeError) as error:
                log.warning("%d notices are left to reconcile: %s", len(group), error)

    async def start(self, pending: Sequence[PendingEvent], name: str) -> bool:
        """Start `notify/{name}` for events of one tenant; False when it is running. Raises RPCError."""
        tenant = pending[0].tenant_id
        attributes = TypedSearchAttributes(
            [
                SearchAttributePair(temporal.TENANT_ID, tenant),
                SearchAttributePair(temporal.COMMAND_IDS, sorted({str(one.command_id) for one in pending})),
            ]
        )
        try:
            await self._client.start_workflow(
                "notify",
                DeliveryBatch(tenant_id=tenant, event_ids=tuple(one.event_id for one in pending)),
                id=f"notify/{name}",
                task_queue=self._queue,
                search_attributes=attributes,
                static_summary=f"{len(pending)} events",
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def start_digest(self, of: DigestOf) -> bool:
        """Start the digest of a user whose quiet hours are over; False when it is running. Raises RPCError."""
        try:
            await self._client.start_workflow(
                "digest", of, id=digest_id(of), task_queue=self._queue, search_attributes=of_digest(of)
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def close(self) -> None:
        """Start the workflows of the current batch without waiting for its interval."""
        await self._batcher.close()


def group_by_tenant(pending: Sequence[PendingEvent]) -> list[list[PendingEvent]]:
    """Split events into batches of one tenant and at most `MAX_EVENTS`."""
    by_tenant: defaultdict[str, list[PendingEvent]] = defaultdict(list)
    for one in pending:
        by_tenant[one.tenant_id].append(one)
    return [group[n : n + MAX_EVENTS] for group in by_tenant.values() for n in range(0, len(group), MAX_EVENTS)]


def digest_id(of: DigestOf) -> str:
    """The id of the workflow that sends a digest: all that is held until the same time shares one."""
    return f"digest/{of.tenant_id}/{of.user_id}/{int(of.until.timestamp())}"


def of_tenant(tenant_id: str) -> TypedSearchAttributes:
    """The search attributes of a workflow that notifies favourites."""
    return TypedSearchAttributes([SearchAttributePair(temporal.TENANT_ID, tenant_id)])


def of_digest(of: DigestOf) -> TypedSearchAttributes:
    """The search attributes of a digest."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(temporal.TENANT_ID, of.tenant_id),
            SearchAttributePair(temporal.USER_ID, str(of.user_id)),
        ]
    )
