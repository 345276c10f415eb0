"""An account: its fields and their constraints."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain.model import Fact, MergePatch, Model
from domain.roles import UserRole


class UserStatus(StrEnum):
    PENDING_VERIFICATION = "PENDING_VERIFICATION"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    DELETED = "DELETED"


MAY_SIGN_IN = frozenset({UserStatus.PENDING_VERIFICATION, UserStatus.ACTIVE})
OpenRole = Literal[UserRole.USER, UserRole.AGENT, UserRole.BUILDER]
"""The roles that a person may register with. ADMIN is given by the operator only."""


class Registration(Model):
    """The body of a registration."""

    username: f.Username
    email: f.Email
    password: f.NewPassword
    first_name: f.PersonName
    last_name: f.PersonName
    phone_number: f.Phone | None = None
    role: OpenRole = UserRole.USER


class ProfilePatch(MergePatch):
    """A merge patch of a profile."""

    first_name: Annotated[f.PersonName, f.PERSONAL] = Field(default_factory=str)
    last_name: Annotated[f.PersonName, f.PERSONAL] = Field(default_factory=str)
    phone_number: Annotated[f.Phone | None, f.PERSONAL] = None
    address: Annotated[f.Address | None, f.PERSONAL] = None
    city: f.Place | None = None
    state: f.Place | None = None
    pincode: f.Pincode | None = None
    date_of_birth: Annotated[f.DateOfBirth | None, f.PERSONAL] = None


class User(Fact):
    """The state of an account, as the API returns it to its owner."""

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
    second_factor: bool = False
    """Whether sign-in by password needs a code of an authenticator app as well."""
    created_at: datetime
    updated_at: datetime
    last_login: datetime | None = None


class AccountSummary(Fact):
    """An account in the list of administrators: by what it is found and judged, without address and birthday."""

    id: UUID
    version: int
    username: f.Username
    email: f.Email
    first_name: f.PersonName
    last_name: f.PersonName
    role: UserRole
    status: UserStatus
    email_verified: bool
    second_factor: bool
    created_at: datetime
    last_login: datetime | None
