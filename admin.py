"""`python -m admin --email ravi@example.com` (or `make admin EMAIL=...`): give an account a role, by default ADMIN.

It runs the command `change-role`, so the change has an event, an entry in the user's history and a trace in Temporal.
The role takes effect at the next sign-in: the sessions of the account are closed. With `--disable-second-factor` it
runs the command of that name instead, for an owner who has lost both the authenticator app and the recovery codes. The
program needs the environment variables of a worker.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from adapters import temporal
from adapters.postgres import Database, DatabaseUnavailable
from adapters.sealing import Keyring
from adapters.settings import Settings, load_settings
from adapters.tables import users
from adapters.telemetry import set_up_logging
from api.commands import Accepted, Commands, new_id, trace_url
from api.errors import ApiError
from api.opaque import Signer
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN, UserStatus
from domain.user_commands import ChangeRole, DisableSecondFactor


class NotChanged(Exception):
    """The account was not changed. The text has the reason and what to do."""


@dataclass(frozen=True)
class Account:
    """The account that is changed."""

    tenant_id: str
    user_id: UUID
    email: str
    status: UserStatus


_ROLE = (
    "{email} will be {role}",
    "{email} is {role} from the next sign-in on.",
    "{email} is {role} already.",
)
_SECOND_FACTOR = (
    "{email} will sign in without a second factor",
    "{email} signs in without a code from now on. Passkeys are as they were.",
    "{email} has no authenticator app.",
)
"""The texts while the command is not saved, once it is, and when nothing has changed."""


async def run(settings: Settings, email: str, tenant: str, role: UserRole | None) -> str:
    """Change the role, or disable the second factor for None; returns the text to print. Raises NotChanged."""
    what, change = ("role", f"to {role}") if role else ("second factor", "Disable the second factor")
    database, all_tenants = Database.for_tenants(settings), Database.for_all_tenants(settings)
    try:
        account = await _found(all_tenants, email, tenant)
        keyring, signer = Keyring(settings.secret_bytes), Signer(settings.secret_bytes)
        commands = Commands(await temporal.connect(settings), database, keyring, signer, settings)
        command: ChangeRole | DisableSecondFactor
        sent = {"command_id": new_id(), "tenant_id": account.tenant_id, "user_id": account.user_id}
        if role:
            command = ChangeRole(**sent, issued_at=datetime.now(UTC), role=role)
        else:
            command = DisableSecondFactor(**sent, issued_at=datetime.now(UTC))
        outcome = await commands.run(command, change)
    except DatabaseUnavailable as error:
        raise NotChanged(f"Postgres is unavailable: {error}. Nothing was changed; try again.") from error
    except ApiError as error:
        raise NotChanged(f"The {what} of {email} was not changed: {error.detail}") from error
    finally:
        await asyncio.gather(database.close(), all_tenants.close())
    will_be, is_done, was_done = _ROLE if role else _SECOND_FACTOR
    if isinstance(outcome, Accepted):
        done = f"{will_be}: the command is started, and is not saved yet. Follow it by its trace."
    else:
        done = is_done if outcome.saved.events else f"{was_done} Nothing was changed."
    done = done.format(email=account.email, role=role)
    if account.status not in MAY_SIGN_IN:
        done += f"\nThe account is {account.status} and cannot sign in."
    return f"{done}\nTrace: {trace_url(settings, command.type, command.command_id)}"


async def _found(database: Database, email: str, tenant: str) -> Account:
    """The account with this e-mail address in a tenant. Raises NotChanged."""
    query = select(users.c.tenant_id, users.c.user_id, users.c.email, users.c.status)
    async with database.statements() as connection:
        rows = (await connection.execute(query.where(users.c.email_key == email.strip().lower()))).all()
    for row in rows:
        if row.tenant_id == tenant:
            return Account(row.tenant_id, row.user_id, row.email, UserStatus(row.status))
    elsewhere = " and ".join(sorted(row.tenant_id for row in rows))
    advice = f"There is one in {elsewhere}: choose it with --tenant." if rows else "Register it, or check the spelling."
    raise NotChanged(f"There is no account with the e-mail address {email} in the tenant {tenant}. {advice}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m admin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--email", required=True, help="the e-mail address of the account")
    parser.add_argument("--tenant", help="the tenant of the account (default: DEFAULT_TENANT)")
    parser.add_argument(
        "--role", type=UserRole, choices=list(UserRole), default=UserRole.ADMIN, help="the role (default: %(default)s)"
    )
    parser.add_argument(
        "--disable-second-factor",
        action="store_true",
        help="leave the role, and have the account sign in by password alone; first make sure who asks for it",
    )
    chosen = parser.parse_args()
    settings = load_settings()
    set_up_logging(settings)
    role = None if chosen.disable_second_factor else chosen.role
    try:
        done = asyncio.run(run(settings, chosen.email, chosen.tenant or settings.default_tenant, role))
    except NotChanged as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
