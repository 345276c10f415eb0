"""The registry of workflows."""

from typing import Any, get_args

from domain.documents import DocumentCommand
from domain.favorite_commands import FavoriteCommand
from domain.imports import ImportCommand
from domain.preferences import PreferencesCommand
from domain.property_commands import PropertyCommand
from domain.saved_searches import SavedSearchCommand
from domain.user_commands import UserCommand
from workflows.registry import COMMANDS


def types_of(union: Any) -> set[str]:
    members, _ = get_args(union)
    return {member.model_fields["type"].default for member in get_args(members)}


def test_every_command_has_its_workflow_and_every_workflow_its_command() -> None:
    others = (FavoriteCommand, PreferencesCommand, SavedSearchCommand, DocumentCommand, ImportCommand)
    unions = (PropertyCommand, UserCommand, *others)
    commands = {type for union in unions for type in types_of(union)}

    # Steps of the workflows email-verification, add-images, add-document and import.
    assert set(COMMANDS) == commands - {"expire-verification", "record-image", "record-document", "finish-import"}
    assert all(definition.__module__ == f"workflows.{name.replace('-', '_')}" for name, definition in COMMANDS.items())
