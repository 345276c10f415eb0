"""A person with an account: what may be said of one, and what follows from a command."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from domain import fields as f
from domain.command import Command, Saved
from domain.model import Fact, Model


class UserRole(StrEnum):
    USER = "USER"
    AGENT = "AGENT"
    BUILDER = "BUILDER"
    ADMIN = "ADMIN"


class UserStatus(StrEnum):
    PENDING_VERIFICATION = "PENDING_VERIFICATION"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    DELETED = "DELETED"


MAY_SIGN_IN = frozenset({UserStatus.PENDING_VERIFICATION, UserStatus.ACTIVE})
OpenRole = Literal[UserRole.USER, UserRole.AGENT, UserRole.BUILDER]
"""The roles that a person may register with; nobody registers as ADMIN."""


class Registration(Model):
    """What a client sends to open an account."""

    username: f.Username
    email: f.Email
    password: f.NewPassword
    first_name: f.PersonName
    last_name: f.PersonName
    phone_number: f.Phone | None = None
    role: OpenRole = UserRole.USER


class Account(Model):
    """What `register_user` is told of the person: the registration without the password."""

    username: Annotated[f.Username, f.PERSONAL]
    email: Annotated[f.Email, f.PERSONAL]
    first_name: Annotated[f.PersonName, f.PERSONAL]
    last_name: Annotated[f.PersonName, f.PERSONAL]
    phone_number: Annotated[f.Phone | None, f.PERSONAL] = None
    role: OpenRole = UserRole.USER


class User(Model):
    """The state of an account: what the API answers to its owner."""

    id: UUID
    version: int
    username: Annotated[f.Username, f.PERSONAL]
    email: Annotated[f.Email, f.PERSONAL]
    first_name: Annotated[f.PersonName, f.PERSONAL]
    last_name: Annotated[f.PersonName, f.PERSONAL]
    phone_number: Annotated[f.Phone | None, f.PERSONAL] = None
    role: UserRole
    status: UserStatus
    email_verified: bool = False
    phone_verified: bool = False
    profile_image_url: str | None = None
    address: Annotated[f.Address | None, f.PERSONAL] = None
    city: f.Place | None = None
    state: f.Place | None = None
    pincode: f.Pincode | None = None
    date_of_birth: Annotated[date | None, f.PERSONAL] = None
    created_at: datetime
    updated_at: datetime
    last_login: datetime | None = None


class RegisterUser(Command):
    """Open an account. The password was hashed before; only its argon2id hash travels."""

    account: Account
    password_hash: str


class UserRegistered(Fact):
    """USER_REGISTERED: the whole public state of an account that was just opened."""

    user_id: UUID
    username: Annotated[f.Username | f.Sealed, f.PERSONAL]
    email: Annotated[f.Email | f.Sealed, f.PERSONAL]
    first_name: Annotated[f.PersonName | f.Sealed, f.PERSONAL]
    last_name: Annotated[f.PersonName | f.Sealed, f.PERSONAL]
    phone_number: Annotated[f.Phone | f.Sealed | None, f.PERSONAL] = None
    role: OpenRole
    status: UserStatus


class UserSaved(Saved):
    """The answer to every command on an account."""

    user: User


def decide(state: User | None, command: RegisterUser) -> list[UserRegistered]:
    """What happens when `command` meets `state`; the address is still to be verified."""
    if state is not None:
        return []
    return [UserRegistered(user_id=command.user_id, status=UserStatus.PENDING_VERIFICATION, **dict(command.account))]


def evolve(state: User | None, event: UserRegistered, version: int, at: datetime) -> User:
    """The state after `event`, whose personal fields must have been unsealed."""
    facts = {name: value for name, value in event if name != "user_id"}
    return User(id=event.user_id, version=version, created_at=state.created_at if state else at, updated_at=at, **facts)
