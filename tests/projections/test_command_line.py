"""The operators' commands: what is understood, and what each prints."""

import asyncio
import sys
from uuid import UUID

import pytest

from adapters.postgres import Database
from embedded.stack import Stack
from projections.__main__ import _action
from projections.commands import NotDone
from projections.parking import delete_parked, list_parked, park
from projections.registry import PROJECTIONS
from tests.projections.messages import consumed
from tests.samples import new_id

UNDERSTOOD = [
    "",
    "history",
    "history counts",
    "status",
    "rebuild history",
    "rebuild history --local",
    "progress counts",
    "pause counts",
    "resume counts",
    "cancel counts",
    "parked",
    "parked history",
    "show 12",
    "retry history all",
    "replay history all",
    "retry history 0199c9a4-1f00-7000-8000-000000000001",
    "discard 12 unreadable",
    "discarded",
    "discarded history",
    "republish --all",
    "republish --type PROPERTY_CREATED --type PROPERTY_DELETED",
    "republish --since 2026-11-30T00:00:00+05:30 --until 2026-11-30T12:00:00Z",
    "republish --aggregate 0199c9a4-1f00-7000-8000-000000000001",
    "republish --after 7,12 --up-to 8,1",
]
REFUSED = [
    "weather",
    "history weather",
    "rebuild",
    "rebuild weather",
    "parked weather",
    "show twelve",
    "discard 12",
    "retry history",
    "republish --since 2026-11-30T00:00:00",
    "republish --type NONE",
    "republish --after 7",
]


@pytest.mark.parametrize("words", UNDERSTOOD)
def test_command_is_understood(words: str) -> None:
    assert callable(_action(words.split()))


@pytest.mark.parametrize("words", REFUSED)
def test_other_words_are_refused_with_what_is_right(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _action(words.split())

    assert ended.value.code == 2
    assert "usage: python -m projections" in capsys.readouterr().err


def test_everything_is_not_published_again_by_mistake() -> None:
    with pytest.raises(NotDone, match="--all"):
        _action(["republish"])


def test_help_names_every_command_and_projection(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _action(["--help"])

    shown = capsys.readouterr().out
    assert all(word in shown for word in ("rebuild", "pause", "republish", "discarded", *PROJECTIONS))


async def said(stack: Stack, *words: str) -> tuple[int | None, str]:
    """The exit code of a command, and what it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "projections", *words),
        env=stack.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await child.communicate()
    return child.returncode, told.decode()


async def test_parked_event_is_shown_and_discarded_with_a_reason_that_is_kept(
    stack: Stack, all_tenants: Database, tenant: str
) -> None:
    user: UUID = new_id()
    async with all_tenants.transaction() as tx:
        for _ in range(2):
            await park(tx, "history", [(consumed(tenant, user), "a mistake")])
        first, second = [row.id for row in await list_parked(tx, "history", str(user))]

    (_, status), (_, shown), (_, discarded), (_, kept), (code, gone) = [
        await said(stack, *words)
        for words in (
            ("status",),
            ("show", str(first)),
            ("discard", str(first), "Of a test account"),
            ("discarded", "history"),
            ("show", str(first)),
        )
    ]
    async with all_tenants.transaction() as tx:
        await delete_parked(tx, "history", [second])

    assert all(f"{name}\tgeneration " in status for name in PROJECTIONS)
    assert f"tenant {tenant}" in shown
    assert '"eventId"' in shown
    assert "1 more of this key stay parked" in discarded
    assert f"by the command line\t{user}\tOf a test account" in kept
    assert (code, gone) == (1, f"there is no parked event with the id {first}\n")


async def test_progress_and_pause_of_no_rebuild_say_so(stack: Stack) -> None:
    for words in (("pause", "notifications"), ("cancel", "notifications")):
        code, told = await said(stack, *words)
        assert code == 1
        assert "no workflow rebuilds notifications" in told
