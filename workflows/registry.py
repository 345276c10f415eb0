"""The workflow of each command, and the workflows of each task queue."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from temporalio import workflow

from workflows import options
from workflows.command import CommandWorkflow
from workflows.digest import DigestWorkflow
from workflows.email_verification import EmailVerificationWorkflow
from workflows.import_file import ImportFileWorkflow
from workflows.notify import NotifyWorkflow
from workflows.notify_favorites import NotifyFavoritesWorkflow
from workflows.rebuild_projection import RebuildProjectionWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.record_activity import RecordActivityWorkflow
from workflows.saved_search import SavedSearchWorkflow

for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    importlib.import_module(f"workflows.{_module.name}")

COMMANDS: dict[str, type[CommandWorkflow]] = {
    str(workflow._Definition.must_from_class(definition).name): definition
    for definition in CommandWorkflow.__subclasses__()
}
"""Every command workflow of this package, by the `type` of its command, which is the workflow's name."""

WORKFLOWS: dict[str, list[type[Any]]] = {
    options.COMMANDS: [*COMMANDS.values(), RecordActivityWorkflow, EmailVerificationWorkflow],
    options.NOTIFICATIONS: [NotifyWorkflow, NotifyFavoritesWorkflow, DigestWorkflow, SavedSearchWorkflow],
    options.IMPORTS: [ImportFileWorkflow],
    options.MAINTENANCE: [ReconcileWorkflow, RebuildProjectionWorkflow],
}


def workflow_id(command_type: str, command_id: object) -> str:
    """The id of a command's workflow."""
    return f"{command_type}/{command_id}"
