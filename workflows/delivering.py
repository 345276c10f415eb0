"""Sends expanded deliveries: what the workflows of notices share."""

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError
from temporalio.workflow import ActivityConfig

from activities.deliveries import Deliveries, Outgoing
from activities.notices import DigestOf, Expanded
from activities.publishing import Publishing
from domain.observations import RecordedActivity
from domain.preferences import Channel
from workflows import options
from workflows.command import cause_of
from workflows.digest import start_digest


async def deliver(tenant_id: str, expanded: Expanded, sending: ActivityConfig) -> str:
    """Publish what is in the app, and send the pending deliveries of each channel; returns the outcome in one line."""
    batches = [
        Outgoing(tenant_id=tenant_id, channel=Channel(channel), targets=targets[n : n + options.SEND_BATCH])
        for channel, targets in expanded.channels.items()
        for n in range(0, len(targets), options.SEND_BATCH)
    ]
    outcomes = await asyncio.gather(_publish(tenant_id, expanded), *(_send(batch, sending) for batch in batches))
    return ", ".join(filter(None, outcomes)) or "nothing to send"


async def _publish(tenant_id: str, expanded: Expanded) -> str:
    if expanded.recorded is None:
        return ""
    recorded = RecordedActivity(tenant_id=tenant_id, command_id=expanded.recorded)
    try:
        published = await workflow.execute_local_activity_method(
            Publishing.publish_observations, recorded, **options.PUBLISH_IN_APP
        )
    except FailureError as error:
        workflow.logger.warning("events in the app are left to reconcile: %s", cause_of(error).message)
        return "in the app: left to reconcile"
    return f"{published} in the app"


async def _send(batch: Outgoing, sending: ActivityConfig) -> str:
    try:
        summary = f"{len(batch.targets)} by {batch.channel.value}"
        done = await workflow.execute_activity_method(
            Deliveries.send_batch, batch, **options.on_channel(sending, batch.channel.value, summary)
        )
    except ActivityError as error:
        # The commands are saved, so a message that cannot be sent is no failed workflow.
        workflow.logger.warning("deliveries are left or given up: %s", cause_of(error).message)
        done = f"left: {cause_of(error).message}"
    return f"{batch.channel.value}: {done}"


async def start_digests(digests: Sequence[DigestOf]) -> None:
    """Start the workflows that send what is held, if they do not wait already."""
    await asyncio.gather(*(start_digest(of) for of in digests))
