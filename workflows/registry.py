"""The workflow of each command, and the workflows of each task queue."""

from typing import Any

from workflows import options
from workflows.change_property_status import ChangePropertyStatusWorkflow
from workflows.change_role import ChangeRoleWorkflow
from workflows.command import CommandWorkflow
from workflows.create_property import CreatePropertyWorkflow
from workflows.delete_property import DeletePropertyWorkflow
from workflows.favorite_property import FavoritePropertyWorkflow
from workflows.feature_property import FeaturePropertyWorkflow
from workflows.notify import NotifyWorkflow
from workflows.patch_property import PatchPropertyWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.record_activity import RecordActivityWorkflow
from workflows.register_user import RegisterUserWorkflow
from workflows.unfavorite_property import UnfavoritePropertyWorkflow
from workflows.update_property import UpdatePropertyWorkflow
from workflows.verify_property import VerifyPropertyWorkflow

COMMANDS: dict[str, type[CommandWorkflow]] = {
    "create-property": CreatePropertyWorkflow,
    "update-property": UpdatePropertyWorkflow,
    "patch-property": PatchPropertyWorkflow,
    "change-property-status": ChangePropertyStatusWorkflow,
    "feature-property": FeaturePropertyWorkflow,
    "verify-property": VerifyPropertyWorkflow,
    "delete-property": DeletePropertyWorkflow,
    "favorite-property": FavoritePropertyWorkflow,
    "unfavorite-property": UnfavoritePropertyWorkflow,
    "register-user": RegisterUserWorkflow,
    "change-role": ChangeRoleWorkflow,
}
"""Command workflows by the command's `type`, which is also the workflow's name."""

WORKFLOWS: dict[str, list[type[Any]]] = {
    options.COMMANDS: [*COMMANDS.values(), RecordActivityWorkflow],
    options.NOTIFICATIONS: [NotifyWorkflow],
    options.MAINTENANCE: [ReconcileWorkflow],
}


def workflow_id(command_type: str, command_id: object) -> str:
    """The id of a command's workflow."""
    return f"{command_type}/{command_id}"
