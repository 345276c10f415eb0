"""Making a user an administrator, and the administrator's rights."""

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from embedded.paths import ROOT, write_environment
from embedded.stack import Stack
from tests.platform import PASSWORD, Person, Platform, until
from tests.second_factors import enable


async def admin(stack: Stack, *arguments: str, **env: str) -> tuple[int, str]:
    """What `python -m admin` answers with the settings of a worker: its code, and what it wrote."""
    settings = {name: value for name, value in stack.env.items() if name != "JWT_PRIVATE_KEY"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "admin", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={**settings, "COMMAND_WAIT_SECONDS": "30", **env},
    )
    out, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode()


async def sign_in(platform: Platform, person: Person) -> Person:
    body = {"emailOrUsername": person.email, "password": PASSWORD}
    answer = (await platform.http.post("/api/auth/login", json=body)).json()
    user = answer["user"]
    return Person(user["id"], user["email"], user["username"], answer["accessToken"], answer["refreshToken"])


async def switch(platform: Platform, person: Person, property_id: str, what: str, *, value: bool) -> httpx.Response:
    return await platform.http.put(
        f"/api/properties/{property_id}/{what}", json={"value": value}, headers={**person.headers, "If-Match": "*"}
    )


async def test_administrator_is_made_by_a_command_with_event_history_and_trace(platform: Platform) -> None:
    person = await platform.register()

    code, output = await admin(platform.stack, "--email", person.email.upper())

    first, trace = output.splitlines()
    assert (code, first) == (0, f"{person.email} is ADMIN from the next sign-in on.")
    renewed = await platform.http.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})
    assert renewed.json()["type"] == "/problems/invalid-refresh-token"
    person = await sign_in(platform, person)
    profile = await platform.http.get("/api/users/profile", headers=person.headers)
    assert profile.json()["role"] == "ADMIN"

    async def entry() -> list[dict[str, object]]:
        return [entry for entry in await platform.history(person) if entry["activityType"] == "USER_ROLE_CHANGED"]

    [updated] = await until(entry)
    assert updated["activityData"] == {"accountId": person.id, "fromRole": "USER", "toRole": "ADMIN"}
    command_id = trace.rpartition("%2F")[2]
    state = (await platform.http.get(f"/api/commands/{command_id}", headers=person.headers)).json()
    assert (state["type"], state["status"]) == ("change-role", "COMPLETED")
    assert trace == f"Trace: {state['traceUrl']}"


async def test_second_time_changes_nothing_and_a_role_can_be_taken_back(platform: Platform) -> None:
    person = await platform.register()
    await admin(platform.stack, "--email", person.email)

    again = await admin(platform.stack, "--email", person.email)
    back = await admin(platform.stack, "--email", person.email, "--role", "AGENT")

    assert (again[0], again[1].splitlines()[0]) == (0, f"{person.email} is ADMIN already. Nothing was changed.")
    assert back[0] == 0
    person = await sign_in(platform, person)  # a new role closes the sessions
    profile = await platform.http.get("/api/users/profile", headers=person.headers)
    assert (profile.json()["role"], profile.headers["ETag"]) == ("AGENT", '"3"')


async def test_second_factor_of_an_owner_who_has_lost_it_is_disabled(platform: Platform) -> None:
    person = await platform.register()
    await enable(platform.http, person.headers)
    refused = await platform.http.post("/api/auth/login", json={"emailOrUsername": person.email, "password": PASSWORD})

    first, again = [await admin(platform.stack, "--email", person.email, "--disable-second-factor") for _ in range(2)]

    assert refused.json()["type"] == "/problems/second-factor-required"
    done, trace = first[1].splitlines()
    assert (first[0], done) == (0, f"{person.email} signs in without a code from now on. Passkeys are as they were.")
    assert "disable-second-factor" in trace
    assert (again[0], again[1].splitlines()[0]) == (0, f"{person.email} has no authenticator app. Nothing was changed.")
    profile = await platform.http.get("/api/users/profile", headers=(await sign_in(platform, person)).headers)
    assert (profile.json()["secondFactor"], profile.json()["role"]) == (False, "USER")


