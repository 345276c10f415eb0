"""The commands and events of a favourite, with `decide` and `evolve`.

A favourite is a separate aggregate, one for each user and listing, so that many users can add one listing at the
same time without a version conflict and without changing the listing's version.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain import ids
from domain.command import Actor, Command
from domain.errors import PropertyNotFound
from domain.model import Fact
from domain.property import Property
from domain.property_commands import may_see


class Favorite(Fact):
    """The state of a favourite, with title and location of the listing when it was added."""

    user_id: UUID
    property_id: UUID
    owner_id: UUID
    """Of the listing."""
    title: f.Title
    location: f.Place
    is_favorite: bool
    version: int
    changed_at: datetime


class Viewer(Actor):
    """The user who sends a command, and the listing that it names, which they may or may not see."""

    listing: Property | None


class _FavoriteCommand(Command):
    property_id: UUID

    @property
    def aggregate_id(self) -> UUID:
        return ids.favorite_id(self.tenant_id, self.user_id, self.property_id)


class FavoriteProperty(_FavoriteCommand):
    """Add a listing to the favourites of the user who sends the command."""

    type: Literal["favorite-property"] = "favorite-property"


class UnfavoriteProperty(_FavoriteCommand):
    """Remove a listing from the favourites of the user who sends the command."""

    type: Literal["unfavorite-property"] = "unfavorite-property"


FavoriteCommand = Annotated[FavoriteProperty | UnfavoriteProperty, Field(discriminator="type")]


class _WholeFavorite(Fact):
    """The whole public state of a favourite after a change."""

    property_id: UUID
    user_id: UUID
    owner_id: UUID
    """Of the listing."""
    title: f.Title
    location: f.Place


class PropertyFavorited(_WholeFavorite):
    """PROPERTY_FAVORITED: a user has added a listing to their favourites."""

    is_favorite: Literal[True] = True


class PropertyUnfavorited(_WholeFavorite):
    """PROPERTY_UNFAVORITED: a user has removed a listing from their favourites."""

    is_favorite: Literal[False] = False


FavoriteFact = PropertyFavorited | PropertyUnfavorited


def decide(state: Favorite | None, command: FavoriteCommand, by: Viewer) -> list[FavoriteFact]:
    """The events that `command` causes; empty when it changes nothing. Raises PropertyNotFound.

    Only a listing that the user may see can be added. A favourite of a hidden or deleted listing can be removed.
    """
    listing = by.listing if by.listing and may_see(by.listing, by) else None
    match command:
        case FavoriteProperty():
            if listing is None:
                raise PropertyNotFound()
            if state and state.is_favorite:
                return []
            return [
                PropertyFavorited(
                    property_id=listing.id,
                    user_id=command.user_id,
                    owner_id=listing.owner_id,
                    title=listing.title,
                    location=listing.location,
                )
            ]
        case UnfavoriteProperty():
            if state is None and listing is None:
                raise PropertyNotFound()
            if state is None or not state.is_favorite:
                return []
            return [PropertyUnfavorited(**state.model_dump(include=set(_WholeFavorite.model_fields)))]


def evolve(state: Favorite | None, fact: FavoriteFact, version: int, at: datetime) -> Favorite:
    """The state after an event, which contains the whole state."""
    return Favorite(**dict(fact), version=version, changed_at=at)
