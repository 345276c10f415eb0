"""Fake activities with scripted failures, registered under the names of the real ones."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.deliveries import Outgoing
from activities.documents import CheckingDocument
from activities.erasing import Erasing
from activities.exports import Exporting
from activities.images import MakePicture
from activities.import_rows import ImportStep
from activities.notices import DeliveryBatch, DigestOf, Expanded, FavoritesOf
from activities.publishing import PublishedOverdue
from activities.saved_search_rounds import Round, RoundDone, SavedSearchOf
from activities.verifications import VerificationStep
from domain.command import Command, Saved, SealedCommand
from domain.documents import AddDocument, DocumentAdded, DocumentCommand, DocumentDeleted, DocumentSender
from domain.documents import decide as decide_document
from domain.events import new_events
from domain.favorite_commands import FavoriteCommand, FavoriteProperty, PropertyFavorited, PropertyUnfavorited
from domain.image_commands import ImageMade
from domain.images import ImageRefusal
from domain.imports import (
    FinishImport,
    ImportCommand,
    ImportOrder,
    ImportProperties,
    ImportStatus,
    PropertiesImportFinished,
    PropertiesImportStarted,
)
from domain.model import Fact
from domain.observations import RecordActivity, RecordedActivity
from domain.preferences import Channel, PreferencesCommand
from domain.preferences import decide as decide_preferences
from domain.property_commands import CreateProperty, PropertyCommand, Sender
from domain.property_commands import decide as decide_property
from domain.property_events import PropertyDeleted
from domain.roles import UserRole
from domain.saved_searches import (
    CreateSavedSearch,
    PausedBy,
    PauseSavedSearch,
    SavedSearchChanged,
    SavedSearchCommand,
    SavedSearchCreated,
    SavedSearchDeleted,
    SearchToSave,
)
from domain.user_commands import Circumstances, EraseUser, RegisterUser, RequestVerification, UserCommand
from domain.user_commands import decide as decide_user
from domain.user_events import UserDeleted, UserUpdated, UserVerificationRequested
from tests.samples import new_id, picture, register_user
from tests.workflows.fake_rebuild import FakeRebuild

_ACTOR = Sender(user_id=UUID(int=1), role=UserRole.USER)
_REFUSED = ImageRefusal(code="truncated", detail="The file ends too early. Send it again.")
_SEARCH = {**dict(SearchToSave(name="Flats", filters='{"bedrooms":["2"]}')), "paused": None}


async def _nothing(round: Round) -> None:
    """What happens while a saved search pauses itself."""


async def _no_change(order: ImportOrder) -> None:
    """What happens while rows are imported."""


class Script:
    """Raises the next of `failures` of an activity at each attempt, and records the calls."""

    def __init__(
        self,
        *,
        unreadable: int = 0,
        changes: bool = True,
        sessions_kept: Sequence[float] = (),
        erased: bool = False,
        expanded: Expanded | None = None,
        pages: Sequence[Expanded] = (),
        held: tuple[Channel, ...] = (),
        due: Sequence[datetime | None] = (),
        rounds: Sequence[RoundDone] = (),
        steps: Sequence[ImportStep] = (),
        **failures: list[Exception],
    ) -> None:
        """`unreadable` is the number of unreadable events of reconcile; `changes`, whether commands cause events.

        `expanded` is what a batch of notices is expanded to, `pages` what each page of favourites is, and `held` the
        channels of a digest. `sessions_kept` are the seconds that the attempts to delete the sessions of an erased
        user ask to wait. `erased` is whether the user of an export is. `due` are the answers of when a round of a saved
        search is due, and `rounds` the rounds. `steps` are those of an import.
        """
        self._sessions_kept = list(sessions_kept)
        self._erased = erased
        self._unreadable = unreadable
        self._expanded = expanded or Expanded(channels={})
        self._pages = list(pages)
        self._held = held
        self._due = list(due)
        self._rounds = list(rounds)
        self._steps = list(steps)
        self.while_importing: Callable[[ImportOrder], Awaitable[None]] = _no_change
        self.finished: list[FinishImport] = []
        self.rounds: list[Round] = []
        self.while_pausing: Callable[[Round], Awaitable[None]] = _nothing
        self.sent: list[Outgoing] = []
        self.made: list[MakePicture] = []
        self._changes = changes
        self._failures = failures
        self.calls: list[str] = []
        self._rebuild = FakeRebuild(self._call)

    def attempts(self, name: str) -> int:
        return self.calls.count(name)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        left = self._failures.get(name, [])
        if left:
            raise left.pop(0)

    def _saved(self, command: Command, facts: list[Fact]) -> Saved:
        events = new_events(command, command.aggregate_id, 0, facts if self._changes else [])
        return Saved(
            tenant_id=command.tenant_id,
            command_id=command.command_id,
            aggregate_id=command.aggregate_id,
            version=len(events),
            events=tuple(event.saved() for event in events),
            resource={"id": str(command.aggregate_id)},
        )

    @property
    def activities(self) -> list[Callable[..., Any]]:
        script = self

        @activity.defn
        async def save_property(sealed: SealedCommand) -> Saved:
            is_record = sealed.get("type") == "record-image"
            script._call("record_image" if is_record else "save_property")
            command = TypeAdapter[Any](PropertyCommand).validate_json(orjson.dumps(sealed))
            if isinstance(command, CreateProperty):
                return script._saved(command, list(decide_property(None, command, _ACTOR)))
            gone = PropertyDeleted(
                property_id=command.property_id, owner_id=command.user_id, title="A flat", location="Uppal"
            )
            return script._saved(command, [gone])

        @activity.defn
        async def save_favorite(sealed: SealedCommand) -> Saved:
            script._call("save_favorite")
            command = TypeAdapter[Any](FavoriteCommand).validate_json(orjson.dumps(sealed))
            added = isinstance(command, FavoriteProperty)
            listing = {"owner_id": UUID(int=2), "title": "A flat", "location": "Uppal"}
            fact = (PropertyFavorited if added else PropertyUnfavorited)(
                property_id=command.property_id, user_id=command.user_id, **listing
            )
            return script._saved(command, [fact])

        @activity.defn
        async def save_preferences(sealed: SealedCommand) -> Saved:
            script._call("save_preferences")
            command = TypeAdapter[Any](PreferencesCommand).validate_json(orjson.dumps(sealed))
            return script._saved(command, list(decide_preferences(None, command, None)))

        @activity.defn
        async def save_saved_search(sealed: SealedCommand) -> Saved:
            script._call("save_saved_search")
            command = TypeAdapter[Any](SavedSearchCommand).validate_json(orjson.dumps(sealed))
            of = {"saved_search_id": command.saved_search_id, "user_id": command.user_id}
            if isinstance(command, CreateSavedSearch):
                return script._saved(command, [SavedSearchCreated(**_SEARCH, **of, since=command.issued_at)])
            return script._saved(command, [SavedSearchDeleted(**of)])

        @activity.defn
        async def next_round(of: SavedSearchOf) -> datetime | None:
            script._call("next_round")
            return script._due.pop(0) if script._due else None

        @activity.defn
        async def find_matches(round: Round) -> RoundDone:
            script._call("find_matches")
            script.rounds.append(round)
            return script._rounds.pop(0) if script._rounds else RoundDone()

        @activity.defn
        async def pause_unread(round: Round) -> Saved:
            script._call("pause_unread")
            await script.while_pausing(round)
            of = {"saved_search_id": round.saved_search_id, "user_id": round.user_id}
            pausing = {"command_id": new_id(), "tenant_id": round.tenant_id, "issued_at": round.at}
            command = PauseSavedSearch(**pausing, **of, by=PausedBy.UNREAD)
            paused = {**_SEARCH, "paused": PausedBy.UNREAD}
            return script._saved(command, [SavedSearchChanged(**paused, **of, since=round.at)])

        @activity.defn
        async def make_picture(making: MakePicture) -> ImageMade:
            script._call("make_picture")
            script.made.append(making)
            # The last file becomes none.
            return ImageMade(picture=picture()) if len(script.made) == 1 else ImageMade(refused=_REFUSED)

        @activity.defn
        async def save_document(sealed: SealedCommand) -> Saved:
            script._call("save_document")
            command = TypeAdapter[Any](DocumentCommand).validate_json(orjson.dumps(sealed))
            if isinstance(command, AddDocument):
                by = DocumentSender(user_id=command.user_id, role=UserRole.USER, upload_size=5)
                return script._saved(command, list(decide_document(None, command, by)))
            return script._saved(command, [DocumentDeleted(file_id=command.file_id, owner_id=command.user_id)])

        @activity.defn
        async def check_document(checking: CheckingDocument) -> Saved | None:
            script._call("check_document")
            if script._erased:
                return None
            owner = {
                "user_id": checking.user_id,
                "tenant_id": checking.tenant_id,
                "issued_at": activity.info().started_time,
            }
            of = {"file_id": checking.file_id, "upload_id": checking.upload_id}
            command = AddDocument(command_id=new_id(), **owner, **of)
            added = DocumentAdded(**of, owner_id=checking.user_id, size=5, media_type="application/pdf", key="5f" * 32)
            return script._saved(command, [added])

        @activity.defn
        async def save_import(sealed: SealedCommand) -> Saved:
            script._call("save_import")
            command = TypeAdapter[Any](ImportCommand).validate_json(orjson.dumps(sealed))
            of = {"import_id": command.aggregate_id, "user_id": command.user_id}
            if isinstance(command, ImportProperties):
                return script._saved(command, [PropertiesImportStarted(**of)])
            script.finished.append(command)
            counts = dict.fromkeys(("read", "saved", "updated", "unchanged", "refused"), 0)
            return script._saved(command, [PropertiesImportFinished(**of, status=command.status, **counts)])

        @activity.defn
        async def import_rows(order: ImportOrder) -> ImportStep:
            script._call("import_rows")
            await script.while_importing(order)
            return script._steps.pop(0) if script._steps else ImportStep(outcome="ended", status=ImportStatus.COMPLETED)

        @activity.defn
        async def start_overdue_imports() -> int:
            script._call("start_overdue_imports")
            return 1

        @activity.defn
        async def fill_places() -> int:
            script._call("fill_places")
            return 1

        @activity.defn
        async def start_overdue_documents() -> int:
            script._call("start_overdue_documents")
            return 1

        @activity.defn
        async def sweep_files() -> int:
            script._call("sweep_files")
            return 2

        @activity.defn
        async def start_overdue_images() -> int:
            script._call("start_overdue_images")
            return 0

        @activity.defn
        async def start_overdue_saved_searches() -> int:
            script._call("start_overdue_saved_searches")
            return 1

        @activity.defn
        async def save_user(sealed: SealedCommand) -> Saved:
            script._call("save_user")
            command = TypeAdapter[Any](UserCommand).validate_json(orjson.dumps(sealed))
            if isinstance(command, RegisterUser):
                return script._saved(command, list(decide_user(None, command, Circumstances())))
            if isinstance(command, EraseUser):
                return script._saved(command, [UserDeleted(user_id=command.user_id)])
            opened = decide_user(None, register_user(command.tenant_id), Circumstances())[0]
            return script._saved(command, [UserUpdated(**dict(opened), changed=("role",))])

        @activity.defn
        async def save_verification_step(step: VerificationStep) -> Saved:
            script._call("save_verification_step")
            fields = {"tenant_id": step.tenant_id, "user_id": step.user_id, "issued_at": step.at}
            opened = decide_user(None, register_user(step.tenant_id), Circumstances())[0]
            command = RequestVerification(command_id=new_id(), reminder=step.step, **fields)
            return script._saved(command, [UserVerificationRequested(**dict(opened), reminder=step.step)])

        @activity.defn
        async def start_overdue_verifications() -> int:
            script._call("start_overdue_verifications")
            return 0

        @activity.defn
        async def start_overdue_erasures() -> int:
            script._call("start_overdue_erasures")
            return 0

        @activity.defn
        async def withdraw_listings(erasing: Erasing) -> int:
            script._call("withdraw_listings")
            return 2

        @activity.defn
        async def ensure_notified(erasing: Erasing) -> None:
            script._call("ensure_notified")

        @activity.defn
        async def delete_listings(erasing: Erasing) -> int:
            script._call("delete_listings")
            return 2

        @activity.defn
        async def delete_executions(erasing: Erasing) -> int:
            script._call("delete_executions")
            return 5

        @activity.defn
        async def delete_cached(erasing: Erasing) -> int:
            script._call("delete_cached")
            return 3

        @activity.defn
        async def delete_rows(erasing: Erasing) -> None:
            script._call("delete_rows")

        @activity.defn
        async def destroy_key(erasing: Erasing) -> None:
            script._call("destroy_key")

        @activity.defn
        async def delete_sessions(erasing: Erasing) -> float:
            script._call("delete_sessions")
            return script._sessions_kept.pop(0) if script._sessions_kept else 0.0

        @activity.defn
        async def write_export(exporting: Exporting) -> RecordedActivity | None:
            script._call("write_export")
            if script._erased:
                return None
            return RecordedActivity(tenant_id=exporting.tenant_id, command_id=exporting.command_id)

        @activity.defn
        async def start_overdue_exports() -> int:
            script._call("start_overdue_exports")
            return 0

        @activity.defn
        async def delete_expired_exports() -> int:
            script._call("delete_expired_exports")
            return 0

        @activity.defn
        async def publish(saved: Saved) -> int:
            script._call("publish")
            return len(saved.events)

        @activity.defn
        async def save_observations(batch: RecordActivity) -> RecordedActivity:
            script._call("save_observations")
            return RecordedActivity(tenant_id=batch.tenant_id, command_id=batch.command_id)

        @activity.defn
        async def publish_observations(recorded: RecordedActivity) -> int:
            script._call("publish_observations")
            return 1

        @activity.defn
        async def send_deliveries(batch: DeliveryBatch) -> str:
            script._call("send_deliveries")
            return f"{len(batch.event_ids)} mailed"

        @activity.defn
        async def expand_notices(batch: DeliveryBatch) -> Expanded:
            script._call("expand_notices")
            return script._expanded

        @activity.defn
        async def expand_favorites(of: FavoritesOf) -> Expanded:
            script._call("expand_favorites")
            return script._pages.pop(0)

        @activity.defn
        async def find_held(of: DigestOf) -> tuple[Channel, ...]:
            script._call("find_held")
            return script._held

        @activity.defn
        async def send_batch(batch: Outgoing) -> str:
            script._call(f"send_batch_{batch.channel.value}")
            script.sent.append(batch)
            return f"{len(batch.targets)} sent"

        @activity.defn
        async def send_digest(of: DigestOf) -> str:
            script._call(f"send_digest_{activity.info().task_queue}")
            return "2 in one digest"

        @activity.defn
        async def start_overdue() -> int:
            script._call("start_overdue")
            return 3

        @activity.defn
        async def publish_overdue() -> PublishedOverdue:
            script._call("publish_overdue")
            return PublishedOverdue(published=2, unreadable=script._unreadable)

        return [
            save_property,
            save_favorite,
            save_preferences,
            save_saved_search,
            next_round,
            find_matches,
            pause_unread,
            make_picture,
            start_overdue_images,
            save_import,
            import_rows,
            start_overdue_imports,
            save_document,
            check_document,
            start_overdue_documents,
            sweep_files,
            fill_places,
            start_overdue_saved_searches,
            save_user,
            save_verification_step,
            start_overdue_verifications,
            start_overdue_erasures,
            withdraw_listings,
            ensure_notified,
            delete_listings,
            delete_executions,
            delete_cached,
            delete_rows,
            destroy_key,
            delete_sessions,
            write_export,
            start_overdue_exports,
            delete_expired_exports,
            publish,
            save_observations,
            publish_observations,
            send_deliveries,
            expand_notices,
            expand_favorites,
            find_held,
            send_batch,
            send_digest,
            start_overdue,
            publish_overdue,
            *script._rebuild.activities,
        ]


def unavailable(times: int) -> list[Exception]:
    """The errors of a dependency that is unavailable for `times` attempts."""
    return [ApplicationError("connection refused", type="Unavailable") for _ in range(times)]


def refusal(code: str, field: str | None = None) -> list[Exception]:
    return [ApplicationError("refused by the domain", field, type=code, non_retryable=True)]
