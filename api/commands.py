"""Running a command: one call to Temporal starts its workflow and waits for the saved answer."""

import asyncio
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import orjson
from pydantic import SecretStr
from sqlalchemy import select
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from adapters import event_store, outbox, temporal
from adapters.event_store import RecordedCommand
from adapters.postgres import Database, DatabaseUnavailable
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import person_keys
from adapters.telemetry import COMMAND_SECONDS, COMMANDS
from api.errors import KINDS, ApiError, FieldError, unavailable
from api.opaque import Signer
from domain import ids
from domain.command import Command, Saved
from domain.model import Model
from workflows import options, registry

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
"""To tell 202 from 503 after the wait: a server that answers at all answers by then."""
_SUMMARY_LENGTH = 200
"""Characters of a command's one-line summary in the Temporal UI."""


@dataclass(frozen=True)
class Done:
    """The command is saved; `repeated` when it had been before."""

    saved: Saved
    resource: dict[str, Any] | None
    """The state after the command as the API answers it, in the clear; None when the aggregate is gone."""
    repeated: bool = False


@dataclass(frozen=True)
class Accepted:
    """The command is durable in Temporal and will be done; its answer took longer than the API waits."""

    command_id: UUID


@dataclass(frozen=True)
class Ticket:
    """What a request gives its command: an id, a time, and under an `Idempotency-Key` the hash of its body."""

    command_id: UUID
    issued_at: datetime
    fingerprint: str | None


@dataclass(frozen=True)
class _State:
    """The answer about a command, and whose command it is."""

    tenant_id: str
    user_id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class _Described:
    """The workflow of a command, by the command's type."""

    type: str
    described: WorkflowExecutionDescription