async def test_unknown_account_is_reported(platform: Platform) -> None:
    guest = await platform.register(host="second.localhost")

    unknown = await admin(platform.stack, "--email", "nobody@example.com")
    elsewhere = await admin(platform.stack, "--email", guest.email)
    there = await admin(platform.stack, "--email", guest.email, "--tenant", "second")

    none = "There is no account with the e-mail address {} in the tenant hyderabad. {}\n"
    assert unknown == (1, none.format("nobody@example.com", "Register it, or check the spelling."))
    assert elsewhere == (1, none.format(guest.email, "There is one in second: choose it with --tenant."))
    assert there[0] == 0


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("TEMPORAL_ADDRESS", "127.0.0.1:1", "was not changed: The command service is unavailable."),
        ("DATABASE_URL", "postgresql://hyderabad@127.0.0.1:1/hyderabad", "Postgres is unavailable"),
    ],
)
async def test_unavailable_engine_is_reported_in_one_line(
    platform: Platform, setting: str, value: str, message: str
) -> None:
    person = await platform.register()

    code, output = await admin(platform.stack, "--email", person.email, **{setting: value, "LOG_LEVEL": "ERROR"})

    assert code == 1
    assert message in output
    assert len(output.splitlines()) == 1


async def test_administrator_features_and_verifies_listings_and_owners_do_not(platform: Platform) -> None:
    owner, person = await platform.register(), await platform.register()
    await admin(platform.stack, "--email", person.email)
    administrator = await sign_in(platform, person)
    draft = (await platform.create(owner, status="DRAFT")).json()["id"]
    listed = [(await platform.create(owner)).json()["id"] for _ in range(3)]
    await platform.http.put(
        f"/api/properties/{draft}/status", json={"status": "ACTIVE"}, headers={**owner.headers, "If-Match": "*"}
    )

    refused = [await switch(platform, owner, listed[0], what, value=True) for what in ("featured", "verified")]
    for property_id in listed:
        answer = await switch(platform, administrator, property_id, "featured", value=True)
        assert (answer.status_code, answer.json()["isFeatured"], answer.headers["ETag"]) == (200, True, '"2"')
    await switch(platform, administrator, draft, "featured", value=True)
    verified = await switch(platform, administrator, listed[0], "verified", value=True)
    again = await switch(platform, administrator, listed[0], "verified", value=True)
    await switch(platform, administrator, listed[1], "featured", value=False)
    page = (await platform.http.get("/api/properties/featured", params={"limit": "1"})).json()
    rest = await platform.http.get("/api/properties/featured", params={"cursor": page["nextCursor"]})

    assert [(answer.status_code, answer.json()["type"]) for answer in refused] == [(403, "/problems/forbidden")] * 2
    assert (verified.json()["isVerified"], verified.headers["ETag"], again.headers["ETag"]) == (True, '"3"', '"3"')
    items = page["items"] + rest.json()["items"]
    assert [item["id"] for item in items if item["ownerId"] == owner.id] == [draft, listed[2], listed[0]]
    assert all(item["isFeatured"] for item in items)


async def test_administrator_has_hidden_listings_among_their_favourites(platform: Platform) -> None:
    owner, person = await platform.register(), await platform.register()
    await admin(platform.stack, "--email", person.email)
    administrator = await sign_in(platform, person)
    draft = (await platform.create(owner, status="DRAFT")).json()

    added = await platform.http.put(f"/api/properties/{draft['id']}/favorite", headers=administrator.headers)
    page = await platform.http.get("/api/properties/favorites", headers=administrator.headers)

    assert added.status_code == 204
    items = [{**item, "favoritesCount": 0} for item in page.json()["items"]]  # which is counted meanwhile
    assert items == [draft]


async def test_environment_of_the_stack_reaches_a_shell_as_it_is_and_only_its_owner(tmp_path: Path) -> None:
    file, value = tmp_path / "environment", 'postgresql://user:it\'s $HOME "quoted"@host/name'
    write_environment(file, {"DATABASE_URL": value, "SECRET_KEY": "c2VjcmV0"})

    child = await asyncio.create_subprocess_exec(
        *(
            "sh",
            "-c",
            f'set -a; . "{file}"; exec "{sys.executable}" -c "import os; print(os.environ[\'DATABASE_URL\'])"',
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await child.communicate()

    assert out.decode() == f"{value}\n"
    assert file.stat().st_mode & 0o777 == 0o600
