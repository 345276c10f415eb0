"""A Python client that openapi-python-client generates from openapi.json runs the tour of README.md."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.engines import binary
from tests.platform import PASSWORD, Platform


@pytest.fixture
async def package(platform: Platform, tmp_path: Path) -> str:
    """Generate the package and make it importable; returns its name."""
    document = tmp_path / "openapi.json"
    document.write_bytes((await platform.http.get("/openapi.json")).content)
    settings = tmp_path / "settings.json"
    # The generated code is not formatted; the generator does not know lines of JSON.
    settings.write_text('{"post_hooks": [], "content_type_overrides": {"application/x-ndjson": "text/plain"}}')
    name = f"client_{uuid4().hex[:8]}"
    paths = ("--path", str(document), "--output-path", str(tmp_path / name), "--config", str(settings))
    options = (*paths, "--meta", "none", "--fail-on-warning")
    generator = await asyncio.create_subprocess_exec(
        binary("openapi-python-client"),
        "generate",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await generator.communicate()
    assert generator.returncode == 0, printed.decode()
    return name


@pytest.fixture
def client(package: str, tmp_path: Path) -> Iterator[ModuleType]:
    sys.path.insert(0, str(tmp_path))
    yield importlib.import_module(package)
    sys.path.remove(str(tmp_path))


async def test_generated_client_takes_the_tour(platform: Platform, client: ModuleType) -> None:
    models = importlib.import_module(f"{client.__name__}.models")

    def call(path: str) -> Any:
        return importlib.import_module(f"{client.__name__}.api.{path}").asyncio_detailed

    name = f"u{uuid4().hex[:12]}"
    account = models.Registration(
        username=name, email=f"{name}@example.com", password=PASSWORD, first_name="Ravi", last_name="Kumar"
    )
    credentials = models.Credentials(email_or_username=name, password=PASSWORD)
    flat = models.NewProperty(
        title="3BHK Apartment in Gachibowli",
        description="A bright flat near the lake.",
        price=8_500_000,
        location="Gachibowli",
        property_type=models.PropertyType.APARTMENT,
        listing_type=models.ListingType.SALE,
        bedrooms=3,
    )
    no_proxy = {"trust_env": False}
    async with client.Client(base_url=platform.url, httpx_args=no_proxy) as anonymous:
        registered = await call("auth.register")(client=anonymous, body=account)
        signed_in = await call("auth.login")(client=anonymous, body=credentials)
    token, me = signed_in.parsed.access_token, signed_in.parsed.user.id
    async with client.AuthenticatedClient(base_url=platform.url, token=token, httpx_args=no_proxy) as ravi:
        created = await call("properties.create_property")(client=ravi, body=flat, idempotency_key="my-first-flat")
        again = await call("properties.create_property")(client=ravi, body=flat, idempotency_key='"my-first-flat"')
        seen = created.headers["Consistency-Token"]
        history = await call("history.user_history")(me, client=ravi, limit=10, consistency_token=seen)
        listed = await call("properties.get_property")(created.parsed.id, client=ravi)
        events = await call("properties.property_events")(created.parsed.id, client=ravi)
        command = UUID(created.headers["Command-Id"])
        state = await call("commands.command_state")(command, client=ravi)
        profile = await call("users.own_profile")(client=ravi)
        liked = await call("properties.favorite_property")(created.parsed.id, client=ravi)
        favorites = await call("properties.list_favorites")(client=ravi)
        newest = await call("properties.list_properties")(client=ravi, limit=100)
        cheaper = models.PropertyPatch(price=8_250_000, bedrooms=None)
        edit = call("properties.patch_property")
        patched = await edit(created.parsed.id, client=ravi, body=cheaper, if_match=listed.headers["ETag"])
        stale = await edit(created.parsed.id, client=ravi, body=cheaper, if_match=listed.headers["ETag"])
        offer = models.StatusChange(status=models.PropertyStatus.UNDER_OFFER, reason="Two families are interested.")
        offered = await call("properties.change_property_status")(
            created.parsed.id, client=ravi, body=offer, if_match=patched.headers["ETag"]
        )
        flat.status = models.NewPropertyStatus.DRAFT
        draft = (await call("properties.create_property")(client=ravi, body=flat)).parsed
        own = await call("properties.list_own_properties")(client=ravi, status=models.PropertyStatus.DRAFT)
        viewed = await call("properties.view_property")(created.parsed.id, client=ravi)
        deleted = await call("properties.delete_property")(draft.id, client=ravi, if_match='"1"')
        gone = await call("properties.get_property")(draft.id, client=ravi)
        flat.title = "Flat"
        problem = await call("properties.create_property")(client=ravi, body=flat)

    assert (registered.status_code, created.status_code, again.status_code) == (201, 201, 201)
    assert isinstance(created.parsed, models.CountedProperty)
    # Only the owner who reads one listing learns of possible duplicates.
    assert listed.parsed.possible_duplicates == []
    listed.parsed.possible_duplicates = created.parsed.possible_duplicates
    assert again.parsed == listed.parsed == created.parsed
    entries = [entry.activity_type for entry in history.parsed.items]
    assert [entry for entry in entries if entry != "USER_LOGGED_IN"] == ["PROPERTY_CREATED", "USER_REGISTERED"]
    assert [event.event_type for event in events.parsed.items] == ["PROPERTY_CREATED"]
    assert state.parsed.status is models.CommandStateStatus.COMPLETED
    assert profile.parsed.id == registered.parsed.user.id == me
    assert (liked.status_code, [item.id for item in favorites.parsed.items]) == (204, [created.parsed.id])
    assert created.parsed.id in {item.id for item in newest.parsed.items}
    assert (patched.parsed.price, patched.parsed.bedrooms) == (8_250_000, None)
    assert isinstance(stale.parsed, models.Problem)
    assert (stale.status_code, stale.parsed.type_) == (412, "/problems/version-conflict")
    assert offered.parsed.status is models.PropertyStatus.UNDER_OFFER
    assert [item.id for item in own.parsed.items] == [draft.id]
    assert (viewed.status_code, deleted.status_code, gone.status_code) == (204, 204, 410)
    assert isinstance(problem.parsed, models.Problem)
    assert [(fault.field, fault.reason) for fault in problem.parsed.errors] == [("title", "Use at least 5 characters.")]
