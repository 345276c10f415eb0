"""The commands on the images of a listing: what each causes, and what everybody may see."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import ImageNotFound, InvalidChange, ListingClosed, NotOwner, TooManyImages, VersionConflict
from domain.image_commands import AddImages, ChangeImage, ImageMade, NewImage, OrderImages, RecordImage, RemoveImage
from domain.images import MOST_IMAGES, ImageRefusal, ImageStatus, listed
from domain.property import Property
from domain.property_commands import PropertyCommand, decide
from domain.property_events import (
    PropertyImageAdded,
    PropertyImageRefused,
    PropertyImageRemoved,
    PropertyImagesArranged,
    PropertyImagesUploaded,
    evolve,
)
from domain.property_status import PropertyStatus
from tests.samples import actor, create_property, new_id, picture

OWNER = new_id()
NOW = datetime(2026, 1, 5, tzinfo=UTC)
REFUSED = ImageMade(refused=ImageRefusal(code="truncated", detail="The file ends too early. Send it again."))


MADE = ImageMade(picture=picture())


class Listing:
    """A listing that commands change, as they are saved one after the other."""

    def __init__(self) -> None:
        command = create_property("hyderabad", OWNER)
        self.id = command.property_id
        self.state: Property = self._after(None, command, OWNER)

    def _after(self, state: Property | None, command: PropertyCommand, by: UUID) -> Property:
        self.facts: list[Any] = [*decide(state, command, actor(by))]
        for fact in self.facts:
            state = evolve(state, fact, (state.version if state else 0) + 1, NOW)
        assert state is not None
        return state

    def send(self, kind: type[Any], by: UUID = OWNER, **fields: Any) -> list[Any]:
        """The events of a command, which the listing has after it."""
        common = {"command_id": new_id(), "tenant_id": "hyderabad", "user_id": by, "issued_at": NOW}
        self.state = self._after(self.state, kind(**common, property_id=self.id, **fields), by)
        return self.facts

    def add(self, number: int = 1, made: ImageMade | None = None) -> list[UUID]:
        """Add images, and record what was made of each."""
        added = [NewImage(id=new_id(), upload_id=new_id(), file_name="a.jpg", size=1000) for _ in range(number)]
        self.send(AddImages, images=tuple(added))
        for each in added if made else ():
            self.send(RecordImage, image_id=each.id, made=made)
        return [each.id for each in added]

    @property
    def statuses(self) -> list[ImageStatus]:
        return [image.status for image in self.state.images]

    @property
    def shown(self) -> Sequence[UUID]:
        return [image.id for image in listed(self.state.images)]


def test_files_become_images_one_by_one() -> None:
    listing = Listing()
    first, second = listing.add(2)
    [uploaded] = listing.facts
    assert isinstance(uploaded, PropertyImagesUploaded)
    assert [each.id for each in uploaded.uploaded] == [first, second]
    assert (uploaded.images, listing.shown) == ((), [])

    [added] = listing.send(RecordImage, image_id=second, made=MADE)
    assert isinstance(added, PropertyImageAdded)
    assert added.images == (added.image,)
    assert (added.image.id, added.image.variants) == (second, picture().variants)
    assert added.image.is_primary, "the only one"

    [refused] = listing.send(RecordImage, image_id=first, made=REFUSED)
    assert isinstance(refused, PropertyImageRefused)
    assert refused.refused.code == "truncated"
    assert [image.id for image in refused.images] == [second]
    assert listing.statuses == [ImageStatus.REFUSED, ImageStatus.READY]
    assert listing.state.version == 4


@pytest.mark.parametrize("made", [MADE, REFUSED])
def test_what_was_made_is_recorded_once(made: ImageMade) -> None:
    listing = Listing()
    [image] = listing.add(made=made)
    before = listing.state
    assert listing.send(RecordImage, image_id=image, made=MADE) == []
    assert listing.state == before


def test_image_that_is_removed_meanwhile_or_a_deleted_listing_gets_no_picture() -> None:
    listing = Listing()
    [image] = listing.add()
    [removed] = listing.send(RemoveImage, image_id=image)
    assert isinstance(removed, PropertyImageRemoved)
    assert listing.send(RecordImage, image_id=image, made=MADE) == []
    command = RecordImage(
        command_id=new_id(),
        tenant_id="hyderabad",
        user_id=OWNER,
        issued_at=NOW,
        property_id=listing.id,
        image_id=image,
        made=MADE,
    )
    assert decide(None, command, actor(OWNER)) == []


def test_picture_is_recorded_for_a_listing_that_was_sold_meanwhile() -> None:
    listing = Listing()
    [image] = listing.add()
    listing.state = listing.state.model_copy(update={"status": PropertyStatus.SOLD})
    listing.send(RecordImage, image_id=image, made=MADE)
    assert listing.shown == [image]
    with pytest.raises(ListingClosed):
        listing.add()


def test_listing_has_ten_images_at_most_of_which_refused_ones_do_not_count() -> None:
    listing = Listing()
    listing.add(MOST_IMAGES - 1, MADE)
    refused = listing.add(1, REFUSED)
    with pytest.raises(TooManyImages, match="9 images"):
        listing.add(2)
    listing.add(1)
    assert len(listing.state.images) == MOST_IMAGES
    assert refused[0] not in {image.id for image in listing.state.images}, "the next files replace it"
    with pytest.raises(TooManyImages):
        listing.add(1)


def test_order_names_each_image_once() -> None:
    listing = Listing()
    first, second, third = listing.add(3)
    listing.send(RecordImage, image_id=third, made=MADE)
    listing.send(RecordImage, image_id=first, made=MADE)
    assert listing.shown == [first, third]

    [arranged] = listing.send(OrderImages, image_ids=(third, second, first))
    assert isinstance(arranged, PropertyImagesArranged)
    assert [image.id for image in arranged.images] == listing.shown == [third, first]
    assert listing.send(OrderImages, image_ids=(third, second, first)) == []
    for wrong in ((third, second), (third, second, first, first), (third, second, new_id())):
        with pytest.raises(InvalidChange) as refused:
            listing.send(OrderImages, image_ids=wrong)
        assert refused.value.field == "imageIds"


def test_one_image_stands_for_the_listing() -> None:
    listing = Listing()
    first, second, third = listing.add(3, MADE)

    def primary() -> list[UUID]:
        return [image.id for image in listed(listing.state.images) if image.is_primary]

    assert primary() == [first]
    listing.send(ChangeImage, image_id=second, is_primary=True)
    listing.send(ChangeImage, image_id=third, is_primary=True, caption="The garden")
    assert primary() == [third]
    listing.send(OrderImages, image_ids=(second, third, first))
    assert primary() == [third]
    listing.send(RemoveImage, image_id=third)
    assert primary() == [second]
    listing.send(ChangeImage, image_id=first, is_primary=True)
    listing.send(ChangeImage, image_id=first, is_primary=False)
    assert primary() == [second]


def test_caption_is_shown_to_all() -> None:
    listing = Listing()
    [image] = listing.add(made=MADE)
    [arranged] = listing.send(ChangeImage, image_id=image, is_primary=False, caption="The garden")
    assert [each.caption for each in arranged.images] == ["The garden"]
    listing.send(ChangeImage, image_id=image, is_primary=False)
    assert listing.state.images[0].caption is None


@pytest.mark.parametrize(("kind", "fields"), [(RemoveImage, {}), (ChangeImage, {"is_primary": True})])
def test_unknown_image_is_refused(kind: type[Any], fields: dict[str, Any]) -> None:
    with pytest.raises(ImageNotFound):
        Listing().send(kind, image_id=new_id(), **fields)


def test_only_the_owner_changes_images_at_the_version_that_they_know() -> None:
    listing = Listing()
    image = NewImage(id=new_id(), upload_id=new_id(), file_name="a.jpg", size=1)
    with pytest.raises(NotOwner):
        listing.send(AddImages, by=new_id(), images=(image,))
    with pytest.raises(VersionConflict):
        listing.send(AddImages, images=(image,), expected_versions=(7,))


@given(st.lists(st.tuples(st.sampled_from(["add", "made", "refused", "remove", "order", "primary"]), st.randoms())))
def test_events_show_what_the_state_has(steps: list[tuple[str, Any]]) -> None:
    """Whatever is done, the pictures in the last event are those of the state, and one of them is the primary one."""
    listing = Listing()
    for step, chance in steps:
        ids = [image.id for image in listing.state.images]
        if step == "add" or not ids:
            if len(ids) < MOST_IMAGES:
                listing.add()
        elif step in {"made", "refused"}:
            listing.send(RecordImage, image_id=chance.choice(ids), made=MADE if step == "made" else REFUSED)
        elif step == "remove":
            listing.send(RemoveImage, image_id=chance.choice(ids))
        elif step == "order":
            chance.shuffle(ids)
            listing.send(OrderImages, image_ids=tuple(ids))
        else:
            listing.send(ChangeImage, image_id=chance.choice(ids), is_primary=chance.random() < 0.5)
        shown = listed(listing.state.images)
        if listing.facts:
            assert listing.facts[-1].images == shown
        assert sum(image.is_primary for image in shown) == bool(shown)
