"""Observations as events: version 0, and an activity for users with an account."""

from domain.activity import activity_of
from domain.events import observation_events
from tests.samples import login, new_id, record_activity, view


def test_observations_have_version_0_and_keep_their_ids() -> None:
    batch = record_activity("hyderabad", view(new_id()), login(new_id()))

    events = observation_events(batch)

    assert [event.version for event in events] == [0, 0]
    assert [event.event_type for event in events] == ["PROPERTY_VIEWED", "USER_LOGGED_IN"]
    assert [event.event_id for event in events] == [one.event_id for one in batch.observations]
    assert observation_events(batch) == events


def test_view_is_an_activity_of_its_visitor_and_an_anonymous_view_is_none() -> None:
    visitor = new_id()

    activities = [
        activity_of(event)
        for event in observation_events(record_activity("t", view(new_id(), visitor), view(new_id())))
    ]

    assert activities[0] is not None
    assert (activities[0].user_id, activities[0].description) == (visitor, "User viewed property: A flat by the lake")
    assert activities[1] is None
