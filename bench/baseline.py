"""The baselines: a worker of empty workflows, a route that does one Redis command, an empty route, and a silent stream.

`python -m bench.baseline worker` runs the worker; `python -m bench.baseline api PORT KEY` serves the
routes.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
import uvloop
from fastapi import FastAPI, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from adapters import redis, temporal
from adapters.settings import Settings, load_settings
from bench.empty import QUEUE, EmptyStepsWorkflow, EmptyWorkflow, nothing


async def work(settings: Settings) -> None:
    client = await temporal.connect_when_up(settings)
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=[EmptyWorkflow, EmptyStepsWorkflow],
        activities=[nothing],
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, initial=4, maximum=20),
        max_cached_workflows=2000,
        no_remote_activities=True,
    )
    await worker.run()


def serve(settings: Settings, port: int, key: str) -> None:
    app = FastAPI()
    client = redis.connect(settings)

    @app.get("/page")
    async def page() -> Response:
        return Response(await client.get(key), media_type="application/json")

    @app.post("/empty", status_code=204, response_class=Response)
    async def empty() -> None:
        return None

    @app.get("/stream", response_class=EventSourceResponse)
    async def stream() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(event="ready", data={})
        await asyncio.Event().wait()

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker"]:
            uvloop.run(work(load_settings()))
        case ["api", port, key]:
            serve(load_settings(), int(port), key)
        case _:
            raise SystemExit(__doc__)
