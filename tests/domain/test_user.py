"""Accounts: registration, changes of role, and the values that are refused."""

import pytest
from pydantic import ValidationError

from domain.errors import VersionConflict
from domain.roles import UserRole
from domain.user import Registration, UserStatus
from domain.user_commands import ChangeRole, Circumstances, decide, evolve
from domain.user_events import UserRegistered, UserRoleChanged
from tests.platform import registration
from tests.samples import register_user


def test_registered_account_is_pending_verification() -> None:
    command = register_user("hyderabad", role="AGENT")

    [event] = decide(None, command, Circumstances())

    assert isinstance(event, UserRegistered)
    assert (event.user_id, event.role, event.status) == (
        command.user_id,
        UserRole.AGENT,
        UserStatus.PENDING_VERIFICATION,
    )


def test_registered_user_is_not_registered_again() -> None:
    command = register_user("hyderabad")
    [event] = decide(None, command, Circumstances())

    assert decide(evolve(None, event, 1, command.issued_at), command, Circumstances()) == []


def test_role_is_changed_once_and_other_fields_stay() -> None:
    registering = register_user("hyderabad", phoneNumber="9848022338")
    [opened] = decide(None, registering, Circumstances())
    account = evolve(None, opened, 1, registering.issued_at)
    fields = registering.model_dump(include={"command_id", "tenant_id", "user_id", "issued_at"})
    command = ChangeRole(**fields, role=UserRole.ADMIN)

    [event] = decide(account, command, Circumstances())
    changed = evolve(account, event, 2, command.issued_at)

    assert account
    assert changed
    assert isinstance(event, UserRoleChanged)
    assert (event.from_role, changed.role, changed.version) == (UserRole.USER, UserRole.ADMIN, 2)
    assert changed == account.model_copy(update={"role": UserRole.ADMIN, "version": 2})
    assert decide(changed, command, Circumstances()) == []
    with pytest.raises(VersionConflict):
        decide(changed, command.model_copy(update={"expected_versions": (1,)}), Circumstances())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "ADMIN"),
        ("role", "ROOT"),
        ("username", "no spaces"),
        ("username", "ab"),
        ("email", "nobody"),
        ("password", "short"),
        ("password", "x" * 129),
        ("firstName", ""),
        ("lastName", "x" * 101),
        ("phoneNumber", "call me"),
        ("isAdmin", True),
    ],
)
def test_registration_refuses(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Registration.model_validate(registration(**{field: value}))


def test_email_is_lower_case_and_repr_hides_the_password() -> None:
    known = Registration.model_validate(registration(email="Ravi@Example.COM", password="do not print me"))

    assert known.email == "ravi@example.com"
    assert "do not print me" not in repr(known)
