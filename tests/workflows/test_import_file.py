"""The workflow of an import: its steps, and what ends it."""

import asyncio
from datetime import UTC, datetime

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer

from activities.import_rows import ImportStep
from adapters import temporal
from domain.imports import ImportOrder, ImportProperties, ImportStatus
from tests.platform import until
from tests.samples import new_id, sent
from tests.workflows.conftest import Workers
from tests.workflows.fakes import Script, refusal, unavailable
from workflows import options
from workflows.import_file import ImportFileWorkflow, finish_id
from workflows.import_properties import ImportPropertiesWorkflow

MORE = ImportStep(outcome="more")
PAUSED = ImportStep(outcome="paused")
COMPLETED = ImportStep(outcome="ended", status=ImportStatus.COMPLETED)


def an_order() -> ImportOrder:
    return ImportOrder(tenant_id="hyderabad", import_id=new_id(), user_id=new_id())


async def start(client: Client, order: ImportOrder) -> WorkflowHandle[ImportFileWorkflow, str]:
    return await client.start_workflow(ImportFileWorkflow.run, order, id=order.workflow_id, task_queue=options.IMPORTS)


async def test_steps_follow_until_the_file_is_read_and_the_end_is_published(apart: Client, workers: Workers) -> None:
    order, script = an_order(), Script(steps=[MORE, MORE, COMPLETED])

    async with workers(apart, script):
        assert (await (await start(apart, order)).result()).startswith("Completed")

    assert script.calls == ["import_rows"] * 3 + ["save_import", "publish"]
    [finished] = script.finished
    assert (finished.command_id, finished.status) == (finish_id(order.import_id), ImportStatus.COMPLETED)


async def test_what_is_unavailable_is_tried_again(apart: Client, workers: Workers) -> None:
    script = Script(import_rows=unavailable(1), save_import=unavailable(1))

    async with workers(apart, script):
        await (await start(apart, an_order())).result()

    assert script.calls == ["import_rows"] * 2 + ["save_import"] * 2 + ["publish"]


async def test_pause_ends_the_workflow_without_an_end_of_the_import(apart: Client, workers: Workers) -> None:
    script = Script(steps=[MORE, PAUSED])

    async with workers(apart, script):
        assert (await (await start(apart, an_order())).result()).startswith("Paused")

    assert script.calls == ["import_rows"] * 2


async def test_import_that_is_resumed_while_it_pauses_goes_on(apart: Client, workers: Workers) -> None:
    """The activity has seen the pause, and is resumed before the workflow sees its answer."""
    order, script = an_order(), Script(steps=[PAUSED, COMPLETED])

    async def resume(order: ImportOrder) -> None:
        if script.attempts("import_rows") == 1:
            await apart.get_workflow_handle(order.workflow_id).signal("changed")

    script.while_importing = resume
    async with workers(apart, script):
        assert (await (await start(apart, order)).result()).startswith("Completed")

    assert script.attempts("import_rows") == 2


async def test_long_history_is_continued_as_new_and_replays(apart: Client, workers: Workers) -> None:
    # Temporal suggests it from 4 MB on.
    many = [ImportStep(outcome="more", reason="x" * 900_000)] * 6
    order, script = an_order(), Script(steps=[*many, MORE, COMPLETED])

    async with workers(apart, script):
        handle = await start(apart, order)
        assert (await handle.result()).startswith("Completed")

    assert script.calls == ["import_rows"] * 8 + ["save_import", "publish"]
    first = apart.get_workflow_handle(order.workflow_id, run_id=handle.first_execution_run_id)
    history = await first.fetch_history()
    assert history.events[-1].HasField("workflow_execution_continued_as_new_event_attributes")
    replayer = Replayer(workflows=[ImportFileWorkflow], plugins=[temporal.plugin()])
    await replayer.replay_workflow(history)


async def test_import_of_a_person_whose_key_is_destroyed_ends_in_silence(apart: Client, workers: Workers) -> None:
    script = Script(steps=[COMPLETED], save_import=refusal("account-closed"))

    async with workers(apart, script):
        await (await start(apart, an_order())).result()

    assert script.calls == ["import_rows", "save_import"]


async def test_import_that_reconcile_has_started_first_is_published(apart: Client, workers: Workers) -> None:
    command = ImportProperties(
        command_id=new_id(),
        tenant_id="hyderabad",
        user_id=new_id(),
        issued_at=datetime.now(UTC),
        upload_id=new_id(),
        file_name="flats.csv",
        size=5,
    )
    order = ImportOrder(tenant_id="hyderabad", import_id=command.aggregate_id, user_id=command.user_id)
    script, published = Script(), asyncio.Event()

    async def started() -> bool:
        return script.attempts("import_rows") == 1

    async def wait(_: ImportOrder) -> None:
        await published.wait()

    script.while_importing = wait
    async with workers(apart, script):
        first = await start(apart, order)
        await until(started)
        await apart.execute_workflow(
            ImportPropertiesWorkflow.run, sent(command), id=str(command.command_id), task_queue=options.COMMANDS
        )
        assert script.attempts("publish") == 1
        published.set()
        await first.result()


async def test_import_of_an_erased_person_ends_in_silence(apart: Client, workers: Workers) -> None:
    script = Script(steps=[ImportStep(outcome="gone")])

    async with workers(apart, script):
        await (await start(apart, an_order())).result()

    assert script.calls == ["import_rows"]
