"""Running commands: one call to Temporal starts the workflow and waits for its update `saved` (update-with-start)."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from adapters import erasures, event_store, exports, outbox, temporal
from adapters.event_store import RecordedCommand
from adapters.postgres import Database, DatabaseUnavailable
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import person_keys
from adapters.telemetry import COMMAND_SECONDS, COMMANDS
from api.errors import KINDS, ApiError, FieldError, unavailable
from api.image_progress import ADD_IMAGES, images_of_command, with_steps
from api.opaque import Signer
from domain import ids
from domain.command import Command, Saved
from domain.model import Model
from domain.user_commands import EraseUser, ExportHistory
from workflows import options, registry

log = logging.getLogger(__name__)

_DESCRIBE_SECONDS = 2.0
"""For the call that finds out, after a timeout, whether Temporal has the command (202) or not (503)."""
_SUMMARY_LENGTH = 200
"""Characters of a command's one-line summary in the Temporal UI."""


@dataclass(frozen=True)
class Done:
    """The command is saved; `repeated` means by an earlier request."""

    saved: Saved
    resource: dict[str, Any] | None
    """The state after the command as the API returns it, decrypted; None when the aggregate is deleted."""
    repeated: bool = False


@dataclass(frozen=True)
class Accepted:
    """The command is durable in Temporal, and was not saved within the time that the API waits."""

    command_id: UUID


@dataclass(frozen=True)
class CommandMetadata:
    """The id and time of a command, and with an `Idempotency-Key` the fingerprint of its body and `If-Match`."""

    command_id: UUID
    issued_at: datetime
    fingerprint: str | None


@dataclass(frozen=True)
class _State:
    """The state of a command as the API returns it, and the user who sent it."""

    tenant_id: str
    user_id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class _Described:
    """The description of a command's workflow, with the command's type."""

    type: str
    described: WorkflowExecutionDescription


