"""`python -m tests.replay.record`: record a history of every path of every workflow, for replay tests.

Run it when a workflow gains a path. Deployed workflows have the recorded histories: add files, never replace one.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.testing import WorkflowEnvironment

from activities.import_rows import ImportStep
from activities.notices import DeliveryBatch, DigestOf, Expanded, FavoritesOf
from activities.saved_search_rounds import RoundDone, SavedSearchOf
from activities.verifications import STEPS, Unverified
from adapters import temporal
from adapters.outbox import Target
from domain.command import Command
from domain.documents import AddDocument, DeleteDocument
from domain.favorite_commands import FavoriteProperty, UnfavoriteProperty
from domain.image_commands import AddImages, ChangeImage, NewImage, OrderImages, RemoveImage
from domain.imports import ImportOrder, ImportProperties, ImportStatus
from domain.preferences import Channel, NewPreferences, NoticeKind, SetPreferences, Unsubscribe
from domain.property import PropertyPatch
from domain.property_commands import (
    ChangePropertyStatus,
    DeleteProperty,
    FeatureProperty,
    PatchProperty,
    UpdateProperty,
    VerifyProperty,
)
from domain.property_status import PropertyStatus
from domain.rebuilds import RebuildOrder, RebuildStatus
from domain.roles import UserRole
from domain.saved_searches import (
    ChangeSavedSearch,
    CreateSavedSearch,
    DeleteSavedSearch,
    PausedBy,
    PauseSavedSearch,
    SearchToSave,
)
from domain.user import ProfilePatch, UserStatus
from domain.user_commands import (
    AddPasskey,
    ChangePassword,
    ChangeRole,
    ChangeUserStatus,
    DisableSecondFactor,
    EnableSecondFactor,
    EraseUser,
    ExportHistory,
    RemovePasskey,
    RequestPasswordReset,
    RequestVerification,
    ResetPassword,
    UpdateProfile,
    VerifyEmail,
)
from embedded.engines import binary
from tests.platform import until
from tests.samples import create_property, login, new_id, record_activity, register_user, sent, view
from tests.workflows.conftest import running
from tests.workflows.fakes import Script, refusal, unavailable
from workflows import options
from workflows.change_saved_search import ChangeSavedSearchWorkflow
from workflows.create_saved_search import CreateSavedSearchWorkflow
from workflows.digest import DigestWorkflow
from workflows.email_verification import EmailVerificationWorkflow
from workflows.erase_user import EraseUserWorkflow
from workflows.export_history import ExportHistoryWorkflow
from workflows.import_file import ImportFileWorkflow
from workflows.notify import NotifyWorkflow
from workflows.notify_favorites import NotifyFavoritesWorkflow
from workflows.rebuild_projection import RebuildProjectionWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.record_activity import RecordActivityWorkflow
from workflows.register_user import RegisterUserWorkflow
from workflows.registry import COMMANDS
from workflows.saved_search import SavedSearchWorkflow

OVERDUE = datetime(2024, 1, 15, tzinfo=UTC)
"""The expiry of a registration of this time is overdue, and is taken at once."""
_IMAGES = tuple(NewImage(id=new_id(), upload_id=new_id(), file_name=f"{n}.jpg", size=300_000) for n in range(2))
_SEARCH = SearchToSave(name="Flats", filters='{"bedrooms":["2"]}')
HISTORIES = Path(__file__).parent / "histories"

_STACK_TRACE = re.compile(r'("stackTrace": ?)"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Recorded:
    """One path of a workflow: its arguments, and the script of its activities."""

    workflow: type[Any]
    arguments: list[Any]
    script: Script
    signal: str | None = None
    """Sent to a workflow that has a query `progress`, as soon as it is paused."""
    failing: str | None = None
    """The activity after whose second failure the signal is sent instead."""


def _samples() -> dict[str, Command]:
    """A command of each type, by its type."""
    creating, by = create_property("hyderabad", new_id()), new_id()
    account: dict[str, Any] = {"tenant_id": "hyderabad", "user_id": by, "issued_at": creating.issued_at}
    listing = {**account, "property_id": creating.property_id}
    search = {**account, "saved_search_id": new_id()}
    commands = [
        creating,
        UpdateProperty(command_id=new_id(), details=creating.details, **listing),
        PatchProperty(command_id=new_id(), changes=PropertyPatch.model_validate({"price": 1}), **listing),
        ChangePropertyStatus(command_id=new_id(), status=PropertyStatus.SOLD, **listing),
        FeatureProperty(command_id=new_id(), value=True, **listing),
        VerifyProperty(command_id=new_id(), value=True, **listing),
        DeleteProperty(command_id=new_id(), **listing),
        AddImages(command_id=new_id(), images=_IMAGES, **listing),
        OrderImages(command_id=new_id(), image_ids=(new_id(),), **listing),
        ChangeImage(command_id=new_id(), image_id=new_id(), is_primary=True, **listing),
        RemoveImage(command_id=new_id(), image_id=new_id(), **listing),
        FavoriteProperty(command_id=new_id(), **listing),
        UnfavoriteProperty(command_id=new_id(), **listing),
        register_user("hyderabad"),
        ChangeRole(command_id=new_id(), role=UserRole.ADMIN, **account),
        UpdateProfile(command_id=new_id(), changes=ProfilePatch(city="Hyderabad"), **account),
        ChangePassword(command_id=new_id(), password_hash="$argon2id$", session_id=new_id(), **account),
        RequestPasswordReset(command_id=new_id(), **account),
        ResetPassword(command_id=new_id(), password_hash="$argon2id$", token_hash="00", **account),
        RequestVerification(command_id=new_id(), **account),
        VerifyEmail(command_id=new_id(), token_hash="00", **account),
        ChangeUserStatus(command_id=new_id(), account_id=new_id(), status=UserStatus.SUSPENDED, **account),
        EnableSecondFactor(command_id=new_id(), secret="JBSWY3DP", recovery_code_hashes=("00",), **account),
        DisableSecondFactor(command_id=new_id(), **account),
        AddPasskey(
            command_id=new_id(),
            passkey_id=new_id(),
            credential_id="Y3JlZA",
            public_key="a2V5",
            sign_count=0,
            name="Phone",
            **account,
        ),
        RemovePasskey(command_id=new_id(), passkey_id=new_id(), **account),
        SetPreferences(
            command_id=new_id(),
            preferences=NewPreferences.model_validate({"kinds": {"PRICE_DROPPED": {"sms": True}}}),
            **account,
        ),
        Unsubscribe(command_id=new_id(), kinds=(NoticeKind.PRICE_DROPPED,), **account),
        ExportHistory(command_id=new_id(), **account),
        CreateSavedSearch(command_id=new_id(), search=_SEARCH, **search),
        ChangeSavedSearch(command_id=new_id(), search=_SEARCH, **search),
        PauseSavedSearch(command_id=new_id(), by=PausedBy.LINK, **search),
        DeleteSavedSearch(command_id=new_id(), **search),
        AddDocument(command_id=new_id(), file_id=new_id(), upload_id=new_id(), **account),
        DeleteDocument(command_id=new_id(), file_id=new_id(), **account),
        ImportProperties(command_id=new_id(), upload_id=new_id(), file_name="flats.csv", size=5, **account),
        EraseUser(command_id=new_id(), **account),
    ]
    return {command.type: command for command in commands}


def _saving(failures: Callable[[], list[Exception]]) -> Script:
    """Saving fails so, whichever activity does it."""
    names = [activity.__name__ for activity in Script().activities]
    failing: Any = {name: failures() for name in names if name.startswith("save_")}
    return Script(**failing)


WAYS: dict[str, Callable[[], Script]] = {
    "done": Script,
    "refused": lambda: _saving(lambda: refusal("account-closed")),
    "failed": lambda: _saving(lambda: refusal("command-failed")),
    "nothing_changed": lambda: Script(changes=False),
    "saved_late": lambda: _saving(lambda: unavailable(3)),
    "published_late": lambda: Script(publish=unavailable(3)),
}
"""The ways that a command can take through its workflow."""
_NEVER = {("delete-property", "nothing_changed"), ("delete-document", "nothing_changed")}
"""What is there to be deleted is deleted."""


def _of_commands() -> dict[str, Recorded]:
    """Each command of the registry on each of its ways."""
    samples, paths = _samples(), {}
    for name, workflow in COMMANDS.items():
        assert name in samples, f"tests/replay/record.py has no sample of {name}"
        for way, script in WAYS.items():
            if (name, way) not in _NEVER:
                paths[f"{name.replace('-', '_')}-{way}"] = Recorded(workflow, [sent(samples[name])], script())
    return paths


def targets(count: int) -> tuple[Target, ...]:
    return tuple(Target(new_id(), new_id()) for _ in range(count))


def _of_others() -> dict[str, Recorded]:
    batch = record_activity("hyderabad", view(new_id()), login(new_id()))
    outgoing = DeliveryBatch(tenant_id="hyderabad", event_ids=(new_id(), new_id()))

    def recording(script: Script) -> Recorded:
        return Recorded(RecordActivityWorkflow, [batch], script)

    of = FavoritesOf(tenant_id="hyderabad", event_id=new_id(), property_id=new_id(), kind="PRICE_DROPPED")
    expanded = Expanded(
        channels={"email": targets(12), "sms": targets(1)},
        recorded=new_id(),
        favorites=(of,),
        digests=(DigestOf(tenant_id="hyderabad", user_id=new_id(), until=OVERDUE),),
    )

    def pages(count: int) -> list[Expanded]:
        full = [Expanded(channels={"email": targets(1)}, users=50, next_user=new_id()) for _ in range(count)]
        return [*full, Expanded(channels={}, users=1)]

    def favorites(script: Script) -> Recorded:
        return Recorded(NotifyFavoritesWorkflow, [of], script)

    def digest(script: Script, ends_in: timedelta) -> Recorded:
        waiting = DigestOf(tenant_id="hyderabad", user_id=new_id(), until=datetime.now(UTC) + ends_in)
        return Recorded(DigestWorkflow, [waiting], script)

    def rounds(script: Script) -> Recorded:
        of = SavedSearchOf(tenant_id="hyderabad", saved_search_id=new_id(), user_id=new_id())
        return Recorded(SavedSearchWorkflow, [of], script)

    def notify(script: Script) -> Recorded:
        return Recorded(NotifyWorkflow, [outgoing], script)

    def reminding(script: Script, registered_at: datetime = OVERDUE) -> Recorded:
        account = Unverified(tenant_id="hyderabad", user_id=new_id(), registered_at=registered_at)
        return Recorded(EmailVerificationWorkflow, [account], script)

    def reconcile(script: Script) -> Recorded:
        return Recorded(ReconcileWorkflow, [], script)

    def rebuilding(script: Script, signal: str | None = None, failing: str | None = None) -> Recorded:
        order = RebuildOrder(rebuild_id=new_id(), projection="history", paused=signal is not None and failing is None)
        return Recorded(RebuildProjectionWorkflow, [order], script, signal, failing)

    account = {"tenant_id": "hyderabad", "user_id": new_id(), "issued_at": OVERDUE}
    soon = datetime.now(UTC) + timedelta(seconds=2)
    in_a_year = datetime.now(UTC) + timedelta(days=365)
    search = {**account, "saved_search_id": new_id(), "search": _SEARCH}
    saved = CreateSavedSearch(command_id=new_id(), **search)
    changed = ChangeSavedSearch(command_id=new_id(), **search)

    def erasing(script: Script) -> Recorded:
        return Recorded(EraseUserWorkflow, [sent(EraseUser(command_id=new_id(), **account))], script)

    def importing(script: Script) -> Recorded:
        order = ImportOrder(tenant_id="hyderabad", import_id=new_id(), user_id=new_id())
        return Recorded(ImportFileWorkflow, [order], script)

    def resumed() -> Script:
        script = Script(
            steps=[ImportStep(outcome="paused"), ImportStep(outcome="ended", status=ImportStatus.COMPLETED)]
        )

        async def resume(_: ImportOrder) -> None:
            if script.attempts("import_rows") == 1:
                workflow_id = activity.info().workflow_id
                assert workflow_id
                await activity.client().get_workflow_handle(workflow_id).signal("changed")

        script.while_importing = resume
        return script

    def exporting(script: Script) -> Recorded:
        return Recorded(ExportHistoryWorkflow, [sent(ExportHistory(command_id=new_id(), **account))], script)

    return {
        "record_activity-done": recording(Script()),
        "record_activity-saved_late": recording(Script(save_observations=unavailable(3))),
        "record_activity-published_late": recording(Script(publish_observations=unavailable(3))),
        "register_user-reminded": Recorded(RegisterUserWorkflow, [sent(register_user("hyderabad"))], Script()),
        "email_verification-overdue": reminding(Script()),
        "email_verification-waited": reminding(Script(), datetime.now(UTC) - STEPS[-1] + timedelta(seconds=90)),
        "email_verification-overdue_nothing_changed": reminding(Script(changes=False)),
        "email_verification-overdue_erased": reminding(Script(save_verification_step=refusal("not-found"))),
        "email_verification-overdue_late": reminding(
            Script(save_verification_step=unavailable(2), publish=unavailable(2))
        ),
        "reconcile-verifications": reconcile(Script()),
        "reconcile-erasures": reconcile(Script()),
        "reconcile-exports": reconcile(Script()),
        "export_history-late": exporting(Script(write_export=unavailable(2), publish_observations=unavailable(2))),
        "export_history-erased": exporting(Script(erased=True)),
        "erase_user-late": erasing(
            Script(
                withdraw_listings=unavailable(1),
                ensure_notified=unavailable(2),
                delete_listings=unavailable(1),
                delete_executions=unavailable(1),
                delete_cached=unavailable(1),
                delete_rows=unavailable(1),
                destroy_key=unavailable(1),
                delete_sessions=unavailable(1),
            )
        ),
        # As when the hour is over: the step fails for good.
        "erase_user-not_notified": erasing(Script(ensure_notified=refusal("NotNotified"))),
        "erase_user-sessions_kept": erasing(Script(sessions_kept=[1.0, 0.5])),
        "import_file-steps": importing(
            Script(steps=[ImportStep(outcome="more"), ImportStep(outcome="ended", status=ImportStatus.COMPLETED)])
        ),
        "import_file-late": importing(
            Script(import_rows=unavailable(2), save_import=unavailable(2), publish=unavailable(2))
        ),
        "import_file-paused": importing(Script(steps=[ImportStep(outcome="paused")])),
        "import_file-cancelled": importing(
            Script(steps=[ImportStep(outcome="ended", status=ImportStatus.CANCELLED)], changes=False)
        ),
        "import_file-failed": importing(
            Script(steps=[ImportStep(outcome="ended", status=ImportStatus.FAILED, reason="The file is empty.")])
        ),
        "import_file-account_erased": importing(Script(save_import=refusal("account-closed"))),
        # Resumed before the workflow sees that it is paused.
        "import_file-resumed": importing(resumed()),
        "import_file-erased": importing(Script(steps=[ImportStep(outcome="gone")])),
        "reconcile-places": reconcile(Script()),
        "reconcile-saved_searches": reconcile(Script()),
        "saved_search-reported": rounds(
            Script(
                due=[soon],
                rounds=[RoundDone(reported=3, recorded=new_id(), due_at=soon), RoundDone(due_at=soon), RoundDone()],
            )
        ),
        # In this order: the rounds of the first are there when the second wants to start them.
        "create_saved_search-waits": Recorded(CreateSavedSearchWorkflow, [sent(saved)], Script(due=[in_a_year])),
        "change_saved_search-signals": Recorded(ChangeSavedSearchWorkflow, [sent(changed)], Script()),
        "add_images-pictures_late": Recorded(
            COMMANDS["add-images"], [sent(_samples()["add-images"])], Script(make_picture=unavailable(2))
        ),
        "add_images-account_erased": Recorded(
            COMMANDS["add-images"], [sent(_samples()["add-images"])], Script(record_image=refusal("account-closed"))
        ),
        "add_document-late": Recorded(
            COMMANDS["add-document"], [sent(_samples()["add-document"])], Script(check_document=unavailable(2))
        ),
        "add_document-account_erased": Recorded(
            COMMANDS["add-document"], [sent(_samples()["add-document"])], Script(erased=True)
        ),
        "reconcile-files": reconcile(Script()),
        "saved_search-unread": rounds(Script(due=[soon], rounds=[RoundDone(unread=True)])),
        "saved_search-paused": rounds(Script()),
        "saved_search-late": rounds(
            Script(
                due=[soon],
                rounds=[RoundDone(reported=1, recorded=new_id(), due_at=soon), RoundDone(unread=True)],
                next_round=unavailable(2),
                find_matches=unavailable(1),
                publish_observations=unavailable(1),
                pause_unread=unavailable(1),
                publish=unavailable(1),
            )
        ),
        "saved_search-many_rounds": rounds(
            Script(due=[soon, soon], rounds=[*(RoundDone(due_at=soon) for _ in range(100)), RoundDone()])
        ),
        "notify-channels": notify(Script(expanded=expanded, pages=pages(0))),
        "notify-nothing": notify(Script()),
        "notify-channels_late": notify(
            Script(expanded=expanded, pages=pages(0), expand_notices=unavailable(2), send_batch_sms=unavailable(2))
        ),
        "notify-channels_left": notify(Script(expanded=expanded, pages=pages(0), send_batch_email=refusal("Refused"))),
        "notify_favorites-done": favorites(Script(pages=pages(22))),
        "notify_favorites-late": favorites(
            Script(
                pages=pages(1),
                expand_favorites=unavailable(1),
                send_batch_email=unavailable(5),
            )
        ),
        "digest-done": digest(Script(held=(Channel.EMAIL, Channel.PUSH)), timedelta(seconds=1)),
        "digest-overdue": digest(Script(held=(Channel.SMS,), send_digest_sms=unavailable(1)), timedelta(hours=-1)),
        "digest-nothing": digest(Script(), timedelta(hours=-1)),
        "digest-given_up": digest(Script(held=(Channel.SMS,), send_digest_sms=refusal("Refused")), timedelta()),
        "rebuild_projection-done": rebuilding(Script()),
        "rebuild_projection-late": rebuilding(
            Script(
                begin_rebuild=unavailable(1),
                replay_events=unavailable(2),
                switch_projection=unavailable(1),
                delete_old_generation=unavailable(1),
            )
        ),
        "rebuild_projection-failed": rebuilding(Script(replay_events=refusal("TooManyFailures"))),
        "rebuild_projection-resumed": rebuilding(Script(), "resume"),
        "rebuild_projection-cancelled": rebuilding(Script(), "cancel"),
        "rebuild_projection-cancelled_while_failing": rebuilding(
            Script(replay_events=unavailable(100)), "cancel", "replay_events"
        ),
        "reconcile-done": reconcile(Script()),
        "reconcile-unreadable": reconcile(Script(unreadable=1)),
        "reconcile-failed": reconcile(Script(publish_overdue=unavailable(3))),
        "reconcile-deliveries_failed": reconcile(Script(start_overdue=unavailable(3))),
    }


PATHS = {**_of_commands(), **_of_others()}
_QUEUES: dict[Any, str] = {
    NotifyWorkflow: options.NOTIFICATIONS,
    NotifyFavoritesWorkflow: options.NOTIFICATIONS,
    DigestWorkflow: options.NOTIFICATIONS,
    ReconcileWorkflow: options.MAINTENANCE,
    RebuildProjectionWorkflow: options.MAINTENANCE,
    EmailVerificationWorkflow: options.COMMANDS,
    SavedSearchWorkflow: options.NOTIFICATIONS,
    ImportFileWorkflow: options.IMPORTS,
}
"""Task queues of the workflows that are not commands."""


async def record(environment: WorkflowEnvironment, name: str) -> str:
    """One path, run on scripted activities; returns its history as JSON."""
    path = PATHS[name]
    queue = _QUEUES.get(path.workflow, options.COMMANDS)
    async with running(environment.client, path.script):
        handle = await started(environment.client, path.workflow, path.arguments, f"{name}-{new_id()}", queue)
        if path.signal:
            await until(lambda: _takes_signal(path, handle))
            await handle.signal(path.signal)
        try:
            await handle.result()
        except WorkflowFailureError as error:
            sys.stdout.write(f"{name}: ends with {error.cause}\n")
        history = await handle.fetch_history()
        for event in history.events:
            if event.HasField("child_workflow_execution_started_event_attributes"):
                # A child that runs on would take what the next script has for its own workflow.
                child = event.child_workflow_execution_started_event_attributes.workflow_execution
                if path.workflow is NotifyWorkflow:
                    await environment.client.get_workflow_handle(child.workflow_id).result()
    # Stack traces name folders of the machine that recorded them, and replay does not read them.
    return _STACK_TRACE.sub(r'\1""', history.to_json())


async def _takes_signal(path: Recorded, handle: WorkflowHandle[Any, Any]) -> bool:
    if path.failing:
        return path.script.attempts(path.failing) > 1
    progress = await handle.query(RebuildProjectionWorkflow.progress)
    return progress is not None and progress.status is RebuildStatus.PAUSED


async def started(client: Client, workflow: Any, arguments: list[Any], id: str, queue: str) -> WorkflowHandle[Any, Any]:
    """Start as the API does: a command with its update in one call."""
    if workflow in _QUEUES:
        return await client.start_workflow(workflow.run, args=arguments, id=id, task_queue=queue)
    start = WithStartWorkflowOperation(
        workflow.run, args=arguments, id=id, task_queue=queue, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    try:
        await client.execute_update_with_start_workflow(workflow.saved, start_workflow_operation=start, id="saved")
    except WorkflowUpdateFailedError as error:
        sys.stdout.write(f"{id}: answers {error.cause}\n")
    return client.get_workflow_handle(id)


async def main() -> None:
    # The development server, because the time-skipping one does not skip while an update is awaited.
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"),
        plugins=[temporal.plugin()],
        search_attributes=[temporal.TENANT_ID, temporal.USER_ID, temporal.AGGREGATE_ID],
    ) as environment:
        for name in PATHS:
            file = HISTORIES / f"{name}.json"
            if not file.exists():
                file.write_text(json.dumps(json.loads(await record(environment, name)), indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
