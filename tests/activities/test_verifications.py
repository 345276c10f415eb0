"""The steps of a verification of an e-mail address, and the workflows that are started again."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities.saving import CommandStore
from activities.users import Users
from activities.verifications import (
    STEPS,
    OverdueVerifications,
    Verifications,
    VerificationStep,
    workflow_id,
)
from adapters.postgres import Database
from adapters.sealing import Keyring
from domain.command import Saved
from tests.activities.accounts import Saving
from tests.samples import new_id

QUEUE = f"no-worker-{uuid4().hex[:8]}"


@pytest.fixture
def verifications(store: CommandStore, keyring: Keyring) -> Verifications:
    return Verifications(Users(store, keyring), keyring)


async def take(verifications: Verifications, tenant: str, user_id: UUID, step: int) -> Saved:
    taken = VerificationStep(tenant_id=tenant, user_id=user_id, step=step, at=datetime.now(UTC))
    return await verifications.save_verification_step(taken)


def events(saved: Saved) -> list[str]:
    return [event.event_type for event in saved.events]


async def test_each_step_is_taken_once(verifications: Verifications, saving: Saving, tenant: str) -> None:
    user_id = await saving.registered(tenant)

    for step, event_type in ((1, "USER_VERIFICATION_REQUESTED"), (3, "USER_VERIFICATION_EXPIRED")):
        first, again = [await take(verifications, tenant, user_id, step) for _ in range(2)]
        assert events(first) == [event_type]
        assert saving.answer(again) == saving.answer(first)
    assert events(await take(verifications, tenant, user_id, 2)) == []


async def test_step_of_a_verified_account_changes_nothing(
    verifications: Verifications, saving: Saving, database: Database, tenant: str
) -> None:
    user_id = await saving.registered(tenant)
    await change(database, tenant, user_id, "email_verified = true, status = 'ACTIVE'")

    assert events(await take(verifications, tenant, user_id, 1)) == []
    assert events(await take(verifications, tenant, user_id, 3)) == []


async def test_step_of_an_erased_account_is_refused(verifications: Verifications, tenant: str) -> None:
    with pytest.raises(ApplicationError) as refused:
        await take(verifications, tenant, new_id(), 1)

    assert refused.value.type == "not-found"


async def change(database: Database, tenant: str, user_id: UUID, what: str) -> None:
    async with database.statements(tenant) as connection:
        await connection.execute(
            text(f"UPDATE user_management.users SET {what} WHERE user_id = :user"), {"user": user_id}
        )


async def run_of(client: Client, tenant: str, user_id: UUID) -> str | None:
    """The run of the account's workflow, whoever has started it."""
    try:
        return (await client.get_workflow_handle(workflow_id(tenant, user_id)).describe()).run_id
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None


async def test_lost_workflow_is_started_again_once_an_hour_after_its_step_was_due(
    all_tenants: Database, database: Database, saving: Saving, temporal_client: Client, tenant: str
) -> None:
    overdue, waiting, verified, reminded = [await saving.registered(tenant) for _ in range(4)]
    late = datetime.now(UTC) - STEPS[0] - timedelta(minutes=61)
    early = late + timedelta(minutes=2)
    for user_id, registered_at, more in (
        (overdue, late, ""),
        (waiting, early, ""),
        (verified, late, ", status = 'ACTIVE'"),
        (reminded, late, ", verification_step = 1"),
    ):
        await change(database, tenant, user_id, f"created_at = '{registered_at.isoformat()}'{more}")
    finder = OverdueVerifications(all_tenants, temporal_client, QUEUE)

    runs = []
    for _ in range(2):
        await ActivityEnvironment().run(finder.start_overdue_verifications)
        runs.append(
            [await run_of(temporal_client, tenant, user_id) for user_id in (overdue, waiting, verified, reminded)]
        )

    assert runs[0] == runs[1]
    assert runs[0][0] is not None
    assert runs[0][1:] == [None, None, None]
