"""The relay: gathers what was promised in a moment and starts the workflow that sends it."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.gathering import Gathering
from adapters import temporal
from domain.model import Model

log = logging.getLogger(__name__)

_GATHER_SECONDS = 1.0
"""Long enough for a busy second's mails to share a few workflows, and nobody sits at their mailbox waiting for less."""
AT_MOST = 50
"""Mails of one workflow: its `CommandIds` are to fit into the 2 kB of a search attribute."""


@dataclass(frozen=True)
class Promise:
    """A mail that was promised: in which portal, about which event of which command."""

    tenant_id: str
    event_id: UUID
    command_id: UUID


class Outgoing(Model):
    """What one workflow sends: the mails promised with these events of one portal."""

    tenant_id: str
    event_ids: tuple[UUID, ...]


class Relay:
    """Starts `notify` workflows. A promise that is lost here is in the outbox, where reconcile finds it."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._gathered = Gathering(_GATHER_SECONDS, self._start_gathered)

    def promised(self, promise: Promise) -> None:
        """Have a mail sent that was promised just now, with the others of this moment."""
        self._gathered.add(promise)

    async def _start_gathered(self, gathered: list[Promise]) -> None:
        for some in together(gathered):
            try:
                await self.start(some, str(uuid4()))
            except (RPCError, RuntimeError) as error:
                log.warning("%d mails are left to reconcile: %s", len(some), error)

    async def start(self, promises: Sequence[Promise], name: str) -> bool:
        """Start the workflow that sends mails of one portal; False when one of that name runs. Raises RPCError."""
        tenant = promises[0].tenant_id
        marks = TypedSearchAttributes(
            [
                SearchAttributePair(temporal.TENANT_ID, tenant),
                SearchAttributePair(temporal.COMMAND_IDS, sorted({str(promise.command_id) for promise in promises})),
            ]
        )
        try:
            await self._client.start_workflow(
                "notify",
                Outgoing(tenant_id=tenant, event_ids=tuple(promise.event_id for promise in promises)),
                id=f"notify/{name}",
                task_queue=self._queue,
                search_attributes=marks,
                static_summary=f"Mails about {len(promises)} events",
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def close(self) -> None:
        """Start at once what is gathered."""
        await self._gathered.close()


def together(promises: Sequence[Promise]) -> list[list[Promise]]:
    """Promises as they share workflows: of one portal, and not too many."""
    by_tenant: defaultdict[str, list[Promise]] = defaultdict(list)
    for promise in promises:
        by_tenant[promise.tenant_id].append(promise)
    return [some[n : n + AT_MOST] for some in by_tenant.values() for n in range(0, len(some), AT_MOST)]
