"""The events of an account."""

from datetime import date
from typing import Annotated
from uuid import UUID

from domain import fields as f
from domain.model import Fact
from domain.roles import UserRole
from domain.user import UserStatus


class WholeUser(Fact):
    """The whole public state of an account after a change."""

    user_id: UUID
    username: Annotated[f.Username | f.Sealed, f.PERSONAL]
    email: Annotated[f.Email | f.Sealed, f.PERSONAL]
    first_name: Annotated[f.PersonName | f.Sealed, f.PERSONAL]
    last_name: Annotated[f.PersonName | f.Sealed, f.PERSONAL]
    phone_number: Annotated[f.Phone | f.Sealed | None, f.PERSONAL] = None
    address: Annotated[f.Address | f.Sealed | None, f.PERSONAL] = None
    city: f.Place | None = None
    state: f.Place | None = None
    pincode: f.Pincode | None = None
    date_of_birth: Annotated[date | f.Sealed | None, f.PERSONAL] = None
    role: UserRole
    status: UserStatus
    email_verified: bool = False
    phone_verified: bool = False
    second_factor: bool = False


class UserRegistered(WholeUser):
    """USER_REGISTERED: the whole public state of an account that was just opened."""


class UserUpdated(WholeUser):
    """USER_UPDATED: fields of a profile have changed."""

    changed: tuple[str, ...]
    """Names of the fields that changed."""


class UserVerificationRequested(WholeUser):
    """USER_VERIFICATION_REQUESTED: a mail with a link that verifies the e-mail address is to be sent."""

    reminder: int
    """The number of the reminder, 1 or 2; 0 for a mail that somebody has asked for."""


class UserVerified(WholeUser):
    """USER_VERIFIED: the e-mail address was verified."""


class UserVerificationExpired(WholeUser):
    """USER_VERIFICATION_EXPIRED: the e-mail address was not verified in time. No further reminder is sent."""


class UserPasswordResetRequested(WholeUser):
    """USER_PASSWORD_RESET_REQUESTED: a mail with a link that sets a new password is to be sent."""


class UserPasswordChanged(WholeUser):
    """USER_PASSWORD_CHANGED: the password was changed by its owner, or reset by a link."""

    was_reset: bool


class UserRoleChanged(WholeUser):
    """USER_ROLE_CHANGED: the operator or an administrator has changed the role."""

    from_role: UserRole


class UserStatusChanged(WholeUser):
    """USER_STATUS_CHANGED: an administrator has suspended or reinstated the account."""

    from_status: UserStatus
    reason: Annotated[f.Note | f.Sealed | None, f.PERSONAL] = None


class UserSecondFactorChanged(WholeUser):
    """USER_SECOND_FACTOR_CHANGED: sign-in by password needs a code as well, or no longer does."""

    only_recovery_codes: bool = False
    """Whether only the recovery codes were replaced."""


class UserPasskeyAdded(WholeUser):
    """USER_PASSKEY_ADDED: the account has one more passkey, with which its owner signs in without a password."""

    passkey_id: UUID
    name: Annotated[f.Label | f.Sealed, f.PERSONAL]


class UserPasskeyRemoved(WholeUser):
    """USER_PASSKEY_REMOVED: a passkey of the account no longer signs in."""

    passkey_id: UUID
    name: Annotated[f.Label | f.Sealed, f.PERSONAL]
    removed: bool = True
    """Always true: the notice reads by it that a passkey was not added."""


class UserExportRequested(WholeUser):
    """USER_EXPORT_REQUESTED: a file with the user's history and data is to be written."""

    export_id: UUID


class UserDeleted(Fact):
    """USER_DELETED: the account was erased; its personal data and its key follow within minutes."""

    user_id: UUID


UserFact = (
    UserRegistered
    | UserUpdated
    | UserVerificationRequested
    | UserVerified
    | UserVerificationExpired
    | UserPasswordResetRequested
    | UserPasswordChanged
    | UserRoleChanged
    | UserStatusChanged
    | UserSecondFactorChanged
    | UserPasskeyAdded
    | UserPasskeyRemoved
    | UserExportRequested
    | UserDeleted
)
