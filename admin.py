"""`python -m admin --email ravi@example.com` (or `make admin EMAIL=...`): give an account a role, by default ADMIN.

It runs the command `change-role`, so the change has an event, an entry in the user's history and a trace in Temporal.
The role takes effect at the next sign-in: the sessions of the account are closed. The program needs the environment
variables of a worker.
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
from domain.user_commands import ChangeRole


class NotChanged(Exception):
    """The role was not changed. The text has the reason and what to do."""


@dataclass(frozen=True)
class Account:
    """The account whose role is changed."""

    tenant_id: str
    user_id: UUID
    email: str
    status: UserStatus


async def run(settings: Settings, email: str, tenant: str, role: UserRole) -> str:
    """Change the role; returns the text to print. Raises NotChanged."""
    database, all_tenants = Database.for_tenants(settings), Database.for_all_tenants(settings)
    try:
        account = await _found(all_tenants, email, tenant)
        keyring, signer = Keyring(settings.secret_bytes), Signer(settings.secret_bytes)
        commands = Commands(await temporal.connect(settings), database, keyring, signer, settings)
        command = ChangeRole(
            command_id=new_id(),
            tenant_id=account.tenant_id,
            user_id=account.user_id,
            issued_at=datetime.now(UTC),
            role=role,
        )
        outcome = await commands.run(command, f"to {role}")
    except DatabaseUnavailable as error:
        raise NotChanged(f"Postgres is unavailable: {error}. Nothing was changed; try again.") from error
    except ApiError as error:
        raise NotChanged(f"The role of {email} was not changed: {error.detail}") from error
    finally:
        await asyncio.gather(database.close(), all_tenants.close())
    if isinstance(outcome, Accepted):
        done = f"{account.email} will be {role}: the command is started, and is not saved yet. Follow it by its trace."
    elif outcome.saved.events:
        done = f"{account.email} is {role} from the next sign-in on."
    else:
        done = f"{account.email} is {role} already. Nothing was changed."
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
    chosen = parser.parse_args()
    settings = load_settings()
    set_up_logging(settings)
    try:
        done = asyncio.run(run(settings, chosen.email, chosen.tenant or settings.default_tenant, chosen.role))
    except NotChanged as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
