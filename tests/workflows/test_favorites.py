"""The steps of the commands on a favourite."""

from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.favorite_commands import FavoriteProperty, UnfavoriteProperty
from tests.samples import new_id, sent
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, unavailable
from workflows import options, registry


@pytest.mark.parametrize(
    ("kind", "event"),
    [(FavoriteProperty, "PROPERTY_FAVORITED"), (UnfavoriteProperty, "PROPERTY_UNFAVORITED")],
)
async def test_favourite_is_saved_then_published(
    skipping: WorkflowEnvironment,
    workers: Workers,
    kind: type[FavoriteProperty] | type[UnfavoriteProperty],
    event: str,
) -> None:
    script = Script(publish=unavailable(1))
    command = kind(
        command_id=new_id(),
        tenant_id="hyderabad",
        user_id=new_id(),
        issued_at=datetime.now(UTC),
        property_id=new_id(),
    )
    workflow: Any = registry.COMMANDS[command.type]

    async with workers(skipping.client, script):
        outcome = await skipping.client.execute_workflow(
            workflow.run,
            sent(command),
            id=registry.workflow_id(command.type, command.command_id),
            task_queue=options.COMMANDS,
        )

    assert script.calls == ["save_favorite", "publish", "publish"]
    assert outcome == f"{command.aggregate_id} version 1: {event}"
