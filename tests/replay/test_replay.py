"""Recorded histories still replay: a deployed workflow is a promise."""

import asyncio
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from adapters import temporal
from tests.replay.record import HISTORIES, PATHS
from workflows.create_property import CreatePropertyWorkflow
from workflows.notify import NotifyWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.register_user import RegisterUserWorkflow


@pytest.mark.parametrize("file", sorted(HISTORIES.glob("*.json")), ids=lambda file: file.stem)
async def test_history_replays(file: Path) -> None:
    history = WorkflowHistory.from_json(file.stem, await asyncio.to_thread(file.read_text))
    replayer = Replayer(
        workflows=[CreatePropertyWorkflow, RegisterUserWorkflow, NotifyWorkflow, ReconcileWorkflow],
        plugins=[temporal.plugin()],
    )

    await replayer.replay_workflow(history)


def test_every_path_has_a_recorded_history() -> None:
    assert {file.stem for file in HISTORIES.glob("*.json")} >= PATHS.keys()
