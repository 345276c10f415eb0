"""The workflows of notices with time skipping: what is sent on which queue, how long it is retried, and quiet hours."""

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.notices import DeliveryBatch, DigestOf, Expanded, FavoritesOf
from activities.outbox_relay import digest_id
from adapters.outbox import Target
from domain.preferences import Channel
from tests.samples import new_id
from tests.workflows.conftest import Workers, time_skipping
from tests.workflows.fakes import Script, unavailable
from tests.workflows.test_commands import lasted
from workflows import options
from workflows.digest import DigestWorkflow
from workflows.notify import NotifyWorkflow
from workflows.notify_favorites import NotifyFavoritesWorkflow


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server of its own for each test: one that has had a child workflow no longer skips time for other workflows."""
    async with time_skipping() as environment:
        yield environment


def targets(count: int) -> tuple[Target, ...]:
    return tuple(Target(new_id(), new_id()) for _ in range(count))


async def notify(environment: WorkflowEnvironment) -> WorkflowHandle[Any, str]:
    batch = DeliveryBatch(tenant_id="hyderabad", event_ids=(new_id(), new_id()))
    return await environment.client.start_workflow(
        NotifyWorkflow.run, batch, id=f"notify/{new_id()}", task_queue=options.NOTIFICATIONS
    )


async def test_deliveries_are_sent_by_channel_in_batches_of_ten(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    expanded = Expanded(channels={"email": targets(23), "sms": targets(2), "push": targets(1)}, recorded=new_id())
    script = Script(expanded=expanded)

    async with workers(skipping.client, script):
        done = await (await notify(skipping)).result()

    assert script.calls[0] == "expand_notices"
    assert sorted((batch.channel.value, len(batch.targets)) for batch in script.sent) == [
        ("email", 3),
        ("email", 10),
        ("email", 10),
        ("push", 1),
        ("sms", 2),
    ]
    assert {target for batch in script.sent for target in batch.targets} == {
        target for channel in expanded.channels.values() for target in channel
    }
    assert "1 in the app" in done


async def test_channel_that_fails_for_hours_holds_up_no_other(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(
        expanded=Expanded(channels={"email": targets(1), "sms": targets(1)}), send_batch_email=unavailable(14)
    )

    async with workers(skipping.client, script):
        handle = await notify(skipping)
        done = await handle.result()
        took = await lasted(handle)

    assert done == "email: 1 sent, sms: 1 sent"
    assert (script.attempts("send_batch_sms"), script.attempts("send_batch_email")) == (1, 15)
    assert script.calls.index("send_batch_sms") < 5
    # 5 s doubled up to half an hour: 5, 10, ... 1280, then 1800 five times.
    assert timedelta(hours=3) < took < timedelta(hours=4)


async def test_mails_do_not_wait_for_kafka(skipping: WorkflowEnvironment, workers: Workers) -> None:
    expanded = Expanded(channels={"email": targets(1)}, recorded=new_id())
    script = Script(expanded=expanded, publish_observations=unavailable(1000))

    async with workers(skipping.client, script):
        assert await (await notify(skipping)).result() == "in the app: left to reconcile, email: 1 sent"

    assert script.calls.index("send_batch_email") <= 2


async def test_deliveries_that_always_fail_are_left_after_days(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(expanded=Expanded(channels={"email": targets(1)}), send_batch_email=unavailable(1000))

    async with workers(skipping.client, script):
        handle = await notify(skipping)
        assert await handle.result() == "email: left: connection refused"
        took = await lasted(handle)

    assert timedelta(days=3) < took < timedelta(days=5)


async def test_favourites_are_notified_a_page_after_the_other(skipping: WorkflowEnvironment, workers: Workers) -> None:
    """More pages than one run has, so that it continues as new."""
    pages = [Expanded(channels={"email": targets(2)}, users=50, next_user=new_id()) for _ in range(23)]
    script = Script(pages=[*pages, Expanded(channels={}, users=7)])
    of = FavoritesOf(tenant_id="hyderabad", event_id=new_id(), property_id=new_id(), kind="PRICE_DROPPED")

    async with workers(skipping.client, script):
        handle = await skipping.client.start_workflow(
            NotifyFavoritesWorkflow.run, of, id=f"notify-favorites/{new_id()}", task_queue=options.NOTIFICATIONS
        )
        assert await handle.result() == "1157 users notified"

    assert script.calls == ["expand_favorites", "send_batch_email"] * 23 + ["expand_favorites"]


async def test_favourites_go_on_past_a_mailbox_that_defers(skipping: WorkflowEnvironment, workers: Workers) -> None:
    pages = [Expanded(channels={"email": targets(1)}, users=50, next_user=new_id()), Expanded(channels={}, users=1)]
    script = Script(pages=pages, send_batch_email=unavailable(1000))
    of = FavoritesOf(tenant_id="hyderabad", event_id=new_id(), property_id=new_id(), kind="PRICE_DROPPED")

    async with workers(skipping.client, script):
        handle = await skipping.client.start_workflow(
            NotifyFavoritesWorkflow.run, of, id=f"notify-favorites/{new_id()}", task_queue=options.NOTIFICATIONS
        )
        assert await handle.result() == "51 users notified"
        took = await lasted(handle)

    assert script.attempts("send_batch_email") == 2
    assert took < timedelta(minutes=1)


async def test_deliveries_of_one_night_share_a_digest(skipping: WorkflowEnvironment, workers: Workers) -> None:
    now = (await skipping.get_current_time()).astimezone(UTC)
    of = DigestOf(tenant_id="hyderabad", user_id=new_id(), until=now + timedelta(hours=9))
    script = Script(expanded=Expanded(channels={}, digests=(of, of)))

    async with workers(skipping.client, script):
        with skipping.auto_time_skipping_disabled():
            for _ in range(2):
                assert await (await notify(skipping)).result() == "nothing to send"
            digest = await skipping.client.get_workflow_handle(digest_id(of)).describe()

    assert digest.status is WorkflowExecutionStatus.RUNNING
    assert script.calls == ["expand_notices"] * 2


async def test_what_is_held_is_sent_when_quiet_hours_end(skipping: WorkflowEnvironment, workers: Workers) -> None:
    now = (await skipping.get_current_time()).astimezone(UTC)
    of = DigestOf(tenant_id="hyderabad", user_id=new_id(), until=now + timedelta(hours=9))
    script = Script(held=(Channel.EMAIL, Channel.PUSH))

    async with workers(skipping.client, script):
        digest = await skipping.client.start_workflow(
            DigestWorkflow.run, of, id=digest_id(of), task_queue=options.NOTIFICATIONS
        )
        assert await digest.result() == "email: 2 in one digest, push: 2 in one digest"
        took = await lasted(digest)

    assert script.attempts("send_digest_email") == script.attempts("send_digest_push") == 1
    assert abs(took - timedelta(hours=9)) < timedelta(minutes=1)


async def test_favourites_have_a_workflow_of_their_own(skipping: WorkflowEnvironment, workers: Workers) -> None:
    of = FavoritesOf(tenant_id="hyderabad", event_id=new_id(), property_id=new_id(), kind="PRICE_DROPPED")
    script = Script(expanded=Expanded(channels={}, favorites=(of,)), pages=[Expanded(channels={}, users=3)])

    async with workers(skipping.client, script):
        assert "workflow of their own" in await (await notify(skipping)).result()
        child: WorkflowHandle[Any, str] = skipping.client.get_workflow_handle(
            f"notify-favorites/hyderabad/{of.event_id}"
        )
        assert await child.result() == "3 users notified"
