"""The outbox relay: starts `notify` workflows for new deliveries, a batch of deliveries for each workflow."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.batching import Batcher
from adapters import temporal
from adapters.outbox import PendingDelivery
from domain.model import Fact

log = logging.getLogger(__name__)

_BATCH_SECONDS = 1.0
"""Under load this batches dozens of mails into one workflow; a mail that is a second later does not matter."""
MAX_DELIVERIES = 50
"""Deliveries of one workflow: its search attribute `CommandIds` must fit into 2 kB."""


class DeliveryBatch(Fact):
    """The input of one `notify` workflow: the events of one tenant whose deliveries it sends."""

    tenant_id: str
    event_ids: tuple[UUID, ...]


class DigestOf(Fact):
    """The input of one `digest` workflow: the user whose held deliveries it sends, and when their quiet hours end."""

    tenant_id: str
    user_id: UUID
    until: datetime


class OutboxRelay:
    """Starts `notify` workflows. Deliveries that are lost here are in the outbox, where reconcile finds them."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._batcher = Batcher(_BATCH_SECONDS, self._start_batch)

    def enqueued(self, pending: Sequence[PendingDelivery]) -> None:
        """Add deliveries that were just stored to the current batch."""
        if pending:
            self._batcher.add(*pending)

    async def _start_batch(self, batch: list[PendingDelivery]) -> None:
        for group in group_by_tenant(batch):
            try:
                await self.start(group, str(uuid4()))
            except (RPCError, RuntimeError) as error:
                log.warning("%d deliveries are left to reconcile: %s", len(group), error)

    async def start(self, pending: Sequence[PendingDelivery], name: str) -> bool:
        """Start `notify/{name}` for deliveries of one tenant; False when it is running. Raises RPCError."""
        tenant = pending[0].tenant_id
        attributes = TypedSearchAttributes(
            [
                SearchAttributePair(temporal.TENANT_ID, tenant),
                SearchAttributePair(temporal.COMMAND_IDS, sorted({str(delivery.command_id) for delivery in pending})),
            ]
        )
        try:
            await self._client.start_workflow(
                "notify",
                DeliveryBatch(tenant_id=tenant, event_ids=tuple(delivery.event_id for delivery in pending)),
                id=f"notify/{name}",
                task_queue=self._queue,
                search_attributes=attributes,
                static_summary=f"{len(pending)} deliveries",
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def close(self) -> None:
        """Start the workflows of the current batch without waiting for its interval."""
        await self._batcher.close()


def group_by_tenant(pending: Sequence[PendingDelivery]) -> list[list[PendingDelivery]]:
    """Split deliveries into batches of one tenant and at most `MAX_DELIVERIES`."""
    by_tenant: defaultdict[str, list[PendingDelivery]] = defaultdict(list)
    for delivery in pending:
        by_tenant[delivery.tenant_id].append(delivery)
    return [group[n : n + MAX_DELIVERIES] for group in by_tenant.values() for n in range(0, len(group), MAX_DELIVERIES)]
