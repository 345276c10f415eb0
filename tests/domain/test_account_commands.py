"""What each command on an account causes, and what it refuses."""

from typing import Any

import pytest

from domain.command import Actor, Command
from domain.errors import (
    InvalidToken,
    NotAdmin,
    OwnAccount,
    PasskeyNotFound,
    Refusal,
    SecondFactorOff,
    SecondFactorOn,
    UserNotFound,
)
from domain.roles import UserRole
from domain.user import ProfilePatch, User, UserStatus
from domain.user_commands import (
    VERIFICATION_STEPS,
    AddPasskey,
    ChangePassword,
    ChangeUserStatus,
    Circumstances,
    DisableSecondFactor,
    EnableSecondFactor,
    EraseUser,
    ExpireVerification,
    RemovePasskey,
    RequestPasswordReset,
    RequestVerification,
    ResetPassword,
    UpdateProfile,
    VerifyEmail,
    decide,
    evolve,
)
from domain.user_events import (
    UserDeleted,
    UserPasskeyAdded,
    UserPasskeyRemoved,
    UserPasswordChanged,
    UserPasswordResetRequested,
    UserSecondFactorChanged,
    UserStatusChanged,
    UserUpdated,
    UserVerificationExpired,
    UserVerificationRequested,
    UserVerified,
)
from tests.samples import new_id, register_user

OPENING = register_user("hyderabad", phoneNumber="9848022338")
[OPENED] = decide(None, OPENING, Circumstances())
_ACCOUNT = evolve(None, OPENED, 1, OPENING.issued_at)
assert _ACCOUNT
ACCOUNT = _ACCOUNT
ADMIN = Circumstances(actor=Actor(user_id=new_id(), role=UserRole.ADMIN))
BY_LINK = Circumstances(token_is_valid=True)


def sent(command: Any, **fields: Any) -> Command:
    """A command on the account, by its owner unless `user_id` says otherwise."""
    owner = OPENING.model_dump(include={"tenant_id", "user_id", "issued_at"})
    made: Command = command(**{**owner, "command_id": new_id(), **fields})
    return made


def suspend(**fields: Any) -> Command:
    assert ADMIN.actor
    of_admin = {"user_id": ADMIN.actor.user_id, "account_id": ACCOUNT.id, "status": UserStatus.SUSPENDED}
    return sent(ChangeUserStatus, **{**of_admin, **fields})


def after(state: User, command: Command, by: Circumstances) -> User:
    """The state after a command that causes one event."""
    [fact] = decide(state, command, by)
    changed = evolve(state, fact, state.version + 1, command.issued_at)
    assert changed
    return changed


PASSKEY = {"passkey_id": new_id(), "credential_id": "Y3JlZA", "public_key": "a2V5", "sign_count": 0, "name": "Phone"}
CHANGES: dict[str, tuple[Command, Circumstances, type[Any]]] = {
    "profile": (sent(UpdateProfile, changes=ProfilePatch(city="Hyderabad")), Circumstances(), UserUpdated),
    "password": (sent(ChangePassword, password_hash="h", session_id=new_id()), Circumstances(), UserPasswordChanged),
    "forgotten": (sent(RequestPasswordReset), Circumstances(), UserPasswordResetRequested),
    "reset": (sent(ResetPassword, password_hash="h", token_hash="00"), BY_LINK, UserPasswordChanged),
    "reminder": (sent(RequestVerification, reminder=1), Circumstances(), UserVerificationRequested),
    "resent": (sent(RequestVerification), Circumstances(verification_step=2), UserVerificationRequested),
    "verified": (sent(VerifyEmail, token_hash="00"), BY_LINK, UserVerified),
    "expired": (sent(ExpireVerification), Circumstances(verification_step=2), UserVerificationExpired),
    "suspended": (suspend(), ADMIN, UserStatusChanged),
    "factor": (sent(EnableSecondFactor, secret="S", recovery_code_hashes=()), Circumstances(), UserSecondFactorChanged),
    "passkey": (sent(AddPasskey, **PASSKEY), Circumstances(), UserPasskeyAdded),
    "no passkey": (
        sent(RemovePasskey, passkey_id=PASSKEY["passkey_id"]),
        Circumstances(passkey_name="Phone"),
        UserPasskeyRemoved,
    ),
    "erased": (sent(EraseUser), Circumstances(), UserDeleted),
}


@pytest.mark.parametrize("change", CHANGES)
def test_command_causes_one_event_of_its_kind(change: str) -> None:
    command, by, kind = CHANGES[change]

    assert [type(fact) for fact in decide(ACCOUNT, command, by)] == [kind]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("deleted", [False, True])
def test_nothing_is_done_to_an_account_that_does_not_exist(change: str, deleted: bool) -> None:
    command, by, _ = CHANGES[change]
    state = ACCOUNT.model_copy(update={"status": UserStatus.DELETED}) if deleted else None

    with pytest.raises(UserNotFound):
        decide(state, command, by)


