"""The activity that saves commands on listings."""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.saving import Aggregate, CommandStore, Loaded
from adapters.current_state import PROPERTY_STATE, property_of
from adapters.postgres import Write
from adapters.tables import file_contents, person_keys, properties, property_images, users
from domain.command import Saved, SealedCommand
from domain.duplicates import place_key
from domain.errors import AccountClosed
from domain.image_commands import RecordImage
from domain.images import Image
from domain.property import Property
from domain.property_commands import PropertyCommand, Sender, decide
from domain.property_events import evolve
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, UserStatus

_OWNER = users.alias("owner")
_OWNER_ID = func.coalesce(properties.c.owner_id, users.c.user_id)
_LOAD = (
    select(
        users.c.role,
        users.c.status.label("account_status"),
        _OWNER.c.email_verified.label("owner_verified"),
        person_keys.c.wrapped_key,
        *PROPERTY_STATE,
    )
    .select_from(users)
    .outerjoin(properties, properties.c.property_id == bindparam("property_id"))
    .outerjoin(_OWNER, _OWNER.c.user_id == _OWNER_ID)
    .outerjoin(person_keys, person_keys.c.user_id == _OWNER_ID)
    .where(users.c.user_id == bindparam("actor_id"))
)
_LOAD_LISTING = (
    select(person_keys.c.wrapped_key, *PROPERTY_STATE)
    .select_from(properties)
    .outerjoin(person_keys, person_keys.c.user_id == properties.c.owner_id)
    .where(properties.c.property_id == bindparam("property_id"))
)


class Properties:
    """Saves the commands on listings."""

    def __init__(self, store: CommandStore, verified_email_tenants: Collection[str] = ()) -> None:
        """In `verified_email_tenants`, only listings of owners with a verified e-mail address become public."""
        self._store = store
        load = partial(_load, verified_email_tenants=frozenset(verified_email_tenants))
        self._property = replace(PROPERTY, load=load)

    @activity.defn
    async def save_property(self, command: SealedCommand) -> Saved:
        """Save a command, once. Raises the refusals of `domain/property_commands.py` as ApplicationError."""
        return await self._store.save(self._property, command)


async def _load(
    connection: AsyncConnection,
    command: Any,
    verified_email_tenants: Collection[str] = (),
    statuses: Container[str] = MAY_SIGN_IN,
) -> Loaded[Property]:
    """Load the listing, its owner's key, and what the command's decision needs.

    Raises AccountClosed unless the account of the user who sends the command has one of `statuses`.
    """
    if isinstance(command, RecordImage):
        return await _load_listing(connection, command)
    found = await connection.execute(_LOAD, {"property_id": command.property_id, "actor_id": command.user_id})
    row = found.mappings().one_or_none()
    if row is None or row["account_status"] not in statuses or row["wrapped_key"] is None:
        raise AccountClosed
    state = property_of(row) if row["property_id"] else None
    must_verify = command.tenant_id in verified_email_tenants and not row["owner_verified"]
    return Loaded(
        state=state,
        version=state.version if state else 0,
        actor=Sender(user_id=command.user_id, role=UserRole(row["role"]), owner_must_verify=must_verify),
        person_id=state.owner_id if state else command.user_id,
        key=row["wrapped_key"],
    )


async def _load_listing(connection: AsyncConnection, command: RecordImage) -> Loaded[Property]:
    """Load the listing alone: whoever has added the image, and whatever has become of the account since.

    Raises AccountClosed when the owner is erased.
    """
    found = await connection.execute(_LOAD_LISTING, {"property_id": command.property_id})
    row = found.mappings().one_or_none()
    if row and row["wrapped_key"] is None:
        raise AccountClosed
    state = property_of(row) if row else None
    return Loaded(
        state=state,
        version=state.version if state else 0,
        actor=Sender(user_id=command.user_id, role=UserRole.USER),
        person_id=state.owner_id if state else command.user_id,
        key=row["wrapped_key"] if row else b"",
    )


def _rows(command: Any, loaded: Loaded[Property], state: Property | None) -> Sequence[Write]:
    key = {"tenant_id": command.tenant_id, "property_id": command.property_id}
    if state is None:
        deleted = [Write(properties, key, "delete"), Write(property_images, key, "delete")]
        return deleted + _unused_contents(command.tenant_id, loaded.state.images if loaded.state else ())
    row = state.model_dump(exclude={"id", "images"}) | {"amenities": list(state.amenities)}
    row["place_key"] = place_key(state)
    return [Write(properties, {**key, **row}, "upsert"), *_image_rows(key, loaded.state, state)]


_NOT_JSON = {"command_id", "upload_id", "added_at"}


def _image_rows(key: Mapping[str, Any], before: Property | None, state: Property) -> Iterator[Write]:
    """The rows of the images that have changed."""
    present = {image.id: (n, image) for n, image in enumerate(before.images)} if before else {}
    for n, image in enumerate(state.images):
        if present.pop(image.id, None) != (n, image):
            row = image.model_dump(mode="json", exclude={"id", "key", *_NOT_JSON}) | image.model_dump(include=_NOT_JSON)
            more = {"position": n, "sha256": bytes.fromhex(image.key) if image.key else None}
            row["image_id"] = image.id
            yield Write(property_images, {**key, **row, **more}, "upsert")
    for image_id in present:
        yield Write(property_images, {**key, "image_id": image_id}, "delete")
    yield from _unused_contents(key["tenant_id"], [image for _, image in present.values()])


def _unused_contents(tenant_id: str, images: Iterable[Image]) -> list[Write]:
    """Begins the grace periods of contents, which the sweep takes no longer for those of an image in use."""
    keys = sorted({image.key for image in images if image.key})
    now = datetime.now(UTC)
    of = [{"tenant_id": tenant_id, "sha256": bytes.fromhex(key)} for key in keys]
    return [Write(file_contents, {**each, "claimed_at": now}, "update") for each in of]


PROPERTY: Aggregate[Property] = Aggregate(
    # Temporal stores the error of a command that is not valid: it must not contain the input.
    commands=TypeAdapter(PropertyCommand, config=ConfigDict(hide_input_in_errors=True)),
    load=_load,
    decide=decide,
    evolve=evolve,
    rows=_rows,
)
ERASED_OWNERS_PROPERTY = replace(PROPERTY, load=partial(_load, statuses={UserStatus.DELETED}))
"""For the commands of an erasure, whose account is closed."""
