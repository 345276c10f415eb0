"""Digest: wait until a user's quiet hours end, then send what was held as one message for each channel."""

import asyncio
from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import ActivityError, WorkflowAlreadyStartedError

from activities.deliveries import Deliveries
from activities.notices import DigestOf, Notices
from activities.outbox_relay import digest_id, of_digest
from workflows import options
from workflows.command import cause_of


@workflow.defn(name="digest")
class DigestWorkflow:
    """What is held for one user until the same time."""

    @workflow.run
    async def run(self, of: DigestOf) -> str:
        left = of.until - workflow.now()
        if left.total_seconds() > 0:
            workflow.set_current_details("Waits until the user's quiet hours end")
            await workflow.sleep(left, summary="quiet hours")
        channels = await workflow.execute_activity_method(Notices.find_held, of, **options.EXPAND)
        outcomes = await asyncio.gather(*(self._send(of, channel.value) for channel in channels))
        done = ", ".join(outcomes) or "nothing is held any more"
        workflow.set_current_details(done.capitalize())
        return done

    async def _send(self, of: DigestOf, channel: str) -> str:
        try:
            done = await workflow.execute_activity_method(
                Deliveries.send_digest, of, **options.on_channel(options.SEND, channel, f"by {channel}")
            )
        except ActivityError as error:
            workflow.logger.warning("a digest is given up: %s", cause_of(error).message)
            done = f"given up: {cause_of(error).message}"
        return f"{channel}: {done}"


async def start_digest(of: DigestOf) -> None:
    """Start the digest of a user, who may have one for this time already."""
    with suppress(WorkflowAlreadyStartedError):
        await workflow.start_child_workflow(
            DigestWorkflow.run,
            of,
            id=digest_id(of),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            search_attributes=of_digest(of),
            static_summary=f"Held until {of.until:%Y-%m-%d %H:%M} UTC",
        )
