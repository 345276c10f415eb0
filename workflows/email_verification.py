"""Remind somebody who has registered to verify the e-mail address, after one and three days; expire after seven."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, WorkflowAlreadyStartedError

from activities.publishing import Publishing
from activities.verifications import STEPS, Unverified, Verifications, VerificationStep, search_attributes, workflow_id
from domain.command import Saved
from domain.errors import UserNotFound
from workflows import options
from workflows.command import cause_of

_NOT_FOUND = "ExternalWorkflowExecutionNotFound"
"""The type of the SDK's error for a signal to a workflow that is not there, or has completed."""


@workflow.defn(name="email-verification")
class EmailVerificationWorkflow:
    def __init__(self) -> None:
        self._verified = False

    @workflow.signal(description="The address is verified, or the account is erased")
    def verified(self) -> None:
        self._verified = True

    @workflow.run
    async def run(self, account: Unverified) -> str:
        outcome = ""
        for step, after in enumerate(STEPS, start=1):
            if await self._verified_by(account, after):
                return "verified"
            overdue = step < len(STEPS) and workflow.now() >= account.registered_at + STEPS[step]
            if overdue and workflow.patched("newest-overdue-step"):
                continue  # started late: one mail for all the reminders that are overdue
            saved = await self._save(account, step)
            if saved is None:
                return "the account is erased"
            outcome = "expired" if saved.events else "nothing to do: the address is verified, or the account suspended"
            if saved.events:
                await workflow.execute_local_activity_method(Publishing.publish, saved, **options.PUBLISH)
                workflow.set_current_details(f"Step {step} of {len(STEPS)}: {saved.events[-1].event_type}")
        return outcome

    async def _verified_by(self, account: Unverified, after: timedelta) -> bool:
        """Whether the address is verified before this time after the registration."""
        left = account.registered_at + after - workflow.now()
        try:
            await workflow.wait_condition(
                lambda: self._verified, timeout=max(left, timedelta()), timeout_summary="next step"
            )
        except TimeoutError:
            return False
        return True

    async def _save(self, account: Unverified, step: int) -> Saved | None:
        """Save a step, with retries while the database is unavailable; None when the account is erased."""
        taken = VerificationStep(tenant_id=account.tenant_id, user_id=account.user_id, step=step, at=workflow.now())
        try:
            return await workflow.execute_local_activity_method(
                Verifications.save_verification_step, taken, **options.SAVE
            )
        except FailureError as error:
            if cause_of(error).type == UserNotFound.code:
                return None
            raise


async def start_reminders(registered: Saved) -> None:
    """Start the reminders of an account; they outlive the workflow of its registration."""
    account = Unverified(
        tenant_id=registered.tenant_id,
        user_id=registered.aggregate_id,
        registered_at=registered.events[0].timestamp,
    )
    with suppress(WorkflowAlreadyStartedError):  # by reconcile
        await workflow.start_child_workflow(
            EmailVerificationWorkflow.run,
            account,
            id=account.workflow_id,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            search_attributes=search_attributes(account),
            static_summary="Wait for the e-mail address to be verified",
        )


async def end_reminders(tenant_id: str, user_id: UUID) -> None:
    """End the reminders of an account; without any there is nothing to do."""
    handle: workflow.ExternalWorkflowHandle[EmailVerificationWorkflow] = workflow.get_external_workflow_handle_for(
        EmailVerificationWorkflow.run, workflow_id(tenant_id, user_id)
    )
    try:
        await handle.signal(EmailVerificationWorkflow.verified)
    except ApplicationError as error:
        if error.type != _NOT_FOUND:
            raise
