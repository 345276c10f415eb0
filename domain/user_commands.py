"""The commands on an account, with `decide` and `evolve`."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain.command import Actor, Change, Command
from domain.errors import (
    ExportRunning,
    InvalidChange,
    InvalidToken,
    NotAdmin,
    OwnAccount,
    PasskeyNotFound,
    SecondFactorOff,
    SecondFactorOn,
    UserNotFound,
    check_version,
)
from domain.model import Model
from domain.roles import UserRole
from domain.user import OpenRole, ProfilePatch, User, UserStatus
from domain.user_events import (
    UserDeleted,
    UserExportRequested,
    UserFact,
    UserPasskeyAdded,
    UserPasskeyRemoved,
    UserPasswordChanged,
    UserPasswordResetRequested,
    UserRegistered,
    UserRoleChanged,
    UserSecondFactorChanged,
    UserStatusChanged,
    UserUpdated,
    UserVerificationExpired,
    UserVerificationRequested,
    UserVerified,
    WholeUser,
)

VERIFICATION_STEPS = 3
"""Two reminders, then the expiry."""


class Account(Model):
    """The registration without the password."""

    username: Annotated[f.Username, f.PERSONAL]
    email: Annotated[f.Email, f.PERSONAL]
    first_name: Annotated[f.PersonName, f.PERSONAL]
    last_name: Annotated[f.PersonName, f.PERSONAL]
    phone_number: Annotated[f.Phone | None, f.PERSONAL] = None
    role: OpenRole = UserRole.USER


class RegisterUser(Command):
    """Open an account. The API has hashed the password; the argon2id hash is encrypted like a personal value."""

    type: Literal["register-user"] = "register-user"
    account: Account
    password_hash: Annotated[str, f.PERSONAL]

    @property
    def aggregate_id(self) -> UUID:
        return self.user_id

    @property
    def names(self) -> tuple[str, ...]:
        return (self.account.email, self.account.username)


class _OwnAccount(Change):
    """A command on the account of the user who sends it."""

    @property
    def aggregate_id(self) -> UUID:
        return self.user_id


class _AnyAccount(Change):
    """A command of an administrator on any account."""

    account_id: UUID | None = None
    """None for a command of the operator, whose user is the account itself."""

    @property
    def aggregate_id(self) -> UUID:
        return self.account_id or self.user_id


class UpdateProfile(_OwnAccount):
    """Change some fields of a profile."""

    type: Literal["update-profile"] = "update-profile"
    changes: ProfilePatch


class ChangePassword(_OwnAccount):
    """Replace the password; the API has verified the current one. Other sessions are closed."""

    type: Literal["change-password"] = "change-password"
    password_hash: Annotated[str, f.PERSONAL]
    session_id: UUID
    """The session that stays open."""


class RequestPasswordReset(_OwnAccount):
    """Send a link that sets a new password. For an unknown address, `user_id` is of no account."""

    type: Literal["request-password-reset"] = "request-password-reset"


class ResetPassword(_OwnAccount):
    """Set a new password by a link. Every session is closed.

    If the address was never verified, the second factor and the passkeys are removed as well: somebody else may have
    registered with it, and would still sign in, or keep its owner out.
    """

    type: Literal["reset-password"] = "reset-password"
    password_hash: Annotated[str, f.PERSONAL]
    token_hash: str
    """SHA-256 of the link's token, in hexadecimal digits."""


class RequestVerification(_OwnAccount):
    """Send a link that verifies the e-mail address: a reminder, or on request. `user_id` may be of no account."""

    type: Literal["request-verification"] = "request-verification"
    reminder: int = 0


class VerifyEmail(_OwnAccount):
    """Verify the e-mail address by a link."""

    type: Literal["verify-email"] = "verify-email"
    token_hash: str
    """SHA-256 of the link's token, in hexadecimal digits."""


class ExpireVerification(_OwnAccount):
    """End the reminders of an e-mail address that was not verified in time."""

    type: Literal["expire-verification"] = "expire-verification"


class ChangeRole(_AnyAccount):
    """Change the role of an account. Sent by an administrator, or by the operator (`python -m admin`)."""

    type: Literal["change-role"] = "change-role"
    role: UserRole


class ChangeUserStatus(_AnyAccount):
    """Suspend or reinstate an account. Suspending closes its sessions."""

    type: Literal["change-user-status"] = "change-user-status"
    status: Literal[UserStatus.ACTIVE, UserStatus.SUSPENDED]
    reason: Annotated[f.Note | None, f.PERSONAL] = None


