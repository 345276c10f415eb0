"""The relying party of a portal, and challenges."""

import pytest
from redis.asyncio import Redis

from adapters import redis
from adapters.settings import Settings
from api.ceremonies import Challenges, relying_party
from api.errors import ApiError

PORTALS = {"public_url": "https://homes.example", "tenant_hosts": {"flats.example": "flats", "a.homes.example": "a"}}


def party(settings: Settings, host: str, **more: object) -> tuple[str, list[str]]:
    found = relying_party(settings.model_copy(update={**PORTALS, **more}), host)
    return found.id, found.origins


@pytest.mark.parametrize(
    ("host", "more", "id", "origin"),
    [
        ("homes.example", {}, "homes.example", "https://homes.example"),
        ("api.homes.example", {}, "homes.example", "https://homes.example"),
        ("evil.example", {}, "homes.example", "https://homes.example"),
        ("flats.example", {}, "flats.example", "https://flats.example"),
        ("a.homes.example", {}, "a.homes.example", "https://a.homes.example"),
        ("a.homes.example", {"webauthn_rp_ids": ("homes.example",)}, "homes.example", "https://a.homes.example"),
        ("flats.example", {"webauthn_rp_ids": ("homes.example",)}, "flats.example", "https://flats.example"),
        ("x", {"public_url": "https://www.homes.example", "webauthn_rp_ids": ("x.example", "homes.example")},
         "homes.example", "https://www.homes.example"),
        ("x", {"public_url": "http://localhost:8080"}, "localhost", "http://localhost:8080"),
        ("x", {"public_url": "https://homes.example:443"}, "homes.example", "https://homes.example"),
        ("flats.example", {"public_url": "http://localhost:8080"}, "flats.example", "http://flats.example:8080"),
    ],
)  # fmt: skip
def test_passkeys_are_bound_to_the_domain_of_their_portal(
    settings: Settings, host: str, more: dict[str, object], id: str, origin: str
) -> None:
    assert party(settings, host, **more) == (id, [origin])


def test_other_origins_of_the_settings_may_use_passkeys(settings: Settings) -> None:
    app = "android:apk-key-hash:abc"

    assert party(settings, "flats.example", webauthn_origins=(app,))[1] == ["https://flats.example", app]


async def test_challenge_is_used_once_by_its_holder_for_its_purpose_and_tenant(valkey: Redis, tenant: str) -> None:
    challenges = Challenges(valkey)
    challenge = await challenges.create(tenant, "register", "ravi")
    for wrong in ((tenant, "sign-in", "ravi"), (tenant, "register", "sita"), ("other", "register", "ravi")):
        with pytest.raises(ApiError) as refused:
            await challenges.use(*wrong, challenge)
        assert refused.value.kind == "invalid-challenge"

    await challenges.use(tenant, "register", "ravi", challenge)
    with pytest.raises(ApiError):
        await challenges.use(tenant, "register", "ravi", challenge)


async def test_without_redis_there_are_no_challenges(settings: Settings, tenant: str) -> None:
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    challenges = Challenges(unavailable)

    for refused in (challenges.create(tenant, "sign-in", ""), challenges.use(tenant, "sign-in", "", bytes(32))):
        with pytest.raises(ApiError) as error:
            await refused
        assert (error.value.kind, error.value.headers) == ("unavailable", {"Retry-After": "2"})
    await unavailable.aclose()