def test_profile_keeps_what_was_not_sent_and_loses_what_was_null() -> None:
    patch = ProfilePatch.model_validate({"lastName": "Reddy", "phoneNumber": None})

    changed = after(ACCOUNT, sent(UpdateProfile, changes=patch), Circumstances())

    assert (changed.first_name, changed.last_name, changed.phone_number) == ("Ravi", "Reddy", None)
    [fact] = decide(ACCOUNT, sent(UpdateProfile, changes=patch), Circumstances())
    assert isinstance(fact, UserUpdated)
    assert fact.changed == ("lastName", "phoneNumber")
    assert decide(changed, sent(UpdateProfile, changes=patch), Circumstances()) == []


def test_verified_account_is_active_and_is_not_reminded() -> None:
    verified = after(ACCOUNT, sent(VerifyEmail, token_hash="00"), BY_LINK)

    assert (verified.status, verified.email_verified) == (UserStatus.ACTIVE, True)
    for command in (
        sent(VerifyEmail, token_hash="00"),
        sent(RequestVerification),
        sent(RequestVerification, reminder=2),
        sent(ExpireVerification),
    ):
        assert decide(verified, command, BY_LINK) == []


def test_reminder_and_expiry_happen_once() -> None:
    for command, step in (
        (sent(RequestVerification, reminder=1), 1),
        (sent(RequestVerification, reminder=2), 2),
        (sent(ExpireVerification), VERIFICATION_STEPS),
    ):
        assert len(decide(ACCOUNT, command, Circumstances(verification_step=step - 1))) == 1
        assert decide(ACCOUNT, command, Circumstances(verification_step=step)) == []


def test_suspended_account_stays_suspended_when_verified_and_returns_to_what_it_was() -> None:
    suspended = after(ACCOUNT, suspend(), ADMIN)
    verified = after(suspended, sent(VerifyEmail, token_hash="00"), BY_LINK)

    assert (suspended.status, verified.status) == (UserStatus.SUSPENDED, UserStatus.SUSPENDED)
    reinstate = suspend(status=UserStatus.ACTIVE)
    assert after(suspended, reinstate, ADMIN).status is UserStatus.PENDING_VERIFICATION
    assert after(verified, reinstate, ADMIN).status is UserStatus.ACTIVE
    assert decide(ACCOUNT, reinstate, ADMIN) == []
    for command in (sent(RequestPasswordReset), sent(RequestVerification)):
        assert decide(suspended, command, Circumstances()) == []


def test_second_factor_is_part_of_the_state() -> None:
    with_factor = after(ACCOUNT, CHANGES["factor"][0], Circumstances())

    assert with_factor.second_factor
    [replaced] = decide(with_factor, sent(EnableSecondFactor, recovery_code_hashes=("00",)), Circumstances())
    assert isinstance(replaced, UserSecondFactorChanged)
    assert (replaced.second_factor, replaced.only_recovery_codes) == (True, True)
    assert not after(with_factor, sent(DisableSecondFactor), Circumstances()).second_factor
    assert decide(ACCOUNT, sent(DisableSecondFactor), Circumstances()) == []


def test_reset_removes_the_second_factor_of_an_address_that_was_never_verified() -> None:
    reset = sent(ResetPassword, password_hash="h", token_hash="00")
    with_factor = ACCOUNT.model_copy(update={"second_factor": True})
    verified = with_factor.model_copy(update={"email_verified": True})

    assert not after(with_factor, reset, BY_LINK).second_factor
    assert after(verified, reset, BY_LINK).second_factor


def test_erased_account_has_no_state() -> None:
    command = sent(EraseUser)
    [fact] = decide(ACCOUNT, command, Circumstances())

    assert evolve(ACCOUNT, fact, 2, command.issued_at) is None


@pytest.mark.parametrize(
    ("command", "by", "refusal", "code"),
    [
        (sent(ResetPassword, password_hash="h", token_hash="00"), Circumstances(), InvalidToken, "invalid-link"),
        (sent(VerifyEmail, token_hash="00"), Circumstances(), InvalidToken, "invalid-link"),
        (sent(RemovePasskey, passkey_id=new_id()), Circumstances(), PasskeyNotFound, "not-found"),
        (sent(EnableSecondFactor, recovery_code_hashes=()), Circumstances(), SecondFactorOff, "second-factor-off"),
        (suspend(), Circumstances(), NotAdmin, "forbidden"),
        (suspend(), Circumstances(actor=Actor(user_id=new_id(), role=UserRole.AGENT)), NotAdmin, "forbidden"),
        (suspend(user_id=ACCOUNT.id), ADMIN, OwnAccount, "forbidden"),
    ],
)
def test_command_is_refused(command: Command, by: Circumstances, refusal: type[Refusal], code: str) -> None:
    with pytest.raises(refusal) as refused:
        decide(ACCOUNT, command, by)

    assert refused.value.code == code


def test_second_factor_is_not_replaced_by_another() -> None:
    with_factor = after(ACCOUNT, CHANGES["factor"][0], Circumstances())

    with pytest.raises(SecondFactorOn) as refused:
        decide(with_factor, CHANGES["factor"][0], Circumstances())

    assert refused.value.code == "second-factor-on"
