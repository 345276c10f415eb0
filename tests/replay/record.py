"""`python -m tests.replay.record`: record a history of every path of every workflow, to be replayed for good.

Run it when a workflow gains a path. A recorded file is a promise to deployed workflows: add files, do not replace them.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from activities.relay import Outgoing
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.testing import WorkflowEnvironment

from adapters import temporal
from embedded.engines import binary
from tests.samples import create_property, new_id, register_user
from tests.workflows.conftest import running
from tests.workflows.fakes import Script, away, refusal
from workflows import options
from workflows.create_property import CreatePropertyWorkflow
from workflows.notify import NotifyWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.register_user import RegisterUserWorkflow

HISTORIES = Path(__file__).parent / "histories"
PATHS: dict[str, tuple[Any, Script]] = {
    "create_property-published_at_once": (CreatePropertyWorkflow, Script(published=True)),
    "create_property-promised": (CreatePropertyWorkflow, Script()),
    "create_property-promised_published_late": (CreatePropertyWorkflow, Script(publish=away(3))),
    "create_property-done": (CreatePropertyWorkflow, Script(promised=False)),
    "create_property-refused": (CreatePropertyWorkflow, Script(save_property=refusal("OwnerUnknown"))),
    "create_property-saved_late": (CreatePropertyWorkflow, Script(save_property=away(3))),
    "create_property-published_late": (CreatePropertyWorkflow, Script(promised=False, publish=away(3))),
    "create_property-confirmed_late": (
        CreatePropertyWorkflow,
        Script(promised=False, confirm_property_created=away(3)),
    ),
    "create_property-not_confirmed": (
        CreatePropertyWorkflow,
        Script(promised=False, confirm_property_created=refusal("MailRefused")),
    ),
    "register_user-done": (RegisterUserWorkflow, Script()),
    "register_user-refused": (RegisterUserWorkflow, Script(save_user=refusal("EmailTaken", "email"))),
    "register_user-published_late": (RegisterUserWorkflow, Script(publish=away(3))),
    "notify-done": (NotifyWorkflow, Script()),
    "notify-late": (NotifyWorkflow, Script(send_promised=away(2))),
    "notify-given_up": (NotifyWorkflow, Script(send_promised=refusal("MailRefused"))),
    "reconcile-mails_first": (ReconcileWorkflow, Script()),
    "reconcile-mails_failed": (ReconcileWorkflow, Script(notify_overdue=away(3))),
    "reconcile-done": (ReconcileWorkflow, Script()),
    "reconcile-unreadable": (ReconcileWorkflow, Script(unreadable=4)),
    "reconcile-failed": (ReconcileWorkflow, Script(publish_overdue=away(3))),
}
_QUEUES: dict[Any, str] = {NotifyWorkflow: options.NOTIFICATIONS, ReconcileWorkflow: options.MAINTENANCE}
"""Of the workflows that are no commands."""


async def record(environment: WorkflowEnvironment, name: str) -> str:
    """One path, run on scripted activities; returns its history as JSON."""
    workflow, script = PATHS[name]
    arguments: dict[Any, list[Any]] = {
        CreatePropertyWorkflow: [create_property("hyderabad", new_id())],
        RegisterUserWorkflow: [register_user("hyderabad")],
        NotifyWorkflow: [Outgoing(tenant_id="hyderabad", event_ids=(new_id(), new_id()))],
        ReconcileWorkflow: [],
    }
    queue = _QUEUES.get(workflow, options.COMMANDS)
    async with running(environment.client, script):
        handle = await started(environment.client, workflow, arguments[workflow], f"{name}-{new_id()}", queue)
        try:
            await handle.result()
        except WorkflowFailureError as error:
            sys.stdout.write(f"{name}: ends with {error.cause}\n")
    return (await handle.fetch_history()).to_json()


async def started(client: Client, workflow: Any, arguments: list[Any], id: str, queue: str) -> WorkflowHandle[Any, Any]:
    """Start as the API does: a command with its update in one call."""
    if workflow in _QUEUES:
        return await client.start_workflow(workflow.run, args=arguments, id=id, task_queue=queue)
    start = WithStartWorkflowOperation(
        workflow.run, args=arguments, id=id, task_queue=queue, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    try:
        await client.execute_update_with_start_workflow(workflow.saved, start_workflow_operation=start, id="saved")
    except WorkflowUpdateFailedError as error:
        sys.stdout.write(f"{id}: answers {error.cause}\n")
    return client.get_workflow_handle(id)


async def main() -> None:
    # The development server, because the time-skipping one does not skip while an update is awaited.
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), plugins=[temporal.plugin()]
    ) as environment:
        for name in PATHS:
            file = HISTORIES / f"{name}.json"
            if not file.exists():
                file.write_text(json.dumps(json.loads(await record(environment, name)), indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