class Commands:
    """Starts command workflows and finds the state of commands."""

    def __init__(
        self, client: Client, database: Database, keyring: Keyring, signer: Signer, settings: Settings
    ) -> None:
        self._client = client
        self._database = database
        self._keyring = keyring
        self._signer = signer
        self._settings = settings

    def metadata(
        self,
        tenant_id: str,
        caller: str,
        route: str,
        key: str | None,
        body: Model,
        expected_versions: Sequence[int] | None = None,
    ) -> CommandMetadata:
        """The metadata of a new command. With a key, its id is a function of tenant, caller, route and key.

        The fingerprint covers `If-Match` too: a request repeated with another ETag is another request.
        """
        if key is None:
            return CommandMetadata(new_id(), datetime.now(UTC), None)
        command_id = ids.keyed_command_id(tenant_id, caller, route, key)
        request = canonical(body) + orjson.dumps(expected_versions)
        return CommandMetadata(command_id, datetime.now(UTC), self._signer.fingerprint(route, request))

    async def run(self, command: Command, summary: str) -> Done | Accepted:
        """Start the workflow of a command and wait until it is saved, at most `command_wait_seconds`.

        Raises ApiError: the refusal, idempotency-key-reused, command-running, command-failed or unavailable.
        """
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

    async def start(self, command: Command, summary: str) -> None:
        """Start the workflow of a command and wait for nothing more. Raises ApiError unavailable."""
        definition: Any = registry.COMMANDS[command.type]
        outcome = "failed"
        try:
            await self._client.start_workflow(
                definition.run,
                self._keyring.seal_in_transit(command, command.command_id),
                id=registry.workflow_id(command.type, command.command_id),
                task_queue=options.COMMANDS,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=temporal.search_attributes_of(command, self._keyring),
                static_summary=summary[:_SUMMARY_LENGTH],
                rpc_timeout=timedelta(seconds=self._settings.command_wait_seconds),
            )
            outcome = "accepted"
        except (RPCError, RuntimeError) as error:
            raise unavailable("The command service") from error
        finally:
            COMMANDS.labels(command.type, outcome).inc()

    async def _run(self, command: Command, summary: str) -> Done | Accepted:
        keyed = command.fingerprint is not None
        if keyed:
            # While Postgres is unavailable, the workflow id alone detects a repetition.
            with suppress(DatabaseUnavailable):
                if answer := await self.recorded_answer(command.tenant_id, command):
                    return answer
        definition: Any = registry.COMMANDS[command.type]
        workflow_id = registry.workflow_id(command.type, command.command_id)
        start = WithStartWorkflowOperation(
            definition.run,
            self._keyring.seal_in_transit(command, command.command_id),
            id=workflow_id,
            task_queue=options.COMMANDS,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=temporal.search_attributes_of(command, self._keyring),
            memo={"fingerprint": command.fingerprint} if keyed else None,
            static_summary=summary[:_SUMMARY_LENGTH],
        )
        try:
            async with asyncio.timeout(self._settings.command_wait_seconds):
                saved: Saved = await self._client.execute_update_with_start_workflow(
                    definition.saved,
                    start_workflow_operation=start,
                    # With a key each request has its own update id: a request with the id of another one would join its
                    # update, and the server would not report that the workflow is already started.
                    id=str(uuid4()) if keyed else "saved",
                    result_type=Saved,
                )
            return Done(saved, self._keyring.unseal_in_transit(saved.resource, command.command_id))
        except WorkflowUpdateFailedError as error:
            raise _refusal(error) from error
        except WorkflowAlreadyStartedError as error:
            return await self._already_started(command, error)
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            return await self._accepted(command)
        except RPCError as error:
            log.warning("Temporal refused %s: %s", workflow_id, error)
            if error.status in {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
                return await self._accepted(command)
            raise unavailable("The command service") from error
        except RuntimeError as error:
            # The SDK's lazy connection raises RuntimeError when the server is unavailable.
            raise unavailable("The command service") from error
        finally:
            # The SDK sets the error on `workflow_handle()` too; asyncio would log it as never retrieved.
            if start._workflow_handle.done():
                start._workflow_handle.exception()

    async def _accepted(self, command: Command) -> Accepted:
        """202 if Temporal has the command; otherwise 503."""
        workflow_id = registry.workflow_id(command.type, command.command_id)
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                await self._client.get_workflow_handle(workflow_id).describe()
        except (TimeoutError, RPCError, RuntimeError) as error:
            raise unavailable("The command service") from error
        return Accepted(command.command_id)

    async def recorded_answer(self, tenant_id: str, command: Command | CommandMetadata) -> Done | None:
        """The recorded answer of an earlier request with the same key.

        Raises DatabaseUnavailable, or ApiError: the refusal, or idempotency-key-reused.
        """
        async with self._database.statements(tenant_id) as connection:
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

    async def _already_started(self, command: Command, error: Exception) -> Done | Accepted:
        described = await self._described(command.type, command.command_id)
        if described is None:
            # The workflow was deleted between the two calls.
            raise unavailable("The command service") from error
        if await described.memo_value("fingerprint", None) != command.fingerprint:
            raise ApiError("idempotency-key-reused") from error
        if answer := await self.recorded_answer(command.tenant_id, command):
            return answer
        location = {"Location": f"/api/commands/{command.command_id}", "Retry-After": "1"}
        if described.status is WorkflowExecutionStatus.RUNNING:
            raise ApiError("command-running", headers=location) from error
        if described.status is WorkflowExecutionStatus.COMPLETED:
            raise unavailable("The database") from error
        raise ApiError("command-failed", headers=location) from error

    async def find(
        self,
        tenant_id: str,
        user_id: UUID,
        command_id: UUID,
        count_search: Callable[[], Awaitable[None]] | None = None,
    ) -> dict[str, Any] | None:
        """The state of a user's command; None when there is none or it is another user's.

        A command without a record is searched in Temporal by one call for each type of command. `count_search` runs
        before these calls; what it raises, `find` raises.
        """
        state = await self._recorded_state(tenant_id, command_id)
        if state is None:
            if count_search:
                await count_search()
            found = await self._described_by_any(command_id)
            if found is None or found.described.status is not WorkflowExecutionStatus.RUNNING:
                # It may have been saved, and its workflow completed, since the record was read.
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
            waiting, deliveries = await outbox.outcomes_of(connection, command_id)
            later: list[tuple[str, datetime | None]] = []
            if recorded.type == EraseUser.model_fields["type"].default and recorded.problem is None:
                later = [*(await erasures.stages_of(connection, recorded.user_id)).items()]
            elif recorded.type == ExportHistory.model_fields["type"].default and recorded.problem is None:
                export = await exports.find_export(connection, command_id)
                later = [("exported", export.ready_at if export else None)]
            is_adding = recorded.type == ADD_IMAGES
            images = await images_of_command(connection, recorded.aggregate_id, command_id) if is_adding else []
        body = self._recorded(recorded, events, waiting, deliveries)
        body["stages"] += [_stage(name, at) for name, at in later]
        body["images"] = await with_steps(self._client, command_id, images)
        return _State(tenant_id, str(recorded.user_id), body)

    def _recorded(
        self, recorded: RecordedCommand, events: list[Any], waiting: bool, deliveries: list[outbox.Outcome]
    ) -> dict[str, Any]:
        refused = recorded.problem is not None
        result = {"aggregateId": str(recorded.aggregate_id), "eventIds": [str(event.event_id) for event in events]}
        stages = []
        if not refused:
            published = [event.published_at for event in events]
            stages.append(_stage("saved", recorded.finished_at))
            if events:
                stages.append(_stage("published", max(published) if all(published) else None))
            if waiting or deliveries:
                stages.append(_notified(waiting, deliveries))
        return {
            **self._common_fields(recorded.type, recorded.command_id, recorded.status, recorded.started_at),
            "result": None if refused else result,
            "problem": problem_of(**recorded.problem) if recorded.problem else None,
            "stages": stages,
            "deliveries": [
                {"channel": one.channel, "outcome": one.outcome, "count": one.count, "reason": one.reason}
                for one in deliveries
            ],
        }

    def _unrecorded_state(self, command_id: UUID, found: _Described) -> _State:
        attributes = found.described.typed_search_attributes
        running = found.described.status is WorkflowExecutionStatus.RUNNING
        body = {
            **self._common_fields(
                found.type, command_id, "RUNNING" if running else "FAILED", found.described.start_time
            ),
            "result": None,
            "problem": None if running else problem_of("command-failed", None, None),
            "stages": [_stage("saved", None)],
            "deliveries": [],
            "images": [],
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

    def _common_fields(self, type: str, command_id: UUID, status: str, started_at: datetime) -> dict[str, Any]:
        return {
            "commandId": str(command_id),
            "type": type,
            "status": status,
            "startedAt": started_at,
            "traceUrl": trace_url(self._settings, type, command_id),
        }


def canonical(body: Model) -> bytes:
    """The fields that a client sent as JSON with sorted names: equal bodies give equal bytes.

    Fields that were not sent are left out, so that a field of a later release changes no fingerprint. A password is
    left out too, because the stored HMAC is much faster to compute than argon2.
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
    """The URL of a command's workflow in the Temporal web UI."""
    workflow_id = quote(registry.workflow_id(type, command_id), safe="")
    path = f"/namespaces/{settings.temporal_namespace}/workflows/{workflow_id}"
    return settings.temporal_ui_url.rstrip("/") + path


def new_id() -> UUID:
    """A UUIDv7 of the current time."""
    return ids.uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def refusal(code: str, detail: str, field: str | None) -> ApiError:
    """The ApiError of a refusal."""
    return ApiError(code, detail, errors=[FieldError(field=field, reason=detail)] if field else [])


def _refusal(error: WorkflowUpdateFailedError) -> ApiError:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type in KINDS:
        return refusal(cause.type, cause.message, cause.details[0] if cause.details else None)
    log.error("a command failed with an error that is not in the table of errors: %r", cause)
    return ApiError("command-failed")


def problem_of(code: str, detail: str | None, field: str | None) -> dict[str, Any]:
    """The problem document of a command that was refused, or has failed."""
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


def _notified(waiting: bool, deliveries: list[outbox.Outcome]) -> dict[str, Any]:
    """The stage of notices: done once each delivery is settled; failed when a channel has only given up ones."""
    if waiting or any(one.outcome in {"pending", "held"} for one in deliveries):
        return _stage("notified", None)
    times = [one.last_sent_at for one in deliveries if one.last_sent_at]
    sent = {one.channel for one in deliveries if one.reason is None}
    failed = any(one.channel not in sent for one in deliveries)
    return _stage("notified", None if failed else max(times, default=None), failed=failed)
