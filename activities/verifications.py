"""The steps that follow a registration until its e-mail address is verified, and the workflows that are lost."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import and_, case, literal_column, select
from temporalio import activity
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.users import Users
from adapters import temporal
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import users
from domain.command import Command, Saved
from domain.model import Fact
from domain.user import UserStatus
from domain.user_commands import VERIFICATION_STEPS, ExpireVerification, RequestVerification

STEPS = (timedelta(days=1), timedelta(days=3), timedelta(days=7))
"""After the registration: the reminders, then the expiry."""
_LOST_AFTER = timedelta(hours=1)
"""Longer than a step takes while nothing is unavailable for long."""
_LIMIT = 500
"""Workflows of one run: reconcile runs again after a minute."""

# Literals: the generic plan of a prepared statement cannot use the partial index for a parameter.
_UNVERIFIED = and_(
    users.c.status == literal_column(f"'{UserStatus.PENDING_VERIFICATION.value}'"),
    users.c.verification_step < literal_column(str(VERIFICATION_STEPS)),
)


class Unverified(Fact):
    """The input of an `email-verification` workflow: an account whose e-mail address is not verified."""

    tenant_id: str
    user_id: UUID
    registered_at: datetime

    @property
    def workflow_id(self) -> str:
        return workflow_id(self.tenant_id, self.user_id)


class VerificationStep(Fact):
    """One step of an account: the number of a reminder, or `VERIFICATION_STEPS` for the expiry."""

    tenant_id: str
    user_id: UUID
    step: int
    at: datetime


class Verifications:
    """Saves the steps of `email-verification` workflows."""

    def __init__(self, users: Users, keyring: Keyring) -> None:
        self._users = users
        self._keyring = keyring

    @activity.defn
    async def save_verification_step(self, step: VerificationStep) -> Saved:
        """Request a reminder, or expire the verification, once; without events when the address is verified.

        Raises the refusal not-found as ApplicationError when the account is erased.
        """
        fields = {
            "command_id": uuid5(step.user_id, f"verification-step-{step.step}"),
            "tenant_id": step.tenant_id,
            "user_id": step.user_id,
            "issued_at": step.at,
        }
        command: Command
        if step.step < VERIFICATION_STEPS:
            command = RequestVerification(**fields, reminder=step.step)
        else:
            command = ExpireVerification(**fields)
        return await self._users.save_user(self._keyring.seal_in_transit(command, command.command_id))


class OverdueVerifications:
    """Finds accounts whose workflow is lost, because Temporal was wiped."""

    def __init__(self, database: Database, client: Client, queue: str) -> None:
        self._database = database
        self._client = client
        self._queue = queue

    @activity.defn
    async def start_overdue_verifications(self) -> int:
        """Start the workflows of accounts with an overdue step; returns how many."""
        started = 0
        for account in await self._overdue(datetime.now(UTC)):
            try:
                await self._client.start_workflow(
                    "email-verification",
                    account,
                    id=account.workflow_id,
                    task_queue=self._queue,
                    search_attributes=search_attributes(account),
                )
            except WorkflowAlreadyStartedError:
                continue  # it is waiting for the database
            started += 1
            activity.heartbeat(started)
        return started

    async def _overdue(self, now: datetime) -> list[Unverified]:
        due = case(dict(enumerate(STEPS)), value=users.c.verification_step)
        query = (
            select(users.c.tenant_id, users.c.user_id, users.c.created_at)
            .where(
                _UNVERIFIED,
                users.c.created_at < now - STEPS[0] - _LOST_AFTER,
                users.c.created_at + due < now - _LOST_AFTER,
            )
            .order_by(users.c.created_at)
            .limit(_LIMIT)
        )
        async with self._database.statements() as connection:
            rows = await connection.execute(query)
        return [Unverified(tenant_id=row[0], user_id=row[1], registered_at=row[2]) for row in rows]


def workflow_id(tenant_id: str, user_id: UUID) -> str:
    return f"email-verification/{tenant_id}/{user_id}"


def search_attributes(account: Unverified) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(temporal.TENANT_ID, account.tenant_id),
            SearchAttributePair(temporal.USER_ID, str(account.user_id)),
        ]
    )
