"""The workers: `python worker.py commands media`; without arguments, every queue.

Each task queue has its own Temporal worker, so that queues scale separately.
"""

import argparse
import asyncio
import logging
import signal
from datetime import timedelta
from functools import cached_property

import uvloop
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from activities.batch_saving import BatchStore
from activities.channels import ByEmail, ByPush, BySms, ChannelSender
from activities.deliveries import Deliveries
from activities.documents import DocumentFiles, Documents
from activities.erasing import Erasures, OverdueErasures
from activities.exports import Exports, OverdueExports
from activities.favorites import Favorites
from activities.images import Images
from activities.import_commands import ImportCommands
from activities.import_rows import ImportRows
from activities.notices import Notices
from activities.observations import Observations
from activities.outbox_relay import OutboxRelay
from activities.overdue_deliveries import OverdueDeliveries
from activities.overdue_files import OverdueFiles
from activities.overdue_imports import OverdueImports
from activities.overdue_saved_searches import OverdueSavedSearches
from activities.placing import Placing
from activities.preferences import NotificationPreferences
from activities.progress import Progress
from activities.properties import Properties
from activities.publishing import Publishing, Reconciliation
from activities.saved_search_rounds import SavedSearchRounds
from activities.saved_searches import SavedSearches
from activities.saving import CommandStore
from activities.sweeping import Sweeping
from activities.texts import Texts
from activities.users import Users
from activities.verifications import OverdueVerifications, Verifications
from adapters import redis, temporal
from adapters.kafka import Publisher
from adapters.live import LiveStreams
from adapters.objects import Objects
from adapters.pictures import Pictures, cores
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.search.choice import index_of, search_engine
from adapters.senders import mail_sender, push_sender, sms_sender
from adapters.settings import Settings, load_settings
from adapters.telemetry import ops_server, set_up_logging
from adapters.temporal_monitor import CHECK_SECONDS, TemporalMonitor
from domain.preferences import Channel
from projections.rebuilding import Rebuilding
from projections.registry import PROJECTIONS, Clients
from workflows import options
from workflows.registry import WORKFLOWS

log = logging.getLogger("worker")

DRAIN = timedelta(seconds=10)
"""As long as a local activity may run, and longer than an activity usually takes. One that is cancelled is retried by
another worker.
"""


