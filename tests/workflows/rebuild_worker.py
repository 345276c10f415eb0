"""`python -m tests.workflows.rebuild_worker`: a worker of rebuilds, two events a step, for a test that kills it."""

import asyncio

from temporalio.client import Client
from temporalio.worker import Worker

from adapters import redis, temporal
from adapters.postgres import Database
from adapters.settings import load_settings
from projections import rebuild_rounds
from projections.history import History
from projections.rebuilding import Rebuilding
from workflows import options
from workflows.rebuild_projection import RebuildProjectionWorkflow


def worker(client: Client, rebuilding: Rebuilding) -> Worker:
    return Worker(
        client,
        task_queue=options.MAINTENANCE,
        workflows=[RebuildProjectionWorkflow],
        activities=[
            rebuilding.begin_rebuild,
            rebuilding.replay_events,
            rebuilding.switch_projection,
            rebuilding.delete_old_generation,
            rebuilding.abort_rebuild,
            rebuilding.record_rebuild_status,
        ],
    )


async def main() -> None:
    settings = load_settings()
    rebuild_rounds._BATCH = 2
    history = History(redis.connect(settings))
    rebuilding = Rebuilding(Database.for_all_tenants(settings), {"history": history}, seconds=0)
    await worker(await temporal.connect_when_up(settings), rebuilding).run()


if __name__ == "__main__":
    asyncio.run(main())
