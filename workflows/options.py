"""Every queue, timeout and retry of every workflow, each with its reason."""

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityConfig, LocalActivityConfig

COMMANDS = "commands"
"""Command workflows and their short database and Kafka writes."""
NOTIFICATIONS = "notifications"
"""Telling people. Mail servers are slow and fail for hours; their workers are not to keep commands waiting."""
MAINTENANCE = "maintenance"
"""What the platform does for itself."""
QUEUES = (COMMANDS, NOTIFICATIONS, MAINTENANCE)

SAVE = LocalActivityConfig(
    # A transaction of five statements takes milliseconds. A worker that stops waits for the attempt that is running.
    start_to_close_timeout=timedelta(seconds=10),
    # A command that was accepted is done whenever Postgres comes back, so there is no last attempt. Each attempt adds
    # six events to a history, which may have 51,200: enough for a day and a half.
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=15)),
    # Every pause is a timer of the workflow: a pause of the local activity would keep a worker from stopping.
    local_retry_threshold=timedelta(milliseconds=100),
)
PUBLISH = LocalActivityConfig(
    # The publisher gives up on a silent broker after one second; the database parts take milliseconds.
    start_to_close_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
    # A pause longer than this is a timer of the workflow: the saved answer goes out before it, not after.
    local_retry_threshold=timedelta(milliseconds=500),
)
NOTIFY = ActivityConfig(
    task_queue=NOTIFICATIONS,
    # Fifty mails, ten at a time, each within 20 s; the heartbeat comes after each ten.
    start_to_close_timeout=timedelta(minutes=5),
    heartbeat_timeout=timedelta(seconds=30),
    # Mail servers come back within days (RFC 5321, 4.5.4.1 asks for four to five); later nobody wants the mail.
    schedule_to_close_timeout=timedelta(days=4),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=5), maximum_interval=timedelta(minutes=30)),
)
RECONCILE = ActivityConfig(
    # A full walk of a large store. Each batch of it, which takes a second or two, ends with a heartbeat: a worker that
    # died is not waited for, because what it had gathered to be mailed is found by the next run.
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=15),
    # The schedule comes again every minute.
    retry_policy=RetryPolicy(maximum_attempts=3),
)
