"""What a round of a saved search reports: pure functions of what it finds, and of what was reported before.

A listing is reported when it is new, cheaper, or back on the market, and never twice in the same version. A relisting
is no news. Owners withdraw a listing and put it back, or delete it and list it again, to come first among the newest;
portals that mail each of these lose their readers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from domain.observations import MatchedListing, MatchReason
from domain.property_status import PropertyStatus

RELISTED_WITHIN = timedelta(days=30)
"""A listing that comes back within a month, at no lower price, was never away for somebody who looks for a home."""
DEAL_LASTS = timedelta(days=1)
"""An offer or a deal that stood for less than a day was entered by mistake, or to come first among the newest."""
LEAST_DROP_PERCENT = 1
"""By which a price must fall below the last one that was reported. Less is a price rounded, or lowered to be mailed."""
MAX_SHOWN = 14
"""Listings of one mail. The others are behind its link."""
MAX_UNREAD = 6
"""Mails in a row that nobody has read, after which a saved search pauses itself."""
UNREAD_FOR = timedelta(days=3)
"""How long the first of them was there to be read, more than a weekend: six instant mails may come within an hour."""

_DEALS = frozenset({PropertyStatus.UNDER_OFFER, PropertyStatus.SOLD, PropertyStatus.RENTED})


@dataclass(frozen=True)
class Step:
    """Status and price of a listing after one of its events."""

    at: datetime
    status: str
    price: int
    version: int = 0


@dataclass(frozen=True)
class Found:
    """A listing that the search finds, with its past."""

    id: UUID
    version: int
    title: str
    location: str
    price: int
    likeness: "Likeness"
    steps: tuple[Step, ...]
    """Oldest first."""
    late_since: datetime | None = None
    """The time of the first change that the read model applied late: the listing is judged from then on."""

    @property
    def public_at(self) -> datetime | None:
        """When it was offered for the first time."""
        return next((step.at for step in self.steps if step.status == PropertyStatus.ACTIVE), None)


@dataclass(frozen=True)
class Reported:
    """What the saved search has reported of a listing."""

    version: int
    price: int
    back_at: datetime | None = None
    """When it was reported as back on the market for the last time."""


@dataclass(frozen=True)
class Gone:
    """A listing that its owner has deleted or withdrawn."""

    id: UUID
    likeness: "Likeness"
    price: int
    listed_at: datetime
    at: datetime


@dataclass(frozen=True)
class Listed:
    """A listing that an owner has created, found by the search or not."""

    id: UUID
    likeness: "Likeness"
    at: datetime


@dataclass(frozen=True)
class Likeness:
    """What shows that two listings are of one home."""

    kind: tuple[Any, ...]
    """Owner, place, type, deal, rooms, area and floor, stated or not."""
    stated: frozenset[tuple[str, Any]]
    """What tells a home from others of its kind, as far as the listing states it."""

    def is_of_same_home(self, other: "Likeness") -> bool:
        """Whether all of the kind is equal, and one thing that both state."""
        return self.kind == other.kind and not self.stated.isdisjoint(other.stated)


def likeness_of(facts: Mapping[str, Any], owner_id: str) -> Likeness:
    """What is compared of a listing, from its JSON."""
    place = " ".join(str(facts.get("location", "")).casefold().split())
    same = ("propertyType", "listingType", "bedrooms", "bathrooms", "areaSqft", "floorNumber")
    stated: dict[str, Any] = {name: facts.get(name) for name in ("areaSqft", "floorNumber")}
    stated |= {name: " ".join(str(facts.get(name) or "").casefold().split()) or None for name in ("address", "title")}
    if facts.get("latitude") is not None and facts.get("longitude") is not None:
        stated["point"] = float(facts["latitude"]), float(facts["longitude"])
    return Likeness(
        (owner_id, place, *(facts.get(name) for name in same)),
        frozenset((name, value) for name, value in stated.items() if value is not None),
    )


def is_worth_reporting(price: int, before: int) -> bool:
    """Whether a price is so far below an earlier one that it is news."""
    return price * 100 <= before * (100 - LEAST_DROP_PERCENT)


def matches_of(
    found: Sequence[Found],
    reported: Mapping[UUID, Reported],
    gone: Iterable[Gone],
    since: datetime,
    listed: Iterable[Listed] = (),
) -> list[MatchedListing]:
    """Those of the found listings that are news since `since`, in their order, each with its reason.

    `reported` has what was reported of them, and of those in `gone`: a listing that came and went since, and that
    its owner was not notified of, makes no relisting of the one that follows it. `listed` has what the owners of those
    in `gone` have listed: one of them may be the relisting, also of an earlier round.
    """
    known = [one for one in gone if one.listed_at < since or one.id in reported]
    relisted = _relisted(found, listed, known) if known else {}
    matches = []
    for listing in found:
        judged_since = min(since, listing.late_since or since)
        reason = _reason(listing, reported.get(listing.id), relisted.get(listing.id), judged_since)
        if reason:
            because, previous_price = reason
            shown = MatchedListing(
                property_id=listing.id,
                version=listing.version,
                because=because,
                title=listing.title,
                location=listing.location,
                price=listing.price,
                previous_price=previous_price,
            )
            matches.append(shown)
    return matches


def _relisted(found: Iterable[Found], listed: Iterable[Listed], gone: Iterable[Gone]) -> dict[UUID, Gone]:
    """By the ids of relistings, what each was before: a listing that is gone makes one relisting, the first."""
    created = {one.id: one for one in listed}
    public = {one.id: Listed(one.id, one.likeness, one.public_at) for one in found if one.public_at}
    left, relisted = sorted(gone, key=lambda one: one.at), {}
    for new in sorted((created | public).values(), key=lambda one: (one.at, one.id)):
        for old in left:
            within = old.listed_at < new.at and abs(old.at - new.at) <= RELISTED_WITHIN
            if within and old.id != new.id and old.likeness.is_of_same_home(new.likeness):
                relisted[new.id] = old
                left.remove(old)
                break
    return relisted


def _reason(
    listing: Found, reported: Reported | None, gone: Gone | None, since: datetime
) -> tuple[MatchReason, int | None] | None:
    if reported and reported.version >= listing.version:
        return None
    if reported and is_worth_reporting(listing.price, reported.price):
        return MatchReason.CHEAPER, reported.price
    public = listing.public_at
    if public is None:
        return None  # its events are not those of the version that was found
    if reported is None and public >= since:
        if gone is None:
            return MatchReason.NEW, None
        return (MatchReason.CHEAPER, gone.price) if is_worth_reporting(listing.price, gone.price) else None
    if reported is None and is_worth_reporting(listing.price, known := _known_price(listing.steps, since)):
        return MatchReason.CHEAPER, known
    return (MatchReason.BACK, None) if _is_back(listing.steps, reported, since) else None


def _known_price(steps: Sequence[Step], since: datetime) -> int:
    """The price before `since` of a listing that was public then, to compare a later one with.

    Drops too small to be reported add up. A price that was raised within a month counts for nothing, or an owner could
    raise it to lower it again.
    """
    offered = [step for step in steps if step.status == PropertyStatus.ACTIVE and step.at < since]
    known = offered[0].price
    for step in offered[1:]:
        if step.at < since - RELISTED_WITHIN or is_worth_reporting(step.price, known):
            known = step.price
    return known


def _is_back(steps: Sequence[Step], reported: Reported | None, since: datetime) -> bool:
    """Whether a listing has come back to the market since `since`, after an absence that counts."""
    absent: list[Step] = []
    last: tuple[Step, list[Step]] | None = None
    was_public = False
    for step in steps:
        if step.status != PropertyStatus.ACTIVE:
            absent.append(step)
        else:
            if absent and was_public:
                last = step, absent
            absent, was_public = [], True
    if last is None or last[0].at < since:
        return False
    returned, absence = last
    if reported and returned.version <= reported.version:
        return False  # it was back when it was reported
    if reported and reported.back_at and returned.at - reported.back_at < RELISTED_WITHIN:
        return False
    deal = next((step for step in absence if step.status in _DEALS), None)
    if deal and returned.at - deal.at >= DEAL_LASTS:
        return True
    return returned.at - absence[0].at > RELISTED_WITHIN


@dataclass(frozen=True)
class SentMail:
    """A mail of a saved search."""

    notification_id: UUID
    """Of the same notice in the app."""
    at: datetime
    listings: frozenset[UUID]
    """Those that it reports."""
    delivered: bool = True
    """False while it waits to be sent, and for one that came back or that its owner does not want."""


@dataclass(frozen=True)
class Reading:
    """What the owner of a saved search did that shows that mails are read."""

    at: datetime
    notification_id: UUID | None = None
    """The notification that was read."""
    up_to: datetime | None = None
    """All notifications until then were read."""
    viewed: UUID | None = None
    """A listing that was viewed."""
    is_visit: bool = False
    """Whether the saved search itself was opened or changed."""


def unread_in_a_row(mails: Sequence[SentMail], readings: Sequence[Reading]) -> list[SentMail]:
    """The newest mails, down to the first that was read, which is none of them; `mails` are ordered by time.

    A mail counts as read when its notification in the app was read, when one of its listings was viewed after it was
    sent, or when the saved search was opened or changed after that. There is no pixel in a mail that would tell: mail
    programs load pictures for people who read nothing, and hide them from people who do.
    """
    newest = takewhile(lambda mail: not any(_shows_reading(one, mail) for one in readings), reversed(mails))
    return [*newest][::-1]


def is_given_up(unread: Sequence[SentMail], at: datetime) -> bool:
    """Whether its owner has left so many mails unread for so long that a saved search pauses itself."""
    delivered = [mail for mail in unread if mail.delivered]
    return len(delivered) >= MAX_UNREAD and at - delivered[0].at >= UNREAD_FOR


def _shows_reading(reading: Reading, mail: SentMail) -> bool:
    if reading.notification_id == mail.notification_id:
        return True
    if reading.up_to is not None:
        return reading.up_to >= mail.at
    return reading.at >= mail.at and (reading.is_visit or reading.viewed in mail.listings)