class Pools:
    """The workers of one process and the connections that they share."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._tenants = Database.for_tenants(settings)
        # Nobody waits for the searches of a worker: as long as a statement may take elsewhere.
        self._searching = Database.for_searching(settings, seconds=10)
        self._search = search_engine(settings, self._searching)
        self._all_tenants = Database.for_all_tenants(settings)
        self._publisher = Publisher(settings)
        self._relay = OutboxRelay(client, options.NOTIFICATIONS)
        self._redis = redis.connect(settings)
        self._index = index_of(settings)
        self._progress = Progress(LiveStreams(self._redis))
        self._publishing = Publishing(self._all_tenants, self._publisher)
        self._keyring = Keyring(settings.secret_bytes)
        self._texts = Texts(settings, self._keyring)
        self._objects = Objects(settings)
        self._senders = self._channel_senders()

    def worker(self, queue: str) -> Worker | None:
        """The worker of one task queue; None for that of a channel without a provider, which gets no tasks."""
        match queue:
            case options.COMMANDS:
                return self._commands()
            case options.NOTIFICATIONS:
                return self._notifications()
            case options.EMAIL:
                return self._channel(queue, self._settings.emails_per_second)
            case options.SMS:
                return self._channel(queue, self._settings.sms_per_second)
            case options.PUSH:
                return self._channel(queue, self._settings.pushes_per_second)
            case options.MEDIA:
                return self._media()
            case options.IMPORTS:
                return self._imports()
            case options.MAINTENANCE:
                return self._maintenance()
        raise ValueError(f"unknown queue {queue}")

    def _commands(self) -> Worker:
        store = CommandStore(self._tenants, self._keyring, self._relay.enqueued, self._progress)
        users = Users(store, self._keyring)
        return Worker(
            self._client,
            task_queue=options.COMMANDS,
            workflows=WORKFLOWS[options.COMMANDS],
            activities=[
                Properties(store, self._settings.verified_email_tenants).save_property,
                Favorites(store).save_favorite,
                NotificationPreferences(store).save_preferences,
                SavedSearches(store).save_saved_search,
                Documents(store).save_document,
                ImportCommands(store).save_import,
                users.save_user,
                Verifications(users, self._keyring).save_verification_step,
                Observations(self._tenants, self._relay.enqueued).save_observations,
                self._publishing.publish,
                self._publishing.publish_observations,
            ],
            workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, initial=4, maximum=20),
            max_cached_workflows=2000,  # while Kafka is unavailable, every command stays open until it is published
            no_remote_activities=True,
            graceful_shutdown_timeout=DRAIN,
        )

    def _notifications(self) -> Worker:
        notices = Notices(self._tenants, self._senders)
        store = CommandStore(self._tenants, self._keyring, self._relay.enqueued)
        rounds = SavedSearchRounds(self._tenants, self._search, store, self._keyring, self._relay.enqueued)
        return Worker(
            self._client,
            task_queue=options.NOTIFICATIONS,
            workflows=WORKFLOWS[options.NOTIFICATIONS],
            activities=[
                notices.expand_notices,
                notices.expand_favorites,
                notices.find_held,
                rounds.next_round,
                rounds.find_matches,
                rounds.pause_unread,
                self._publishing.publish,
                self._publishing.publish_observations,
                self._deliveries(self._senders[Channel.EMAIL]).send_deliveries,
            ],
            max_concurrent_workflow_task_polls=2,  # a workflow has a few workflow tasks for up to fifty events
            activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, initial=2, maximum=10),
            max_concurrent_activities=4,  # each has a connection of the pool
            graceful_shutdown_timeout=DRAIN,
        )

    def _channel(self, queue: str, per_second: float) -> Worker | None:
        sender = self._senders.get(Channel(queue))
        if sender is None:
            log.info("no provider is set for %s, so none is sent", queue)
            return None
        deliveries = self._deliveries(sender)
        return Worker(
            self._client,
            task_queue=queue,
            activities=[deliveries.send_batch, deliveries.send_digest],
            activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, initial=2, maximum=10),
            max_concurrent_activities=2,  # ten messages each: 20 connections, as mail servers allow one client
            max_task_queue_activities_per_second=per_second / options.SEND_BATCH,
            graceful_shutdown_timeout=DRAIN,
        )

    def _deliveries(self, sender: ChannelSender) -> Deliveries:
        return Deliveries(self._tenants, sender, self._texts, self._keyring)

    def _media(self) -> Worker:
        pictures = self._pictures
        images = Images(self._tenants, self._objects, pictures)
        store = CommandStore(self._tenants, self._keyring, self._relay.enqueued)
        documents = DocumentFiles(self._tenants, self._objects, store)
        return Worker(
            self._client,
            task_queue=options.MEDIA,
            activities=[images.make_picture, documents.check_document],
            activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, initial=2, maximum=10),
            # One more than there are processes reads its file, or writes what was made, meanwhile.
            max_concurrent_activities=self._media_processes + 1,
            # So that the state of a command shows what is being done; a picture takes a second or two.
            max_heartbeat_throttle_interval=timedelta(seconds=0.5),
            graceful_shutdown_timeout=DRAIN,
        )

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self._media_processes)

    @property
    def _media_processes(self) -> int:
        return self._settings.media_processes or cores()

    def _imports(self) -> Worker:
        rows = ImportRows(
            self._tenants,
            self._objects,
            BatchStore(self._keyring, self._settings.verified_email_tenants),
            self._publishing,
            self._relay.enqueued,
            self._settings.import_rows_per_second,
        )
        store = CommandStore(self._tenants, self._keyring, self._relay.enqueued)
        return Worker(
            self._client,
            task_queue=options.IMPORTS,
            workflows=WORKFLOWS[options.IMPORTS],
            activities=[rows.import_rows, ImportCommands(store).save_import, self._publishing.publish],
            max_concurrent_workflow_task_polls=2,  # a workflow has a workflow task every half a minute
            max_concurrent_activity_task_polls=1,
            # One import at a time, which its rate limits: others take turns every half a minute, and commands of people
            # who wait have the rest of the machine.
            max_concurrent_activities=1,
            graceful_shutdown_timeout=DRAIN,
        )

    def _maintenance(self) -> Worker:
        after = self._settings.reconcile_after_seconds
        reconciliation = Reconciliation(self._all_tenants, self._publisher, after)
        deliveries = OverdueDeliveries(self._all_tenants, self._relay, after)
        verifications = OverdueVerifications(self._all_tenants, self._client, options.COMMANDS)
        overdue = OverdueErasures(self._all_tenants, self._keyring, self._client, options.COMMANDS)
        searches = OverdueSavedSearches(self._all_tenants, self._client, options.NOTIFICATIONS)
        objects = Objects(self._settings, locks_rows=True)
        sweeping = Sweeping(self._all_tenants, objects, self._settings.files_grace_hours)
        files = OverdueFiles(self._all_tenants, self._keyring, self._client, options.COMMANDS)
        imports = OverdueImports(self._all_tenants, self._client, options.IMPORTS, after)
        placing = Placing(self._tenants, self._all_tenants)
        store = CommandStore(self._tenants, self._keyring, self._relay.enqueued)
        erasures = Erasures(
            self._tenants,
            self._all_tenants,
            self._keyring,
            store,
            self._publishing,
            self._redis,
            self._client,
            self._objects,
        )
        clients = Clients(self._redis, self._index)
        rebuilding = Rebuilding(self._all_tenants, {name: make(clients) for name, make in PROJECTIONS.items()})
        exports = Exports(self._tenants, self._keyring, self._objects, self._relay.enqueued)
        old_exports = OverdueExports(self._all_tenants, self._keyring, self._objects, self._client, options.COMMANDS)
        return Worker(
            self._client,
            task_queue=options.MAINTENANCE,
            workflows=WORKFLOWS[options.MAINTENANCE],
            activities=[
                reconciliation.publish_overdue,
                deliveries.start_overdue,
                verifications.start_overdue_verifications,
                overdue.start_overdue_erasures,
                searches.start_overdue_saved_searches,
                imports.start_overdue_imports,
                files.start_overdue_images,
                files.start_overdue_documents,
                sweeping.sweep_files,
                placing.fill_places,
                erasures.withdraw_listings,
                erasures.ensure_notified,
                erasures.delete_listings,
                erasures.delete_executions,
                erasures.delete_cached,
                erasures.delete_rows,
                erasures.destroy_key,
                erasures.delete_sessions,
                rebuilding.begin_rebuild,
                rebuilding.replay_events,
                rebuilding.switch_projection,
                rebuilding.delete_old_generation,
                rebuilding.abort_rebuild,
                rebuilding.record_rebuild_status,
                exports.write_export,
                old_exports.start_overdue_exports,
                old_exports.delete_expired_exports,
            ],
            max_concurrent_workflow_task_polls=2,  # one workflow a minute
            max_concurrent_activity_task_polls=1,
            graceful_shutdown_timeout=DRAIN,
        )

    def _channel_senders(self) -> dict[Channel, ChannelSender]:
        """The sender of each channel that has a provider."""
        mail, sms, push = mail_sender(self._settings), sms_sender(self._settings), push_sender(self._settings)
        senders: list[ChannelSender] = [ByEmail(mail, self._texts)]
        if sms:
            senders.append(BySms(sms, self._texts))
        if push:
            senders.append(ByPush(push, self._texts, self._tenants))
        return {sender.channel: sender for sender in senders}

    async def close(self) -> None:
        if "_pictures" in self.__dict__:
            await self._pictures.close()
        await asyncio.gather(self._relay.close(), self._publishing.close(), self._progress.close())
        await asyncio.gather(self._search.close(), Clients(self._redis, self._index).close())
        await asyncio.gather(*(sender.close() for sender in self._senders.values()))
        databases = self._tenants, self._searching, self._all_tenants
        await asyncio.gather(self._publisher.close(), *(database.close() for database in databases))


def _schedules(settings: Settings) -> dict[str, Schedule]:
    """The Temporal schedules, by id."""
    every = timedelta(seconds=settings.reconcile_every_seconds)
    reconcile = Schedule(
        action=ScheduleActionStartWorkflow("reconcile", id="reconcile", task_queue=options.MAINTENANCE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=1)),
    )
    return {"reconcile": reconcile}


async def run(settings: Settings, queues: list[str]) -> None:
    """Run the workers until SIGTERM. When Temporal refuses them, they are started again once it is ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    monitor = TemporalMonitor(_schedules(settings) if options.MAINTENANCE in queues else {})
    ops = ops_server(settings, lambda: monitor.missing)
    serving = asyncio.create_task(ops.serve()) if settings.ops_port else None
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        connecting = asyncio.create_task(_connected(settings, monitor))
        await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            await _work(settings, connecting.result(), queues, monitor, stopping)
        connecting.cancel()
    if serving:
        ops.should_exit = True
        await serving


