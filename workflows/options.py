"""Every queue, timeout and retry of every workflow, each with its reason."""

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType, ActivityConfig, LocalActivityConfig

COMMANDS = "commands"
"""Command workflows and their short database and Kafka writes."""
NOTIFICATIONS = "notifications"
"""The workflows of notices, and their database reads and writes."""
EMAIL, SMS, PUSH = "email", "sms", "push"
"""Deliveries, one queue for each channel: providers limit their rates, are slow, and fail each for itself."""
CHANNELS = (EMAIL, SMS, PUSH)
MAINTENANCE = "maintenance"
"""The workflows `reconcile` and `rebuild-projection`, and the steps of erasures and exports, which take longer than a
local activity may.
"""
MEDIA = "media"
"""Pictures and documents that users send: seconds of a core for each."""
IMPORTS = "imports"
"""Spreadsheets that become listings: minutes of reading and saving for each."""
QUEUES = (COMMANDS, NOTIFICATIONS, *CHANNELS, MEDIA, IMPORTS, MAINTENANCE)

SAVE = LocalActivityConfig(
    # A save takes milliseconds. A worker that shuts down waits for the running attempt, so no more than DRAIN.
    start_to_close_timeout=timedelta(seconds=10),
    # An accepted command is saved once Postgres is available again, so there is no limit of attempts. Each attempt adds
    # six events to a history, which may have 51,200: enough for a day and a half.
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=15)),
    # Every pause is a timer of the workflow: a local activity that pauses would keep its worker from shutting down.
    local_retry_threshold=timedelta(milliseconds=100),
)
PUBLISH = LocalActivityConfig(
    # The publisher times out after one second; the database statements take milliseconds.
    start_to_close_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
    # A longer pause is a timer of the workflow, which ends the workflow task: the update is answered before the pause.
    local_retry_threshold=timedelta(milliseconds=500),
)
SEND_BATCH = 10
"""Deliveries of one activity, sent at the same time. The cap of a queue counts activities, so it is a tenth of the
cap of messages.
"""
EXPAND = ActivityConfig(
    task_queue=NOTIFICATIONS,
    # Some ten statements. Without limit of attempts: without its deliveries a notice is lost.
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
_RETRY_SENDING = RetryPolicy(initial_interval=timedelta(seconds=5), maximum_interval=timedelta(minutes=30))
SEND = ActivityConfig(
    # Ten messages at once, each within 20 s.
    start_to_close_timeout=timedelta(minutes=1),
    # RFC 5321, section 4.5.4.1, asks to retry for four to five days.
    schedule_to_close_timeout=timedelta(days=4),
    retry_policy=_RETRY_SENDING,
)
SEND_TO_FAVORITES = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=1),
    # A page whose channel fails takes some ten seconds, and its deliveries are left to reconcile: otherwise one mailbox
    # that defers, or one provider that is unavailable, would hold up the other favourites and channels.
    schedule_to_close_timeout=timedelta(minutes=3),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=5), maximum_attempts=2),
)
FIND_MATCHES = ActivityConfig(
    task_queue=NOTIFICATIONS,
    # Some five statements for a page of 100 changed listings, mostly of milliseconds: seconds after a large import.
    start_to_close_timeout=timedelta(minutes=10),
    # No statement takes longer than 10 s.
    heartbeat_timeout=timedelta(minutes=1),
    # Without limit of attempts: the rounds go on once the search engine is available again.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=5), maximum_interval=timedelta(minutes=5)),
)
PUBLISH_IN_APP = LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=10),
    # Reconcile publishes what these attempts do not, and a workflow that waits for the broker would send no mails.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
    local_retry_threshold=timedelta(milliseconds=500),
)
NOTIFY = ActivityConfig(
    # Only for workflows that a release without channels has started.
    task_queue=NOTIFICATIONS,
    # Fifty mails, ten at a time, each within 20 s; a heartbeat after each ten.
    start_to_close_timeout=timedelta(minutes=5),
    heartbeat_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=timedelta(days=4),
    retry_policy=_RETRY_SENDING,
)
MAKE_PICTURE = ActivityConfig(
    task_queue=MEDIA,
    # A picture takes some seconds of a core, and waits for those that came before it on the same worker.
    start_to_close_timeout=timedelta(minutes=10),
    # The worker sends one every few seconds while it reads, makes or writes files. Another takes over for a lost one.
    heartbeat_timeout=timedelta(seconds=20),
    # Without limit of attempts: the object storage may be unavailable for long, and what is wrong with a file is no
    # failure.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
CHECK_DOCUMENT = MAKE_PICTURE
"""A document of 20 MB is read, checked and written in a second or two, by the workers that make pictures."""
RECONCILE = ActivityConfig(
    # Time to publish a large backlog. A batch takes a second or two and ends with a heartbeat.
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=15),
    # The schedule starts the next run after a minute.
    retry_policy=RetryPolicy(maximum_attempts=3),
)
ERASE = ActivityConfig(
    task_queue=MAINTENANCE,
    # Thousands of listings, each a command of some 20 ms; a heartbeat after each. No statement takes longer than 10 s.
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=20),
    # What was saved is done once everything is available again, so there is no limit of attempts.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
