"""The workers: `python worker.py commands notifications maintenance`; without arguments, every queue.

Each named task queue gets a pool of its own, so operators scale the queues apart.
"""

import argparse
import asyncio
import dataclasses
import logging
import signal
from datetime import timedelta

import uvloop
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
)
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from activities.notifications import Notifications, OverdueDeliveries
from activities.observations import Observations
from activities.outbox_relay import OutboxRelay
from activities.properties import Properties
from activities.publishing import Publishing, Reconciliation
from activities.saving import CommandStore
from activities.users import Users
from adapters import temporal
from adapters.kafka import Publisher
from adapters.mail import Mailer
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings, load_settings
from adapters.telemetry import ops_server, set_up_logging
from workflows import options
from workflows.registry import WORKFLOWS

log = logging.getLogger("worker")

DRAIN = timedelta(seconds=10)
"""Longer than any activity in the ordinary case; what is cut off is retried by another worker."""


class Pools:
    """The workers of one process and the connections that they share."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._tenants = Database.for_tenants(settings)
        self._all_tenants = Database.for_all_tenants(settings)
        self._publisher = Publisher(settings)
        self._mailer = Mailer(settings)
        self._relay = OutboxRelay(client, options.NOTIFICATIONS)
        self._publishing = Publishing(self._all_tenants, self._publisher)
        self._keyring = Keyring(settings.secret_bytes)

    def worker(self, queue: str) -> Worker:
        """The pool of one task queue."""
        return {
            options.COMMANDS: self._commands,
            options.NOTIFICATIONS: self._notifications,
            options.MAINTENANCE: self._maintenance,
        }[queue]()

    def _commands(self) -> Worker:
        store = CommandStore(self._tenants, self._keyring, self._relay.enqueued)
        return Worker(
            self._client,
            task_queue=options.COMMANDS,
            workflows=WORKFLOWS[options.COMMANDS],
            activities=[
                Properties(store).save_property,
                Users(store, self._keyring.new_wrapped_key).save_user,
                Observations(self._tenants).save_observations,
                self._publishing.publish,
                self._publishing.publish_observations,
            ],
            workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, initial=4, maximum=20),
            max_cached_workflows=2000,  # a command waits for a broker that is away; so many may wait at once
            no_remote_activities=True,
            graceful_shutdown_timeout=DRAIN,
        )

    def _notifications(self) -> Worker:
        notifications = Notifications(self._tenants, self._mailer)
        return Worker(
            self._client,
            task_queue=options.NOTIFICATIONS,
            workflows=WORKFLOWS[options.NOTIFICATIONS],
            activities=[notifications.send_deliveries],
            max_concurrent_workflow_task_polls=2,  # two tasks for up to fifty mails
            activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, initial=2, maximum=10),
            max_concurrent_activities=2,  # of ten mails at a time: as many connections as servers allow one client
            graceful_shutdown_timeout=DRAIN,
        )

    def _maintenance(self) -> Worker:
        after = self._settings.reconcile_after_seconds
        reconciliation = Reconciliation(self._all_tenants, self._publisher, after)
        deliveries = OverdueDeliveries(self._all_tenants, self._relay, after)
        return Worker(
            self._client,
            task_queue=options.MAINTENANCE,
            workflows=WORKFLOWS[options.MAINTENANCE],
            activities=[reconciliation.publish_overdue, reconciliation.republish_unprojected, deliveries.start_overdue],
            max_concurrent_workflow_task_polls=2,  # one workflow a minute
            max_concurrent_activity_task_polls=1,
            graceful_shutdown_timeout=DRAIN,
        )

    async def close(self) -> None:
        await asyncio.gather(self._relay.close(), self._publishing.close())
        self._mailer.close()
        await asyncio.gather(self._publisher.close(), self._tenants.close(), self._all_tenants.close())


async def ensure_schedule(client: Client, settings: Settings) -> None:
    """Have Temporal start `reconcile` again and again; a schedule that exists takes the settings of this process."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow("reconcile", id="reconcile", task_queue=options.MAINTENANCE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=settings.reconcile_every_seconds))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=1)),
    )
    try:
        await client.create_schedule("reconcile", schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle("reconcile").update(
            lambda found: _with_schedule(found.description.schedule, schedule)
        )


def _with_schedule(found: Schedule, wanted: Schedule) -> ScheduleUpdate:
    return ScheduleUpdate(dataclasses.replace(found, spec=wanted.spec, action=wanted.action, policy=wanted.policy))


async def run(settings: Settings, queues: list[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    missing = ["Temporal"]
    ops = ops_server(settings, lambda: missing)
    serving = asyncio.create_task(ops.serve()) if settings.ops_port else None
    connecting = asyncio.create_task(temporal.connect_when_up(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if connecting.done():
        await _work(settings, connecting.result(), queues, missing, stopping)
    connecting.cancel()
    if serving:
        ops.should_exit = True
        await serving


async def _work(
    settings: Settings, client: Client, queues: list[str], missing: list[str], stopping: "asyncio.Task[object]"
) -> None:
    pools = Pools(settings, client)
    workers = [pools.worker(queue) for queue in queues]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    if options.MAINTENANCE in queues:
        await ensure_schedule(client, settings)
    missing.clear()
    log.info("working on %s for Temporal at %s", ", ".join(queues), settings.temporal_address)
    await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    log.info("draining")
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    await asyncio.gather(*running)
    await pools.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="worker.py", description=__doc__)
    parser.add_argument(
        "queues", nargs="*", metavar="QUEUE", help=f"task queues to work on: {', '.join(options.QUEUES)}"
    )
    queues: list[str] = parser.parse_args().queues or list(options.QUEUES)
    unknown = [queue for queue in queues if queue not in options.QUEUES]
    if unknown:
        parser.error(f"unknown queue {', '.join(unknown)}; there are {', '.join(options.QUEUES)}")
    settings = load_settings()
    set_up_logging(settings)
    uvloop.run(run(settings, list(dict.fromkeys(queues))))


if __name__ == "__main__":
    main()
