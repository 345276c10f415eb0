"""Observations as events: version 0, and an activity for users with an account."""

from typing import get_args

from domain.activity import activity_of
from domain.events import KINDS, observation_events
from domain.observations import Observation, PropertyViewed, RecordActivity
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


def test_batch_of_a_later_release_is_read_and_its_further_fields_passed_over() -> None:
    batch = record_activity("hyderabad", view(new_id()), login(new_id()))
    sent = batch.model_dump(mode="json", by_alias=True)
    sent["shard"] = 7
    sent["observations"][0]["source"] = "map"
    sent["observations"][0]["data"]["userId"] = str(new_id())

    assert RecordActivity.model_validate(sent) == batch
    assert isinstance(RecordActivity.model_validate(sent).observations[0].data, PropertyViewed)


def test_every_observation_names_the_event_that_it_becomes() -> None:
    models = get_args(get_args(Observation)[0])

    assert {KINDS[model.model_fields["event_type"].default].model for model in models} == {
        model.model_fields["data"].annotation for model in models
    }
