"""What a round of a saved search reports, and when its mails count as read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.matching import (
    MAX_UNREAD,
    UNREAD_FOR,
    Found,
    Gone,
    Likeness,
    Listed,
    Reading,
    Reported,
    SentMail,
    Step,
    is_given_up,
    is_worth_reporting,
    likeness_of,
    matches_of,
    unread_in_a_row,
)
from domain.observations import MatchReason
from tests.samples import new_id

SINCE = datetime(2026, 11, 30, 6, 0, tzinfo=UTC)
DAY = timedelta(days=1)
_AREA = frozenset({("areaSqft", 900)})
LIKE, OTHER = Likeness(("owner", "uppal", "APARTMENT"), _AREA), Likeness(("owner", "uppal", "VILLA"), _AREA)
LISTING = new_id()


def step(days: float, status: str = "ACTIVE", price: int = 100) -> Step:
    """A step so many days after SINCE."""
    return Step(SINCE + days * DAY, status, price)


def found(*steps: Step) -> Found:
    versions = tuple(replace(one, version=n) for n, one in enumerate(steps, 1))
    return Found(LISTING, len(steps), "A flat by the lake", "Uppal", steps[-1].price, LIKE, versions)


def reason(
    *steps: Step, reported: Reported | None = None, gone: tuple[Gone, ...] = ()
) -> tuple[MatchReason, int | None] | None:
    matches = matches_of([found(*steps)], {LISTING: reported} if reported else {}, gone, SINCE)
    return (matches[0].because, matches[0].previous_price) if matches else None


NEW, BACK = (MatchReason.NEW, None), (MatchReason.BACK, None)


def cheaper_than(price: int) -> tuple[MatchReason, int]:
    return MatchReason.CHEAPER, price


def test_listing_that_was_listed_since_is_new() -> None:
    assert reason(step(0)) == NEW
    assert reason(step(-9, "DRAFT"), step(1)) == NEW
    assert reason(step(1), step(2, price=90)) == NEW


def test_listing_that_was_there_before_is_no_news_when_it_is_edited() -> None:
    assert reason(step(-9)) is None
    assert reason(step(-9), step(1)) is None
    assert reason(step(-9), step(1, price=120)) is None


def test_lower_price_is_news_also_after_a_higher_one_of_the_same_time() -> None:
    assert reason(step(-9), step(1, price=90)) == cheaper_than(100)
    assert reason(step(-9), step(1, price=120), step(2, price=90)) == cheaper_than(100)
    # It was raised and lowered again.
    assert reason(step(-9), step(1, price=120), step(2, price=100)) is None


@pytest.mark.parametrize(("price", "worth"), [(9_900, True), (9_901, False), (9_999, False), (10_000, False)])
def test_price_that_fell_by_less_than_a_hundredth_is_no_news(price: int, worth: bool) -> None:
    reported = Reported(version=1, price=10_000)
    expected = cheaper_than(10_000) if worth else None

    assert is_worth_reporting(price, 10_000) is worth
    assert reason(step(-9, price=10_000), step(1, price=price)) == expected
    assert reason(step(1, price=10_000), step(2, price=price), reported=reported) == expected


def test_small_drops_are_news_once_they_come_to_a_hundredth() -> None:
    steps = step(-9, price=10_000), step(-3, price=9_960), step(1, price=9_890)

    assert reason(*steps) == cheaper_than(10_000)
    assert reason(*steps[:2], step(1, price=9_910)) is None


def test_price_that_was_raised_within_a_month_to_be_lowered_again_is_no_news() -> None:
    assert reason(step(-90), step(-20, price=120), step(1, price=100)) is None
    assert reason(step(-90), step(-20, price=120), step(1, price=95)) == cheaper_than(100)
    assert reason(step(-90), step(-40, price=120), step(1, price=100)) == cheaper_than(120)
    # What it cost as a draft was never offered.
    assert reason(step(-9, "DRAFT", 80), step(-8), step(1, price=90)) == cheaper_than(100)


def test_same_version_is_never_reported_twice() -> None:
    steps = step(1), step(2, price=90)

    assert reason(*steps, reported=Reported(version=2, price=100)) is None
    assert reason(*steps, reported=Reported(version=3, price=100)) is None
    assert reason(*steps, reported=Reported(version=1, price=100)) == cheaper_than(100)


def test_reported_listing_is_news_again_only_below_the_price_that_was_reported() -> None:
    assert reason(step(1), step(2), reported=Reported(version=1, price=100)) is None
    assert reason(step(1), step(2, price=120), reported=Reported(version=1, price=100)) is None
    assert reason(step(-9), step(1, price=120), step(2, price=100), reported=Reported(1, price=90)) is None


@pytest.mark.parametrize("status", ["UNDER_OFFER", "SOLD", "RENTED"])
def test_listing_whose_deal_has_failed_is_back(status: str) -> None:
    assert reason(step(-9), step(-2, status), step(1)) == BACK
    assert reason(step(-9), step(-2, status), step(1, price=120)) == BACK
    assert reason(step(-9), step(-2, status), step(1), reported=Reported(version=1, price=100)) == BACK


def test_listing_that_was_back_when_it_was_reported_is_not_back_again() -> None:
    steps = step(1), step(2, "SOLD"), step(4), step(5)

    assert reason(*steps, reported=Reported(version=1, price=100)) == BACK
    assert reason(*steps, reported=Reported(version=3, price=100)) is None


def test_deal_of_less_than_a_day_is_a_relisting() -> None:
    assert reason(step(-9), step(0.5, "UNDER_OFFER"), step(1)) is None


@pytest.mark.parametrize("status", ["WITHDRAWN", "PAUSED", "EXPIRED", "REJECTED"])
def test_listing_that_is_put_back_at_the_same_price_within_a_month_is_a_relisting(status: str) -> None:
    assert reason(step(-60), step(-28, status), step(1)) is None
    assert reason(step(-60), step(-28, status), step(1, price=110)) is None
    assert reason(step(-60), step(-28, status), step(1), reported=Reported(version=1, price=100)) is None
    assert reason(step(-60), step(-28, status), step(1, price=95)) == cheaper_than(100)


def test_listing_that_was_away_for_longer_than_a_month_is_back() -> None:
    assert reason(step(-60), step(-30, "WITHDRAWN"), step(1)) == BACK
    assert reason(step(-60), step(-30, "PAUSED"), step(-3, "WITHDRAWN"), step(1)) == BACK


def test_listing_is_reported_as_back_once_a_month() -> None:
    steps = step(-60), step(-2, "UNDER_OFFER"), step(1)

    assert reason(*steps, reported=Reported(1, 100, back_at=SINCE - 20 * DAY)) is None
    assert reason(*steps, reported=Reported(1, 100, back_at=SINCE - 31 * DAY)) == BACK


def test_return_before_the_last_round_is_no_news() -> None:
    assert reason(step(-60), step(-30, "UNDER_OFFER"), step(-1), step(1)) is None


def test_draft_that_was_withdrawn_before_it_was_public_is_new() -> None:
    assert reason(step(-9, "DRAFT"), step(-8, "WITHDRAWN"), step(1)) == NEW


def test_home_that_its_owner_deleted_and_listed_again_is_a_relisting_unless_it_is_cheaper() -> None:
    def gone(price: int = 100, days: float = -3, likeness: Likeness = LIKE) -> tuple[Gone, ...]:
        return (Gone(new_id(), likeness, price, SINCE - 60 * DAY, SINCE + days * DAY),)

    assert reason(step(1), gone=gone()) is None
    assert reason(step(1, price=110), gone=gone()) is None
    assert reason(step(1, price=95), gone=gone()) == cheaper_than(100)
    # The copy was listed first, and the old listing deleted after that.
    assert reason(step(1), gone=gone(days=2)) is None
    assert reason(step(1), gone=gone(days=-31)) == NEW
    assert reason(step(1), gone=gone(likeness=OTHER)) == NEW
    assert reason(step(1, price=9_999), gone=gone(price=10_000)) is None


def test_home_that_came_and_went_since_is_a_relisting_only_if_it_was_reported() -> None:
    gone = Gone(new_id(), LIKE, 100, SINCE + DAY, SINCE + 2 * DAY)
    again = found(step(3))

    assert [match.because for match in matches_of([again], {}, [gone], SINCE)] == [MatchReason.NEW]
    assert matches_of([again], {gone.id: Reported(1, 100)}, [gone], SINCE) == []


def test_listing_is_no_relisting_of_itself() -> None:
    gone = Gone(LISTING, LIKE, 100, SINCE - DAY, SINCE)

    assert reason(step(1), gone=(gone,)) == NEW


def flats(count: int) -> list[Found]:
    """Flats of one builder that are alike, listed one after the other."""
    return [replace(found(step(1 + n / 100)), id=new_id()) for n in range(count)]


def test_listing_that_is_gone_makes_one_relisting_and_the_others_are_new() -> None:
    gone = Gone(new_id(), LIKE, 100, SINCE - 60 * DAY, SINCE - 3 * DAY)
    new = flats(20)

    assert [match.property_id for match in matches_of(new[::-1], {}, [gone], SINCE)] == [one.id for one in new[:0:-1]]
    assert len(matches_of(new, {}, [gone, replace(gone, id=new_id())], SINCE)) == 18


def test_relisting_of_an_earlier_round_leaves_no_other() -> None:
    gone = Gone(new_id(), LIKE, 100, SINCE - 60 * DAY, SINCE - 3 * DAY)
    earlier = Listed(new_id(), LIKE, SINCE - DAY)

    assert len(matches_of(flats(1), {}, [gone], SINCE, [earlier])) == 1
    # It was listed long before the other was deleted, or is of another kind: it took nobody's place.
    for other in (replace(earlier, at=SINCE - 40 * DAY), replace(earlier, likeness=OTHER)):
        assert matches_of(flats(1), {}, [gone], SINCE, [other]) == []


def test_listing_that_was_there_before_the_one_that_is_gone_is_no_relisting() -> None:
    gone = Gone(new_id(), LIKE, 100, SINCE + 2 * DAY, SINCE + 3 * DAY)

    assert len(matches_of(flats(1), {gone.id: Reported(1, 100)}, [gone], SINCE)) == 1


def test_change_that_came_late_is_judged_from_its_own_time() -> None:
    late = replace(found(step(-2), step(-1, price=90)), late_since=SINCE - 2 * DAY)

    assert [match.because for match in matches_of([late], {}, [], SINCE)] == [MatchReason.NEW]
    dropped = replace(late, late_since=SINCE - DAY)
    [match] = matches_of([dropped], {}, [], SINCE)
    assert (match.because, match.previous_price) == (MatchReason.CHEAPER, 100)
    back = found(step(-9), step(-5, "SOLD"), step(-1))
    assert matches_of([back], {}, [], SINCE) == []
    [match] = matches_of([replace(back, late_since=SINCE - DAY)], {}, [], SINCE)
    assert match.because is MatchReason.BACK


def test_homes_are_alike_by_owner_place_kind_and_size_but_not_by_price() -> None:
    facts: dict[str, Any] = {"title": "A", "location": "Uppal", "propertyType": "VILLA", "bedrooms": 2, "price": 1}
    facts |= {"areaSqft": 900}
    home = likeness_of(facts, "o")

    assert home.is_of_same_home(likeness_of({**facts, "title": "B", "location": " UPPAL ", "price": 2}, "o"))
    assert not home.is_of_same_home(likeness_of(facts, "somebody else"))
    others = (
        {"bedrooms": 3},
        {"location": "Uppal Kalan"},
        {"propertyType": "HOUSE"},
        {"floorNumber": 4},
        {"areaSqft": 1},
    )
    for other in others:
        assert not home.is_of_same_home(likeness_of({**facts, **other}, "o"))


@pytest.mark.parametrize(
    "stated",
    [{"areaSqft": 900}, {"floorNumber": 0}, {"latitude": 17.4, "longitude": 78.5}, {"address": "12-1"}, {"title": "B"}],
)
def test_homes_that_state_nothing_but_their_kind_are_not_the_same(stated: dict[str, Any]) -> None:
    plot = {"title": "A", "location": "Uppal", "propertyType": "PLOT", "latitude": None, "longitude": None}
    other = {**plot, "title": "C"}

    assert not likeness_of(plot, "o").is_of_same_home(likeness_of(other, "o"))
    assert likeness_of({**plot, **stated}, "o").is_of_same_home(likeness_of({**other, **stated}, "o"))


def mails(count: int) -> list[SentMail]:
    """A mail each day, each with a listing of its own."""
    return [SentMail(UUID(int=n), SINCE + n * DAY, frozenset({UUID(int=100 + n)})) for n in range(count)]


def test_mails_that_nobody_has_read_are_counted_from_the_newest() -> None:
    assert unread_in_a_row([], []) == []
    assert unread_in_a_row(mails(MAX_UNREAD), []) == mails(6)


@pytest.mark.parametrize(
    ("reading", "unread"),
    [
        (Reading(SINCE + 9 * DAY, notification_id=UUID(int=3)), 2),
        (Reading(SINCE + 9 * DAY, notification_id=UUID(int=77)), 6),
        (Reading(SINCE + 9 * DAY, up_to=SINCE + 4 * DAY), 1),
        (Reading(SINCE + 9 * DAY, up_to=SINCE - DAY), 6),
        (Reading(SINCE + 2.5 * DAY, viewed=UUID(int=102)), 3),
        # It was viewed before its mail was sent, or was in none.
        (Reading(SINCE + 1.5 * DAY, viewed=UUID(int=102)), 6),
        (Reading(SINCE + 9 * DAY, viewed=UUID(int=77)), 6),
        (Reading(SINCE + 4.5 * DAY, is_visit=True), 1),
        (Reading(SINCE + 9 * DAY, is_visit=True), 0),
        (Reading(SINCE - DAY, is_visit=True), 6),
    ],
)
def test_one_mail_that_was_read_ends_the_row(reading: Reading, unread: int) -> None:
    assert unread_in_a_row(mails(6), [reading]) == mails(6)[6 - unread :]


def test_search_is_given_up_after_six_unread_mails_of_which_the_first_is_days_old() -> None:
    of_an_hour = [SentMail(UUID(int=n), SINCE + n * timedelta(minutes=10), frozenset()) for n in range(6)]

    assert is_given_up(mails(6), SINCE + 5 * DAY)
    assert not is_given_up(mails(5), SINCE + 90 * DAY)
    assert not is_given_up(of_an_hour, of_an_hour[-1].at)
    assert not is_given_up(of_an_hour, SINCE + UNREAD_FOR - timedelta(seconds=1))
    assert is_given_up(of_an_hour, SINCE + UNREAD_FOR)


def test_mail_that_was_not_delivered_could_not_be_read() -> None:
    first, *others = mails(7)
    lost = replace(first, delivered=False)

    assert is_given_up([lost, *others], SINCE + 6 * DAY)
    assert not is_given_up([lost, *others[:5]], SINCE + 6 * DAY)
    # The first that was delivered counts from its own time.
    assert not is_given_up([lost, *others], others[0].at + UNREAD_FOR - timedelta(seconds=1))
