"""Settings: each has its row in docs/settings.md, and a process that lacks one says which and where to read of it."""

import asyncio
import base64
import os
import sys

import pytest
from pydantic import ValidationError

from adapters.settings import Settings
from embedded.paths import ROOT

PROCESSES = {
    "api": ["-m", "api"],
    "worker": ["worker.py"],
    "projections": ["-m", "projections"],
    "migrations": ["-m", "migrations"],
    "admin": ["-m", "admin", "--email", "ravi@example.com"],
}
SECRET_KEY = base64.b64encode(bytes(32)).decode()
KEY_OF_API = {"SECRET_KEY": SECRET_KEY, "JWT_PRIVATE_KEY": "/nowhere"}


async def ended(words: list[str], **env: str) -> tuple[int | None, list[str]]:
    """How a process ends that has no settings but `env`: its code, and what it writes to stderr."""
    bare = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    child = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, env={**bare, **env}, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await child.communicate()
    return child.returncode, errors.decode().splitlines()


def test_every_setting_has_its_row_with_default_and_meaning() -> None:
    page = (ROOT / "docs" / "settings.md").read_text().splitlines()
    rows = {cells[1].strip(" `"): cells[2:4] for line in page if len(cells := line.split("|")) == 5}

    assert {name.upper() for name in Settings.model_fields} == rows.keys() - {"setting", "---"}
    assert [name for name, cells in rows.items() if not all(cell.strip() for cell in cells)] == []


@pytest.mark.parametrize("process", PROCESSES)
async def test_process_that_lacks_a_setting_says_which_and_where_it_is_described(process: str) -> None:
    code, told = await ended(
        PROCESSES[process], KAFKA_PARTITIONS="many", TENANT_HOSTS="homes.example", LOG_LEVEL="LOUD"
    )

    assert code == 2
    wrong = ["KAFKA_PARTITIONS", "SECRET_KEY", "TENANT_HOSTS", "LOG_LEVEL"]
    assert [line.partition(":")[0] for line in told[:-1]] == wrong
    assert "docs/settings.md" in told[-1]


@pytest.mark.parametrize("env", [KEY_OF_API, {"SECRET_KEY": SECRET_KEY, "API_SERVICES": "cinema"}])
async def test_api_says_where_the_settings_are_described_that_it_alone_has(env: dict[str, str]) -> None:
    code, told = await ended(PROCESSES["api"], **env)

    assert code == 2
    assert told[0].startswith(("JWT_PRIVATE_KEY", "API_SERVICES"))
    assert "docs/settings.md" in told[-1]


def test_tenants_with_verified_addresses_are_comma_separated() -> None:
    assert Settings(secret_key=SECRET_KEY).verified_email_tenants == ()
    given = Settings(secret_key=SECRET_KEY, verified_email_tenants="hyderabad, second")
    assert given.verified_email_tenants == ("hyderabad", "second")


@pytest.mark.parametrize("tenants", ["Hyderabad", "hyderabad second", "2nd", "x" * 64])
def test_name_that_no_tenant_has_is_refused(tenants: str) -> None:
    with pytest.raises(ValidationError, match="verified_email_tenants"):
        Settings(secret_key=SECRET_KEY, verified_email_tenants=tenants)
