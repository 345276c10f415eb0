"""The table of transitions is what the domain allows."""

import re
from datetime import UTC, datetime

import pytest

from docs.statuses import statuses
from domain.errors import Refusal
from domain.property import ListingType
from domain.property_commands import ChangePropertyStatus, Sender, decide
from domain.property_events import evolve
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from tests.samples import actor, create_property, new_id


def documented() -> set[tuple[str, str, str, str]]:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (.+) \| (.+) \|$", statuses(), re.MULTILINE)
    return {(start, to, who, which) for start, to, who, which in rows if start != "from"}


def allowed(start: PropertyStatus, to: PropertyStatus, kind: ListingType, by: Sender, owner: Sender) -> bool:
    """Whether `decide` lets `by` change the status of a listing of `owner`."""
    created = create_property("t", owner.user_id, listingType=kind)
    [fact] = decide(None, created, owner)
    listing = evolve(None, fact, 1, datetime.now(UTC))
    assert listing is not None
    change = ChangePropertyStatus(
        command_id=new_id(),
        tenant_id="t",
        user_id=by.user_id,
        issued_at=datetime.now(UTC),
        property_id=listing.id,
        expected_versions=None,
        status=to,
    )
    try:
        decide(listing.model_copy(update={"status": start}), change, by)
    except Refusal:
        return False
    return True


@pytest.mark.parametrize("kind", ListingType)
@pytest.mark.parametrize("start", PropertyStatus)
def test_table_has_the_transitions_that_commands_make(start: PropertyStatus, kind: ListingType) -> None:
    owner, admin = actor(new_id()), actor(new_id(), UserRole.ADMIN)
    table = [
        (to, who) for a, to, who, which in documented() if a == start and (which == "all" or kind in which.split(", "))
    ]

    for by, word in ((owner, "owner"), (admin, "ADMIN")):
        made = {to for to in PropertyStatus if to is not start and allowed(start, to, kind, by, owner)}
        assert made == {to for to, who in table if word in who}


def test_transitions_of_the_platform_alone_have_no_command() -> None:
    platform = {(start, to): who for start, to, who, _ in documented() if "platform" in who}

    assert platform == {
        ("ACTIVE", "EXPIRED"): "the platform (no command yet)",
        ("PAUSED", "EXPIRED"): "the platform (no command yet)",
        ("PENDING_REVIEW", "ACTIVE"): "ADMIN, the platform (no command yet)",
        ("PENDING_REVIEW", "REJECTED"): "ADMIN, the platform (no command yet)",
    }