class Commands:
    """Starts command workflows and finds what became of them."""

    def __init__(
        self, client: Client, database: Database, keyring: Keyring, signer: Signer, settings: Settings
    ) -> None:
        self._client = client
        self._database = database
        self._keyring = keyring
        self._signer = signer
        self._settings = settings

    def ticket(self, tenant_id: str, caller: str, route: str, key: str | None, body: Model) -> Ticket:
        """The id and time of a command, and under an `Idempotency-Key` the fingerprint of its body."""
        if key is None:
            return Ticket(new_id(), datetime.now(UTC), None)
        command_id = ids.keyed_command_id(tenant_id, caller, route, key)
        return Ticket(command_id, datetime.now(UTC), self._signer.fingerprint(route, canonical(body)))

    async def run(self, command: Command, summary: str) -> Done | Accepted:
        """Carry out a command. Raises ApiError: refused, key used otherwise, still running, Temporal unavailable."""
        began = time.monotonic()
        outcome = "failed"
        try:
            result = await self._run(command, summary)
            outcome = "saved" if isinstance(result, Done) else "accepted"
            return result
        except ApiError as error:
            outcome = error.kind
            raise
        finally:
            COMMANDS.labels(command.type, outcome).inc()
            COMMAND_SECONDS.labels(command.type).observe(time.monotonic() - began)

    async def _run(self, command: Command, summary: str) -> Done | Accepted:
        keyed = command.fingerprint is not None
        if keyed:
            # Without Postgres the workflow's id still guards.
            with suppress(DatabaseUnavailable):
                if known := await self._known(command):
                    return known
        definition: Any = registry.COMMANDS[command.type]
        workflow_id = registry.workflow_id(command.type, command.command_id)
        start = WithStartWorkflowOperation(
            definition.run,
            self._keyring.seal_in_transit(command, command.command_id),
            id=workflow_id,
            task_queue=options.COMMANDS,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=_search_attributes(command),
            memo={"fingerprint": command.fingerprint} if keyed else None,
            static_summary=summary[:_SUMMARY_LENGTH],
        )
        try:
            async with asyncio.timeout(self._settings.command_wait_seconds):
                saved: Saved = await self._client.execute_update_with_start_workflow(
                    definition.saved,
                    start_workflow_operation=start,
                    # Under a key each request has an update of its own: the server lets one that repeats another's
                    # update id join it, and would not say that the command is running already.
                    id=str(uuid4()) if keyed else "saved",
                    result_type=Saved,
                )
            return Done(saved, self._keyring.unseal_in_transit(saved.resource, command.command_id))
        except WorkflowUpdateFailedError as error:
            raise _refusal(error) from error
        except WorkflowAlreadyStartedError as error:
            return await self._started_before(command, error)
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            return await self._accepted(command)
        except RPCError as error:
            log.warning("Temporal did not take %s: %s", workflow_id, error)
            if error.status in {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
                return await self._accepted(command)
            raise unavailable("The command service") from error
        except RuntimeError as error:
            # The SDK's lazy connection reports a server that is unavailable so.
            raise unavailable("The command service") from error
        finally:
            # The SDK keeps the same error for `workflow_handle()`, which nobody awaits: asyncio would log it as lost.
            if start._workflow_handle.done():
                start._workflow_handle.exception()

    async def _accepted(self, command: Command) -> Accepted:
        """202 when Temporal has the command, 503 when it has not: the client must know which."""
        workflow_id = registry.workflow_id(command.type, command.command_id)
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._client.get_workflow_handle(workflow_id).describe()
        except (TimeoutError, RPCError, RuntimeError) as error:
            raise unavailable("The command service") from error
        return Accepted(command.command_id)

    async def _known(self, command: Command) -> Done | None:
        """The answer that was given under the same key. Raises DatabaseUnavailable."""
        async with self._database.statements(command.tenant_id) as connection:
            recorded = await event_store.recorded_command(connection, command.command_id)
            if recorded is None:
                return None
            query = select(person_keys.c.wrapped_key).where(person_keys.c.user_id == recorded.person_id)
            key = (await connection.execute(query)).scalar_one_or_none()
        if recorded.fingerprint != command.fingerprint:
            raise ApiError("idempotency-key-reused")
        if recorded.problem:
            raise refusal(recorded.problem["code"], recorded.problem["detail"], recorded.problem["field"])
        saved = Saved.model_validate(recorded.answer)
        return Done(saved, self._keyring.unseal(saved.resource, key, command.command_id), repeated=True)

    async def _started_before(self, command: Command, error: Exception) -> Done | Accepted:
        described = await self._described(command.type, command.command_id)
        if described is None:
            # It ended and was deleted between the two questions.
            raise unavailable("The command service") from error
        if await described.memo_value("fingerprint", None) != command.fingerprint:
            raise ApiError("idempotency-key-reused") from error
        if known := await self._known(command):
            return known
        location = {"Location": f"/api/commands/{command.command_id}", "Retry-After": "1"}
        if described.status is WorkflowExecutionStatus.RUNNING:
            raise ApiError("command-running", headers=location) from error
        if described.status is WorkflowExecutionStatus.COMPLETED:
            raise unavailable("The database") from error
        raise ApiError("command-failed", headers=location) from error

    async def find(self, tenant_id: str, user_id: UUID, command_id: UUID) -> dict[str, Any] | None:
        """What became of a user's command; None when there is none or it is somebody else's."""
        state = await self._recorded_state(tenant_id, command_id)
        if state is None:
            found = await self._described_by_any(command_id)
            if found is None or found.described.status is not WorkflowExecutionStatus.RUNNING:
                # It may have been saved, and its workflow closed, since the record was looked for.
                state = await self._recorded_state(tenant_id, command_id)
            if state is None and found is not None:
                state = self._unrecorded_state(command_id, found)
        if state is None or (state.tenant_id, state.user_id) != (tenant_id, str(user_id)):
            return None
        return state.body

    async def _recorded_state(self, tenant_id: str, command_id: UUID) -> _State | None:
        async with self._database.statements(tenant_id) as connection:
            recorded = await event_store.recorded_command(connection, command_id)
            if recorded is None:
                return None
            events = await event_store.of_command(connection, command_id)
            deliveries = await outbox.outcome_of(connection, command_id)
        return _State(tenant_id, str(recorded.user_id), self._recorded(recorded, events, deliveries))

    def _recorded(self, recorded: RecordedCommand, events: list[Any], deliveries: outbox.Outcome) -> dict[str, Any]:
        refused = recorded.problem is not None
        result = {"aggregateId": str(recorded.aggregate_id), "eventIds": [str(event.event_id) for event in events]}
        stages = []
        if not refused:
            published = [event.published_at for event in events]
            stages.append(_stage("saved", recorded.finished_at))
            if events:
                stages.append(_stage("published", max(published) if all(published) else None))
            if deliveries.count:
                stages.append(_stage("notified", deliveries.sent_at, failed=deliveries.given_up))
        return {
            **self._of(recorded.type, recorded.command_id, recorded.status, recorded.started_at),
            "result": None if refused else result,
            "problem": _problem(**recorded.problem) if recorded.problem else None,
            "stages": stages,
        }

    def _unrecorded_state(self, command_id: UUID, found: _Described) -> _State:
        attributes = found.described.typed_search_attributes
        running = found.described.status is WorkflowExecutionStatus.RUNNING
        body = {
            **self._of(found.type, command_id, "RUNNING" if running else "FAILED", found.described.start_time),
            "result": None,
            "problem": None if running else _problem("command-failed", None, None),
            "stages": [_stage("saved", None)],
        }
        return _State(attributes.get(temporal.TENANT_ID) or "", attributes.get(temporal.USER_ID) or "", body)

    async def _described_by_any(self, command_id: UUID) -> _Described | None:
        """The workflow of a command whose type is not known; None where there is none."""
        described = await asyncio.gather(*(self._described(type, command_id) for type in registry.COMMANDS))
        pairs = zip(registry.COMMANDS, described, strict=True)
        return next((_Described(type, found) for type, found in pairs if found), None)

    async def _described(self, type: str, command_id: UUID) -> WorkflowExecutionDescription | None:
        try:
            return await self._client.get_workflow_handle(registry.workflow_id(type, command_id)).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise unavailable("The command service") from error
        except RuntimeError as error:
            raise unavailable("The command service") from error

    def _of(self, type: str, command_id: UUID, status: str, started_at: datetime) -> dict[str, Any]:
        return {
            "commandId": str(command_id),
            "type": type,
            "status": status,
            "startedAt": started_at,
            "traceUrl": trace_url(self._settings, type, command_id),
        }


def canonical(body: Model) -> bytes:
    """What a client sent, in one order of its names: two bodies are the same when these bytes are.

    Fields that were not sent are left out, so that a field which a later release adds changes nothing. A password is
    left out too: a stored hash of it that is fast to compute would undo argon2.
    """
    sent = body.model_dump(mode="python", by_alias=True, exclude_unset=True)
    return orjson.dumps(_without_secrets(sent), default=str, option=orjson.OPT_SORT_KEYS)


def _without_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_secrets(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if not isinstance(value, SecretStr)
    }


def trace_url(settings: Settings, type: str, command_id: UUID) -> str:
    """Where the Temporal web UI shows the workflow of a command."""
    workflow_id = quote(registry.workflow_id(type, command_id), safe="")
    path = f"/namespaces/{settings.temporal_namespace}/workflows/{workflow_id}"
    return settings.temporal_ui_url.rstrip("/") + path


def new_id() -> UUID:
    """A UUIDv7 of this moment."""
    return ids.uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def refusal(code: str, detail: str, field: str | None) -> ApiError:
    """A domain's refusal as its row of the table."""
    return ApiError(code, detail, errors=[FieldError(field=field, reason=detail)] if field else [])


def _refusal(error: WorkflowUpdateFailedError) -> ApiError:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type in KINDS:
        return refusal(cause.type, cause.message, cause.details[0] if cause.details else None)
    log.error("a command failed for a reason that the table does not have: %r", cause)
    return ApiError("command-failed")


def _problem(code: str, detail: str | None, field: str | None) -> dict[str, Any]:
    kind = KINDS[code]
    errors = [{"field": field, "reason": detail}] if field else []
    return {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail or kind.advice,
        "errors": errors,
    }


def _stage(name: str, at: datetime | None, *, failed: bool = False) -> dict[str, Any]:
    return {"name": name, "status": "DONE" if at else "FAILED" if failed else "PENDING", "at": at}


def _search_attributes(command: Command) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(temporal.COMMAND_ID, str(command.command_id)),
            SearchAttributePair(temporal.AGGREGATE_ID, str(command.aggregate_id)),
            SearchAttributePair(temporal.USER_ID, str(command.user_id)),
            SearchAttributePair(temporal.TENANT_ID, command.tenant_id),
        ]
    )
