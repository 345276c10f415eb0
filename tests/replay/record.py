"""`python -m tests.replay.record`: record a history of every path of every workflow, for replay tests.

Run it when a workflow gains a path. Deployed workflows have the recorded histories: add files, never replace one.
"""

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.testing import WorkflowEnvironment

from activities.outbox_relay import DeliveryBatch
from adapters import temporal
from domain.command import Command
from domain.favorite_commands import FavoriteProperty, UnfavoriteProperty
from domain.property import PropertyPatch
from domain.property_commands import (
    ChangePropertyStatus,
    DeleteProperty,
    FeatureProperty,
    PatchProperty,
    UpdateProperty,
    VerifyProperty,
)
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.user_commands import ChangeRole
from embedded.engines import binary
from tests.samples import create_property, login, new_id, record_activity, register_user, sent, view
from tests.workflows.conftest import running
from tests.workflows.fakes import Script, refusal, unavailable
from workflows import options
from workflows.notify import NotifyWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.record_activity import RecordActivityWorkflow
from workflows.registry import COMMANDS

HISTORIES = Path(__file__).parent / "histories"

_STACK_TRACE = re.compile(r'("stackTrace": ?)"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Recorded:
    """One path of a workflow: its arguments, and the script of its activities."""

    workflow: type[Any]
    arguments: list[Any]
    script: Script


def _paths() -> dict[str, Recorded]:
    owner, creating, registering = new_id(), create_property("hyderabad", new_id()), register_user("hyderabad")
    by_owner: dict[str, Any] = {"tenant_id": "hyderabad", "user_id": owner, "issued_at": creating.issued_at}
    of_listing = {**by_owner, "property_id": creating.property_id}
    changes = [
        UpdateProperty(command_id=new_id(), details=creating.details, **of_listing),
        PatchProperty(command_id=new_id(), changes=PropertyPatch.model_validate({"price": 1}), **of_listing),
        ChangePropertyStatus(command_id=new_id(), status=PropertyStatus.SOLD, **of_listing),
        FeatureProperty(command_id=new_id(), value=True, **of_listing),
        VerifyProperty(command_id=new_id(), value=True, **of_listing),
        DeleteProperty(command_id=new_id(), **of_listing),
        FavoriteProperty(command_id=new_id(), **of_listing),
        UnfavoriteProperty(command_id=new_id(), **of_listing),
    ]
    outgoing = DeliveryBatch(tenant_id="hyderabad", event_ids=(new_id(), new_id()))

    def command(command: Command, script: Script) -> Recorded:
        return Recorded(COMMANDS[command.type], [sent(command)], script)

    def recording(script: Script) -> Recorded:
        batch = record_activity("hyderabad", view(creating.property_id), login(owner))
        return Recorded(RecordActivityWorkflow, [batch], script)

    def reconcile(script: Script) -> Recorded:
        return Recorded(ReconcileWorkflow, [], script)

    return {
        **{
            f"{change.type}-done".replace("-", "_", change.type.count("-")): command(change, Script())
            for change in changes
        },
        "create_property-done": command(creating, Script()),
        "create_property-refused": command(creating, Script(save_property=refusal("account-closed"))),
        "create_property-saved_late": command(creating, Script(save_property=unavailable(3))),
        "create_property-published_late": command(creating, Script(publish=unavailable(3))),
        "patch_property-nothing_changed": command(changes[1], Script(changes=False)),
        "register_user-done": command(registering, Script()),
        "register_user-refused": command(registering, Script(save_user=refusal("email-taken", "email"))),
        "register_user-published_late": command(registering, Script(publish=unavailable(3))),
        "change_role-done": command(
            ChangeRole(
                command_id=new_id(),
                tenant_id="hyderabad",
                user_id=owner,
                issued_at=creating.issued_at,
                role=UserRole.ADMIN,
            ),
            Script(),
        ),
        "record_activity-done": recording(Script()),
        "record_activity-saved_late": recording(Script(save_observations=unavailable(3))),
        "record_activity-published_late": recording(Script(publish_observations=unavailable(3))),
        "notify-done": Recorded(NotifyWorkflow, [outgoing], Script()),
        "notify-late": Recorded(NotifyWorkflow, [outgoing], Script(send_deliveries=unavailable(2))),
        "notify-given_up": Recorded(NotifyWorkflow, [outgoing], Script(send_deliveries=refusal("MailRefused"))),
        "reconcile-done": reconcile(Script()),
        "reconcile-unreadable": reconcile(Script(unreadable=1)),
        "reconcile-failed": reconcile(Script(publish_overdue=unavailable(3))),
        "reconcile-deliveries_failed": reconcile(Script(start_overdue=unavailable(3))),
    }


PATHS = _paths()
_QUEUES: dict[Any, str] = {NotifyWorkflow: options.NOTIFICATIONS, ReconcileWorkflow: options.MAINTENANCE}
"""Task queues of the workflows that are not commands."""


async def record(environment: WorkflowEnvironment, name: str) -> str:
    """One path, run on scripted activities; returns its history as JSON."""
    path = PATHS[name]
    queue = _QUEUES.get(path.workflow, options.COMMANDS)
    async with running(environment.client, path.script):
        handle = await started(environment.client, path.workflow, path.arguments, f"{name}-{new_id()}", queue)
        try:
            await handle.result()
        except WorkflowFailureError as error:
            sys.stdout.write(f"{name}: ends with {error.cause}\n")
    # Stack traces name folders of the machine that recorded them, and replay does not read them.
    return _STACK_TRACE.sub(r'\1""', (await handle.fetch_history()).to_json())


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
