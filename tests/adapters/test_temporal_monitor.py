"""Missing schedules are created; a missing namespace or search attribute is logged once and fails /readyz."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleIntervalSpec, ScheduleSpec

from adapters import temporal
from adapters.settings import Settings
from adapters.temporal_monitor import TemporalMonitor
from embedded.paths import Ports
from tests.platform import until
from tests.samples import new_id


def every(hours: int) -> Schedule:
    """A schedule of a workflow that no worker runs."""
    return Schedule(
        action=ScheduleActionStartWorkflow("nothing", id=f"nothing/{new_id()}", task_queue="nobody"),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=hours))]),
    )


@pytest.mark.temporal
async def test_deleted_schedule_is_created_again(temporal_client: Client) -> None:
    name = f"schedule-{new_id()}"
    monitor = TemporalMonitor({name: every(hours=24)})
    await monitor.check(temporal_client)
    await temporal_client.get_schedule_handle(name).delete()

    await monitor.check(temporal_client)

    described = await temporal_client.get_schedule_handle(name).describe()
    assert described.schedule.spec.intervals[0].every == timedelta(hours=24)
    assert monitor.missing == []
    await temporal_client.get_schedule_handle(name).delete()


@pytest.mark.temporal
async def test_schedule_takes_the_settings_of_a_process_that_starts_and_stays_paused(temporal_client: Client) -> None:
    name = f"schedule-{new_id()}"
    await TemporalMonitor({name: every(hours=24)}).check(temporal_client)
    await temporal_client.get_schedule_handle(name).pause(note="by an operator")

    await TemporalMonitor({name: every(hours=48)}).check(temporal_client)

    described = await temporal_client.get_schedule_handle(name).describe()
    assert described.schedule.spec.intervals[0].every == timedelta(hours=48)
    assert described.schedule.state.paused
    await temporal_client.get_schedule_handle(name).delete()


@pytest.mark.temporal
async def test_missing_namespace_and_search_attributes_are_logged_once_each(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="adapters.temporal_monitor")
    late = settings.model_copy(update={"temporal_namespace": f"late-{new_id()}"})
    client = await temporal.connect(late)
    monitor = TemporalMonitor({"once-a-day": every(hours=24)})

    async def another_state() -> bool:
        before = monitor.missing
        await monitor.check(client)
        return monitor.missing != before

    await monitor.check(client)
    await monitor.check(client)
    assert "no namespace" in monitor.missing[0]
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=late.temporal_namespace, workflow_execution_retention_period=Duration(seconds=86_400)
        )
    )
    await until(another_state)
    await monitor.check(client)
    assert "lacks search attributes: run `python -m migrations`" in monitor.missing[0]
    await temporal.ensure_search_attributes(late)
    await until(another_state)
    await monitor.check(client)

    assert monitor.missing == []
    said = [record.getMessage() for record in caplog.records if record.name == "adapters.temporal_monitor"]
    where = f"Temporal's namespace '{late.temporal_namespace}'"
    assert said == [
        f"Temporal has no namespace '{late.temporal_namespace}': register it, then run `python -m migrations`",
        f"{where} lacks search attributes: run `python -m migrations`",
        "created the schedule once-a-day",
        "Temporal has everything that the workers need",
    ]
    await client.get_schedule_handle("once-a-day").delete()


async def test_unavailable_server_is_logged_once(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = f"127.0.0.1:{Ports(tmp_path / 'ports.json')['nobody']}"
    client = await temporal.connect(settings.model_copy(update={"temporal_address": nobody}))
    monitor = TemporalMonitor({"once-a-day": every(hours=24)})

    await monitor.check(client)
    await monitor.check(client)

    assert monitor.missing == ["Temporal"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["Temporal does not answer"]