class EnableSecondFactor(_OwnAccount):
    """Require a code of an authenticator app at sign-in by password, or replace the recovery codes.

    The API has verified a code. Requiring one closes the other sessions, which were opened without.
    """

    type: Literal["enable-second-factor"] = "enable-second-factor"
    secret: Annotated[str | None, f.PERSONAL] = None
    """The base32 secret of RFC 6238; None keeps the present one, and only the recovery codes are replaced."""
    recovery_code_hashes: tuple[str, ...]
    """SHA-256 of each recovery code, in hexadecimal digits."""
    step: int = 0
    """The time step of the code that was verified: codes up to it sign in no more."""
    session_id: UUID | None = None
    """The session in which the code was given: it counts as opened with a second factor."""


class DisableSecondFactor(_OwnAccount):
    """Sign in by password alone again. The API has verified the password and a code."""

    type: Literal["disable-second-factor"] = "disable-second-factor"


class AddPasskey(_OwnAccount):
    """Add a passkey. The API has verified the authenticator's attestation."""

    type: Literal["add-passkey"] = "add-passkey"
    passkey_id: UUID
    credential_id: str
    """base64url, as in WebAuthn."""
    public_key: str
    """base64url of the COSE key."""
    sign_count: int
    transports: tuple[str, ...] = ()
    session_id: UUID | None = None
    """The session in which the passkey was made: it counts as opened with a second factor."""
    name: Annotated[f.Label, f.PERSONAL]


class RemovePasskey(_OwnAccount):
    """Remove a passkey."""

    type: Literal["remove-passkey"] = "remove-passkey"
    passkey_id: UUID


class ExportHistory(_OwnAccount):
    """Write a file with the history and the data of the account, and mail a link to it. The id is the command's."""

    type: Literal["export-history"] = "export-history"


class EraseUser(_OwnAccount):
    """Erase the account and the person's data. The API has verified the password, and a code if one is required."""

    type: Literal["erase-user"] = "erase-user"


UserCommand = Annotated[
    RegisterUser
    | UpdateProfile
    | ChangePassword
    | RequestPasswordReset
    | ResetPassword
    | RequestVerification
    | VerifyEmail
    | ExpireVerification
    | ChangeRole
    | ChangeUserStatus
    | EnableSecondFactor
    | DisableSecondFactor
    | AddPasskey
    | RemovePasskey
    | ExportHistory
    | EraseUser,
    Field(discriminator="type"),
]
"""The commands that are saved. `expire-verification` is a step of the workflow `email-verification`."""


class Circumstances(Model):
    """What a decision needs besides the state of the account."""

    actor: Actor | None = None
    """None for a command of the operator, of a link, or of a workflow."""
    token_is_valid: bool = False
    """Whether the link's token is of this account, unused and not expired."""
    passkey_name: str | None = None
    """Of the passkey that the command names; None when there is none."""
    verification_step: int = 0
    """Reminders that were sent; VERIFICATION_STEPS after the expiry."""
    export_is_running: bool = False
    """Whether an export was requested that is not written yet."""


_STATE_FIELDS = [name for name in WholeUser.model_fields if name != "user_id"]


def decide(state: User | None, command: Command, by: Circumstances) -> list[UserFact]:
    """The events that `command` causes; empty when it changes nothing.

    Raises UserNotFound, VersionConflict, NotAdmin, OwnAccount, InvalidChange, InvalidToken, SecondFactorOn,
    SecondFactorOff, PasskeyNotFound or ExportRunning.
    """
    if isinstance(command, RegisterUser):
        if state is not None:
            return []
        opened = {"user_id": command.user_id, "status": UserStatus.PENDING_VERIFICATION, **dict(command.account)}
        return [UserRegistered(**opened)]
    if state is None or state.status is UserStatus.DELETED:
        raise UserNotFound()
    if isinstance(command, _AnyAccount) and command.account_id is not None:
        if by.actor is None or not by.actor.is_admin:
            raise NotAdmin()
        if command.account_id == command.user_id:
            raise OwnAccount()
    assert isinstance(command, Change)
    check_version(command.expected_versions, state.version)
    return _decided(state, command, by)


