"""Limits of failed sign-ins: pauses that grow, what a success forgets, and who is not kept out by others."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import insert

from adapters import redis
from adapters.postgres import Database, DatabaseUnavailable
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import sessions
from api.errors import ApiError
from api.quotas import Quota, collected
from api.sign_in_limits import SignInLimits
from tests.activities.accounts import Saving
from tests.api.test_accounts import change_password, reset, reset_link
from tests.api.test_contract import assert_problem
from tests.api.test_erasure import erase
from tests.platform import PASSWORD, Platform, until
from tests.second_factors import enable

NAME, HERE, ELSEWHERE = "ravi@example.com", "203.0.113.9", "198.51.100.7"
LOW = {"login_failures": 3, "login_failures_per_address": 6, "login_failures_per_account": 4}


@pytest.fixture
def limits(valkey: Redis, database: Database, keyring: Keyring, settings: Settings) -> SignInLimits:
    return SignInLimits(valkey, database, keyring, settings.model_copy(update=LOW))


class Attempts:
    """Attempts to sign in to one tenant."""

    def __init__(self, limits: SignInLimits, valkey: Redis, tenant: str) -> None:
        self._limits = limits
        self._valkey = valkey
        self._tenant = tenant
        self.quotas: dict[str, Quota] = {}

    async def _try(self, name: str, address: str, error: Exception | None) -> int:
        """The seconds to wait if the attempt is refused, otherwise 0."""
        self.quotas = collected()
        try:
            async with self._limits.attempt(self._tenant, name, address):
                if error:
                    raise error
        except (ApiError, DatabaseUnavailable) as raised:
            if isinstance(raised, ApiError) and raised.kind == "too-many-requests":
                return int(raised.headers["Retry-After"])
            if raised is not error:
                raise
        return 0

    async def fail(self, name: str = NAME, address: str = HERE) -> int:
        return await self._try(name, address, ApiError("invalid-credentials"))

    async def succeed(self, name: str = NAME, address: str = HERE) -> int:
        return await self._try(name, address, None)

    async def without_answer(self, error: Exception, name: str = NAME, address: str = HERE) -> int:
        return await self._try(name, address, error)

    async def keys(self) -> list[str]:
        return [key.decode() async for key in self._valkey.scan_iter(match=f"{self._tenant}:*")]

    async def end_pauses(self, what: str = "") -> None:
        for key in await self.keys():
            if key.endswith(":pause") and f":{what}" in key:
                await self._valkey.delete(key)

    def left(self) -> dict[str, int]:
        return {name: quota.left for name, quota in self.quotas.items()}


@pytest.fixture
def attempts(limits: SignInLimits, valkey: Redis, tenant: str) -> Attempts:
    return Attempts(limits, valkey, tenant)


async def test_failures_of_a_name_from_an_address_begin_a_pause_that_doubles(attempts: Attempts) -> None:
    assert [await attempts.fail() for _ in range(3)] == [0, 0, 0]
    pauses = [await attempts.fail()]
    for _ in range(6):
        await attempts.end_pauses()
        assert await attempts.fail() == 0
        pauses.append(await attempts.fail())

    assert pauses == [30, 60, 120, 240, 480, 900, 900]


async def test_refused_attempts_do_not_lengthen_the_pause(attempts: Attempts) -> None:
    for _ in range(3):
        await attempts.fail()

    assert [await attempts.fail() for _ in range(20)] == [30] * 20


async def test_pause_of_a_name_from_an_address_is_for_no_other_name_and_no_other_address(attempts: Attempts) -> None:
    for _ in range(4):
        await attempts.fail()

    assert await attempts.fail("sita") == 0
    assert await attempts.fail(address=ELSEWHERE) == 0


async def test_success_forgets_the_failures_from_its_address_only(attempts: Attempts) -> None:
    await attempts.fail()
    await attempts.fail()
    assert await attempts.succeed() == 0

    assert attempts.left() == {"failed-logins": 3, "failed-logins-address": 4, "failed-logins-account": 2}
    assert [await attempts.fail() for _ in range(2)] == [0, 0]


async def test_success_of_the_last_attempt_before_a_pause_takes_the_pause_back(attempts: Attempts) -> None:
    await attempts.fail()
    await attempts.fail()
    await attempts.succeed()
    await attempts.fail()

    assert await attempts.succeed() == 0  # the fourth from all addresses
    assert await attempts.fail(address=ELSEWHERE) == 0
    assert await attempts.fail(address=ELSEWHERE) > 0


async def test_success_of_one_name_does_not_take_back_the_failures_of_others_at_its_address(attempts: Attempts) -> None:
    """Otherwise an attacker would sign in to an account of theirs between two guesses."""
    for n in range(5):
        await attempts.fail(f"name{n}")
        await attempts.succeed("the attacker's own")

    assert await attempts.fail("name5") == 0
    assert await attempts.fail("name6") == 30


@pytest.mark.parametrize("error", [ApiError("unavailable"), ApiError("account-closed"), DatabaseUnavailable("x")])
async def test_attempt_whose_password_was_not_found_wrong_is_not_counted(attempts: Attempts, error: Exception) -> None:
    assert [await attempts.without_answer(error) for _ in range(8)] == [0] * 8


async def test_refusal_after_the_right_password_forgets_nothing(attempts: Attempts) -> None:
    """So who knows the password, and guesses codes of a second factor, gets no further guesses by leaving one out."""
    for _ in range(3):
        await attempts.without_answer(ApiError("account-closed"))
        await attempts.fail()

    assert await attempts.fail() == 30


async def test_of_concurrent_attempts_no_more_are_admitted_than_of_successive_ones(
    limits: SignInLimits, tenant: str
) -> None:
    verified = 0

    async def attempt() -> None:
        nonlocal verified
        async with limits.attempt(tenant, NAME, HERE):
            verified += 1
            raise ApiError("invalid-credentials")

    await asyncio.gather(*(attempt() for _ in range(60)), return_exceptions=True)

    assert verified == LOW["login_failures"]


async def test_many_addresses_wait_for_one_account_but_a_minute_at_most(attempts: Attempts) -> None:
    pauses = []
    for n in range(12):
        while pause := await attempts.fail(address=f"192.0.2.{n}"):
            pauses.append(pause)
            await attempts.end_pauses()

    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60]


async def test_name_without_an_account_waits_like_one_with_an_account(
    attempts: Attempts, saving: Saving, tenant: str
) -> None:
    await saving.registered(tenant, email=NAME)

    async def answers(name: str, network: int) -> list[tuple[int, dict[str, int]]]:
        return [
            (await attempts.fail(name, f"2001:db8:{network}:{n % 3}::/64"), attempts.left())
            for n in range(LOW["login_failures_per_account"] + 3)
        ]

    assert await answers(NAME, 1) == await answers("nobody@example.com", 2)


@pytest.fixture
async def owner(saving: Saving, database: Database, keyring: Keyring, tenant: str) -> UUID:
    """An account whose owner was signed in at HERE."""
    user_id = await saving.registered(tenant, email=NAME, username="ravi")
    row = {
        "tenant_id": tenant,
        "session_id": uuid4(),
        "user_id": user_id,
        "opened_at": datetime.now(UTC),
        "address_digest": keyring.client_digest(HERE),
    }
    async with database.transaction(tenant) as tx:
        await tx.execute(insert(sessions).values(row))
    return user_id


@pytest.mark.parametrize("name", [NAME, "ravi"])
async def test_owner_at_a_known_address_is_not_kept_out_by_failures_from_elsewhere(
    attempts: Attempts, owner: UUID, name: str
) -> None:
    for n in range(8):
        await attempts.fail(name, f"192.0.2.{n}")
    assert await attempts.fail(name, ELSEWHERE) > 0

    assert [await attempts.fail(name, HERE) for _ in range(3)] == [0, 0, 0]
    assert await attempts.fail(name, HERE) == 30  # their own failures count as everybody's


async def test_success_at_a_known_address_does_not_end_the_pause_of_the_others(attempts: Attempts, owner: UUID) -> None:
    for n in range(8):
        await attempts.fail(address=f"192.0.2.{n}")

    assert await attempts.succeed(address=HERE) == 0
    assert await attempts.fail(address=ELSEWHERE) > 0


async def test_address_is_known_to_its_own_account_only(attempts: Attempts, owner: UUID) -> None:
    for n in range(8):
        await attempts.fail("sita", f"192.0.2.{n}")

    assert await attempts.fail("sita", HERE) > 0


async def test_owner_who_has_used_a_link_is_not_kept_out_at_that_address(
    attempts: Attempts, limits: SignInLimits, owner: UUID, tenant: str
) -> None:
    for n in range(8):
        await attempts.fail(address=f"192.0.2.{n}")
    await limits.trust(tenant, owner, ELSEWHERE)

    assert await attempts.succeed(address=ELSEWHERE) == 0


async def test_quota_says_what_is_left_and_how_long_a_pause_lasts(attempts: Attempts) -> None:
    await attempts.fail()
    assert attempts.left() == {"failed-logins": 2, "failed-logins-address": 5, "failed-logins-account": 3}
    assert 3590 <= attempts.quotas["failed-logins"].seconds <= 3600

    await attempts.fail()
    await attempts.fail()
    assert attempts.left()["failed-logins"] == 0
    assert attempts.quotas["failed-logins"].seconds == 30


async def test_failures_are_forgotten_after_their_window(attempts: Attempts, valkey: Redis) -> None:
    await attempts.fail()
    await attempts.fail()
    for key in await attempts.keys():
        await valkey.pexpire(key, 0)

    assert [await attempts.fail() for _ in range(3)] == [0, 0, 0]


async def test_window_begins_with_the_first_failure_and_is_extended_only_while_pauses_grow(
    attempts: Attempts, valkey: Redis
) -> None:
    async def windows() -> list[int]:
        return [await valkey.ttl(key) for key in await attempts.keys() if ":pair:" in key and not key.endswith("pause")]

    await attempts.fail()
    for key in await attempts.keys():
        await valkey.expire(key, 100)
    await attempts.fail()
    assert [ttl <= 100 for ttl in await windows()] == [True]

    await attempts.fail()
    assert [ttl > 3500 for ttl in await windows()] == [True]


async def test_keys_contain_neither_names_nor_addresses(
    attempts: Attempts, limits: SignInLimits, owner: UUID, tenant: str
) -> None:
    await attempts.fail()
    await limits.trust(tenant, owner, HERE)

    keys = await attempts.keys()
    assert len(keys) == 5  # three counters, and the trust of both names
    assert not [key for key in keys if "ravi" in key or HERE in key]


async def test_names_of_other_tenants_are_counted_by_themselves(
    attempts: Attempts, limits: SignInLimits, valkey: Redis
) -> None:
    for _ in range(4):
        await attempts.fail()

    assert await Attempts(limits, valkey, f"other-{uuid4().hex[:8]}").fail() == 0


async def test_owner_who_has_reset_the_password_signs_in_while_strangers_guess(
    platform: Platform, database: Database, keyring: Keyring, settings: Settings
) -> None:
    person, new = await platform.register(), "another lamp orbit nine"

    async def sign_in(address: str, password: str) -> int:
        body = {"emailOrUsername": person.email, "password": password}
        headers = {"X-Forwarded-For": address}  # the platform trusts its own machine as a proxy
        return (await platform.http.post("/api/auth/login", json=body, headers=headers)).status_code

    token = await reset_link(platform, database, keyring, person)
    assert (await reset(platform, token, new, **{"X-Forwarded-For": HERE})).status_code == 204
    strangers = itertools.count()

    async def stranger_is_refused() -> bool:
        return await sign_in(f"2001:db8:{next(strangers):x}::1", "a guess") == 429

    await until(stranger_is_refused)

    assert next(strangers) >= settings.login_failures_per_account
    assert await sign_in(ELSEWHERE, new) == 429
    assert await sign_in(HERE, new) == 200


async def test_owner_signs_in_from_where_they_have_signed_in_before_while_strangers_guess(platform: Platform) -> None:
    person = await platform.register()

    async def sign_in(address: str, password: str) -> int:
        body = {"emailOrUsername": person.email, "password": password}
        headers = {"X-Forwarded-For": address}
        return (await platform.http.post("/api/auth/login", json=body, headers=headers)).status_code

    assert await sign_in(HERE, PASSWORD) == 200
    strangers = itertools.count()

    async def stranger_is_refused() -> bool:
        return await sign_in(f"2001:db8:1:{next(strangers):x}::1", "a guess") == 429

    await until(stranger_is_refused)

    assert await sign_in(ELSEWHERE, PASSWORD) == 429
    assert await sign_in(HERE, PASSWORD) == 200


async def test_wrong_codes_of_an_account_begin_a_pause_that_doubles_up_to_an_hour(
    limits: SignInLimits, valkey: Redis, settings: Settings, tenant: str
) -> None:
    user_id, pauses = uuid4(), []

    async def guess(user_id: UUID, kind: str | None = "invalid-code") -> int:
        try:
            async with limits.code(tenant, user_id):
                if kind:
                    raise ApiError(kind)
        except ApiError as error:
            return int(error.headers.get("Retry-After", 0))
        return 0

    for _ in range(settings.code_failures - 1):
        assert await guess(user_id) == 0
    for kind in (None, "account-closed"):  # a right code takes back its own count, and the pause that it began
        assert await guess(user_id, kind) == 0
    for _ in range(8):
        assert await guess(user_id, "wrong-code") == 0
        pauses.append(await guess(user_id, None))
        await valkey.delete(f"{tenant}:failed-codes:{user_id}:pause")
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert await guess(uuid4(), None) == 0
    assert await valkey.ttl(f"{tenant}:failed-codes:{user_id}") > 86_000


async def test_codes_guessed_under_both_names_and_from_many_addresses_are_counted_together(
    platform: Platform, settings: Settings, valkey: Redis
) -> None:
    person = await platform.register()
    app = await enable(platform.http, person.headers)
    unknown = ["0" * len(code) for code in app.recovery_codes]

    async def sign_in(n: int, code: str) -> httpx.Response:
        name = (person.email, person.username)[n % 2]
        body = {"emailOrUsername": name, "password": PASSWORD, "code": code}
        headers = {"X-Forwarded-For": f"2001:db8:6:{n:x}::1"}
        return await platform.http.post("/api/auth/login", json=body, headers=headers)

    for n in range(settings.code_failures):
        assert_problem(await sign_in(n, app.wrong_code if n % 3 else unknown[0]), "invalid-code")
    for code in (app.code(1), app.recovery_codes[0]):
        assert_problem(await sign_in(99, code), "too-many-requests")
    assert_problem(await erase(platform, person, code=app.code(1)), "too-many-requests")

    await valkey.delete(f"hyderabad:failed-codes:{person.id}:pause")
    assert (await sign_in(100, app.code(1))).status_code == 200


@pytest.mark.parametrize("route", ["password", "profile"])
async def test_guesses_in_an_open_session_begin_a_pause_and_are_recorded(platform: Platform, route: str) -> None:
    person = await platform.register()

    async def guess(password: str) -> httpx.Response:
        if route == "password":
            return await change_password(platform, person, password)
        return await erase(platform, person, password)

    for _ in range(5):
        assert_problem(await guess("wrong horse battery"), "wrong-password")
    assert_problem(await guess(PASSWORD), "too-many-requests")

    async def all_are_recorded() -> bool:
        answer = await platform.http.get("/api/users/profile/security-events", headers=person.headers)
        return [event["type"] for event in answer.json()["items"]] == ["LOGIN_FAILED"] * 5

    await until(all_are_recorded)


@pytest.fixture
async def nowhere(settings: Settings) -> AsyncIterator[Redis]:
    client = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    yield client
    await client.aclose()


async def test_without_redis_nobody_signs_in_and_a_link_still_works(
    nowhere: Redis, database: Database, keyring: Keyring, settings: Settings, owner: UUID, tenant: str
) -> None:
    limits = SignInLimits(nowhere, database, keyring, settings)

    with pytest.raises(ApiError) as refused:
        async with limits.attempt(tenant, NAME, HERE):
            pytest.fail("the password must not be verified")

    assert refused.value.kind == "unavailable"
    await limits.trust(tenant, owner, HERE)