async def _connected(settings: Settings, monitor: TemporalMonitor) -> Client:
    """Connect, and wait until the server has the namespace and search attributes that the workers need."""
    client = await temporal.connect_when_up(settings)
    await monitor.check(client)
    while monitor.missing:
        await asyncio.sleep(CHECK_SECONDS)
        await monitor.check(client)
    return client


async def _work(
    settings: Settings, client: Client, queues: list[str], monitor: TemporalMonitor, stopping: "asyncio.Task[object]"
) -> None:
    """Run the workers until `stopping` is done or a worker fails, as it does when the namespace is gone."""
    pools = Pools(settings, client)
    workers = [worker for queue in queues if (worker := pools.worker(queue))]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    checking = asyncio.create_task(monitor.run(client))
    log.info("working on %s for Temporal at %s", ", ".join(queues), settings.temporal_address)
    await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    log.info("shutting down: waiting for running activities")
    checking.cancel()
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    ended = await asyncio.gather(*running, return_exceptions=True)
    await pools.close()
    for error in ended:
        if isinstance(error, RuntimeError):
            log.error("a worker failed and is restarted: %s", error.__cause__ or error)
            monitor.missing = ["Temporal"]
        elif error:
            raise error
    if monitor.missing:
        await asyncio.wait({stopping}, timeout=CHECK_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="worker.py", description=__doc__)
    parser.add_argument(
        "queues", nargs="*", metavar="QUEUE", help=f"task queues to work on: {', '.join(options.QUEUES)}"
    )
    queues: list[str] = parser.parse_args().queues or list(options.QUEUES)
    unknown = [queue for queue in queues if queue not in options.QUEUES]
    if unknown:
        parser.error(f"unknown queue {', '.join(unknown)}; choose from {', '.join(options.QUEUES)}")
    settings = load_settings()
    set_up_logging(settings)
    uvloop.run(run(settings, list(dict.fromkeys(queues))))


if __name__ == "__main__":
    main()
