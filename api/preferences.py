"""The caller's preferences of notices: /api/notifications/preferences."""

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Response

from adapters.preferences import preferences_of
from api.answers import IfMatchDep, SenderDep, answered
from api.bodies import BodyOf
from api.commands import Done
from api.conditional import is_not_wanted
from api.deps import CallerDep, PartsDep
from api.openapi import command, query
from domain.model import Model
from domain.preferences import (
    ACCOUNT_KINDS,
    OPTIONAL_KINDS,
    Channels,
    NewPreferences,
    NoticeKind,
    OptionalKind,
    Preferences,
    QuietHours,
    SetPreferences,
)

router = APIRouter(prefix="/api/notifications", tags=["notifications"])

_PROBLEMS = ("account-closed", "invalid-if-match", "precondition-required", "version-conflict")


class NoticePreferences(Model):
    """The preferences of a user, with every kind of notice; those never set have the defaults."""

    version: int
    """0: the user has never set any."""
    kinds: dict[OptionalKind, Channels]
    """The channels of each kind that can be turned off."""
    account_kinds: list[NoticeKind]
    """Notices about the account, which are always sent by e-mail."""
    quiet_hours: QuietHours | None


@router.get("/preferences", **query(NoticePreferences, etag=True))
async def get_preferences(
    caller: CallerDep, parts: PartsDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """What the caller is notified of, and how. What was never set has the defaults, in version 0.

    Quiet hours are in the time of India, and may contain midnight. What waits is sent when they end, as one message.
    """
    async with parts.database.statements(caller.tenant_id) as connection:
        known = (await preferences_of(connection, [caller.user_id]))[caller.user_id]
    headers = {"ETag": f'"{known.version}"', "Cache-Control": "private, no-store"}
    if is_not_wanted(if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(_shown(known).model_dump_json(by_alias=True), 200, headers, "application/json")


@router.put("/preferences", **command(200, NoticePreferences, *_PROBLEMS))
async def set_preferences(body: BodyOf[NewPreferences], sender: SenderDep, expected: IfMatchDep) -> Response:
    """Replace the caller's preferences. A kind that is absent gets the defaults; `null` ends the quiet hours."""
    outcome = await sender.send(
        SetPreferences, body, "Set notification preferences", preferences=body, expected_versions=expected
    )
    if isinstance(outcome, Done):
        outcome = replace(outcome, resource=_resource(outcome, sender.caller.user_id))
    return answered(sender, outcome)


def _resource(outcome: Done, user_id: UUID) -> dict[str, Any]:
    # Without a state, the defaults were set by a user who has never set any.
    known = Preferences.model_validate(outcome.resource) if outcome.resource else Preferences(user_id=user_id)
    return _shown(known).model_dump(mode="json", by_alias=True)


def _shown(known: Preferences) -> NoticePreferences:
    return NoticePreferences(
        version=known.version,
        kinds={kind: known.channels_of(kind) for kind in OPTIONAL_KINDS},
        account_kinds=[kind for kind in NoticeKind if kind in ACCOUNT_KINDS],
        quiet_hours=known.quiet_hours,
    )