def _decided(state: User, command: Any, by: Circumstances) -> list[UserFact]:
    match command:
        case UpdateProfile():
            born = command.changes.date_of_birth
            if born and born > command.issued_at.date():
                raise InvalidChange("Give a date in the past.", "dateOfBirth")
            changed = {name: value for name, value in _sent(command.changes) if value != getattr(state, name)}
            names = tuple(sorted(ProfilePatch.model_fields[name].alias or name for name in changed))
            return [UserUpdated(changed=names, **_with_changes(state, **changed))] if changed else []
        case ChangePassword():
            return [UserPasswordChanged(was_reset=False, **_with_changes(state))]
        case RequestPasswordReset():
            return [UserPasswordResetRequested(**_with_changes(state))] if state.status in _USABLE else []
        case ResetPassword():
            if not by.token_is_valid or state.status not in _USABLE:
                raise InvalidToken()
            # Whoever registered with an address that is not verified need not be its owner, who has this link.
            factor = state.second_factor and state.email_verified
            return [UserPasswordChanged(was_reset=True, **_with_changes(state, second_factor=factor))]
        case RequestVerification(reminder=reminder):
            sent_already = reminder > 0 and reminder <= by.verification_step
            if state.email_verified or state.status not in _USABLE or sent_already:
                return []
            return [UserVerificationRequested(reminder=reminder, **_with_changes(state))]
        case VerifyEmail():
            if not by.token_is_valid:
                raise InvalidToken()
            if state.email_verified:
                return []
            verified = UserStatus.ACTIVE if state.status is UserStatus.PENDING_VERIFICATION else state.status
            return [UserVerified(**_with_changes(state, email_verified=True, status=verified))]
        case ExpireVerification():
            over = state.email_verified or by.verification_step >= VERIFICATION_STEPS
            return [] if over else [UserVerificationExpired(**_with_changes(state))]
        case ChangeRole(role=role):
            if role is state.role:
                return []
            return [UserRoleChanged(from_role=state.role, **_with_changes(state, role=role))]
        case ChangeUserStatus():
            wanted: UserStatus = command.status
            unverified = wanted is UserStatus.ACTIVE and not state.email_verified
            status = UserStatus.PENDING_VERIFICATION if unverified else wanted
            if status is state.status:
                return []
            change = {"from_status": state.status, "reason": command.reason}
            return [UserStatusChanged(**change, **_with_changes(state, status=status))]
        case EnableSecondFactor(secret=secret):
            if secret is None and not state.second_factor:
                raise SecondFactorOff()
            if secret is not None and state.second_factor:
                raise SecondFactorOn()
            return [
                UserSecondFactorChanged(only_recovery_codes=secret is None, **_with_changes(state, second_factor=True))
            ]
        case DisableSecondFactor():
            if not state.second_factor:
                return []
            return [UserSecondFactorChanged(**_with_changes(state, second_factor=False))]
        case AddPasskey():
            return [UserPasskeyAdded(passkey_id=command.passkey_id, name=command.name, **_with_changes(state))]
        case RemovePasskey():
            if by.passkey_name is None:
                raise PasskeyNotFound()
            return [UserPasskeyRemoved(passkey_id=command.passkey_id, name=by.passkey_name, **_with_changes(state))]
        case ExportHistory():
            if by.export_is_running:
                raise ExportRunning()
            return [UserExportRequested(export_id=command.command_id, **_with_changes(state))]
        case EraseUser():
            return [UserDeleted(user_id=state.id)]
    raise AssertionError(f"no decision for {command.type}")


_USABLE = frozenset({UserStatus.PENDING_VERIFICATION, UserStatus.ACTIVE})


def evolve(state: User | None, fact: UserFact, version: int, at: datetime) -> User | None:
    """The state after an event, whose personal fields must be decrypted; None after an erasure.

    The answer to a command contains the state: that of an erasure must contain nothing of the person.
    """
    if isinstance(fact, UserDeleted):
        return None
    known = dict(state) if state else {"id": fact.user_id, "created_at": at}
    fields = {name: getattr(fact, name) for name in _STATE_FIELDS}
    return User(**{**known, **fields, "version": version, "updated_at": at})


def _sent(changes: ProfilePatch) -> list[tuple[str, Any]]:
    return [(name, getattr(changes, name)) for name in changes.model_fields_set]


def _with_changes(state: User, **changes: Any) -> dict[str, Any]:
    """The fields of an event: the state with `changes` applied."""
    return {"user_id": state.id, **{name: getattr(state, name) for name in _STATE_FIELDS}, **changes}
