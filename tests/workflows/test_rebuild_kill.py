"""A rebuild survives the death of its worker: another one goes on where that had come to."""

import asyncio
import os
import signal
import sys

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from adapters.postgres import Database
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from embedded.paths import ROOT
from embedded.stack import Stack
from projections.rebuild_record import find_rebuild
from projections.rebuilding import Rebuilding
from tests.activities.accounts import Saving
from tests.platform import until
from tests.projections.messages import RecordedHistory
from tests.projections.test_rebuild import rows_of, stored_events
from tests.samples import create_property, new_id
from tests.workflows.rebuild_worker import worker
from workflows import options
from workflows.rebuild_projection import RebuildProjectionWorkflow


@pytest.mark.temporal
async def test_rebuild_goes_on_after_its_worker_is_killed(
    apart: Client, stack: Stack, all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    for _ in range(60):
        await saving.property(create_property(tenant, owner))
    order = RebuildOrder(rebuild_id=new_id(), projection="history")

    async def progress() -> RebuildProgress | None:
        async with all_tenants.statements() as connection:
            return await find_rebuild(connection, order.rebuild_id)

    async def has_begun() -> bool:
        found = await progress()
        return found is not None and found.done > 2

    doomed = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.workflows.rebuild_worker"),
        cwd=ROOT,
        env={**os.environ, **stack.env, "TEMPORAL_NAMESPACE": apart.namespace},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        handle = await apart.start_workflow(
            RebuildProjectionWorkflow.run, order, id=f"rebuild-projection/{new_id()}", task_queue=options.MAINTENANCE
        )
        await until(has_begun)
    finally:
        doomed.send_signal(signal.SIGKILL)
        await doomed.wait()
    interrupted, history = await progress(), RecordedHistory(valkey)
    async with worker(apart, Rebuilding(all_tenants, {"history": history})):
        done = await asyncio.wait_for(handle.result(), 120)

    assert interrupted
    assert interrupted.finished_at is None
    assert interrupted.done < interrupted.total
    assert done
    assert (done.status, done.generation) == (RebuildStatus.COMPLETED, interrupted.generation)
    assert len(history.applied) == done.applied - interrupted.applied
    assert await rows_of(all_tenants, done.generation) == await stored_events(all_tenants)
