"""Recorded histories still replay: changed workflow code must stay compatible with running workflows."""

import asyncio
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from adapters import temporal
from tests.replay.record import HISTORIES, PATHS
from workflows.registry import WORKFLOWS


@pytest.mark.parametrize("file", sorted(HISTORIES.glob("*.json")), ids=lambda file: file.stem)
async def test_history_replays(file: Path) -> None:
    history = WorkflowHistory.from_json(file.stem, await asyncio.to_thread(file.read_text))
    replayer = Replayer(
        workflows=[workflow for workflows in WORKFLOWS.values() for workflow in workflows],
        plugins=[temporal.plugin()],
    )

    await replayer.replay_workflow(history)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_has_a_recorded_history(path: str) -> None:
    assert (HISTORIES / f"{path}.json").exists(), "python -m tests.replay.record"


def test_every_workflow_has_a_path() -> None:
    """The paths of commands are made from the registry: what is refused, late or fails is as much a promise."""
    assert {path.workflow for path in PATHS.values()} == {
        workflow for workflows in WORKFLOWS.values() for workflow in workflows
    }