EXPORT = ActivityConfig(
    task_queue=MAINTENANCE,
    # A million entries take some two minutes, and as long again to a slow object storage; a heartbeat every 500 lines,
    # and every five seconds while the file is sent.
    start_to_close_timeout=timedelta(hours=1),
    heartbeat_timeout=timedelta(seconds=20),
    # What was requested is written once everything is available again, so there is no limit of attempts.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
IMPORT = ActivityConfig(
    task_queue=IMPORTS,
    # Half a minute of rows, before which a file of 200 MB may have to be hashed once.
    start_to_close_timeout=timedelta(minutes=5),
    # A heartbeat every three seconds; a worker that was killed is missed after so many.
    heartbeat_timeout=timedelta(seconds=15),
    # What was accepted is imported once everything is available again, so there is no limit of attempts. How far it has
    # come is in the database: an attempt goes on where the last one was stopped.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)
LAST_MAIL = ActivityConfig(
    task_queue=MAINTENANCE,
    # One query; it fails until the mail is sent.
    start_to_close_timeout=timedelta(seconds=10),
    # Longer than the pauses of a mail server that defers unknown senders. The person has asked to be forgotten, and
    # their address is kept for this mail only.
    schedule_to_close_timeout=timedelta(hours=1),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)),
)

REBUILD = ActivityConfig(
    task_queue=MAINTENANCE,
    # A step replays for some seconds, but deletes old rows, and before a switch catches up, for as long as it takes.
    start_to_close_timeout=timedelta(hours=6),
    # A step sends heartbeats beside its calls, of which one to OpenSearch may take 30 s. After this time another worker
    # goes on for one that is lost. The SDK sends one each four fifths of it, and with its answer learns of a
    # cancellation.
    heartbeat_timeout=timedelta(seconds=15),
    # What aborts or goes on waits for the lock that a step holds until it has stopped.
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    # What was done is recorded, and each step can be repeated, so there is no limit of attempts.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)
RECORD_REBUILD = ActivityConfig(
    task_queue=MAINTENANCE,
    # One statement; without limit of attempts, like the steps.
    start_to_close_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)


def on_channel(config: ActivityConfig, channel: str, summary: str) -> ActivityConfig:
    """`config` for the queue of a channel, with a summary for the web UI."""
    return {**config, "task_queue": channel, "summary": summary}


def named(config: ActivityConfig, summary: str) -> ActivityConfig:
    """`config` with a summary for the web UI."""
    return {**config, "summary": summary}


def file_size(size: int) -> str:
    """A size in bytes as summaries have it."""
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size / 1_000:.1f} kB"
