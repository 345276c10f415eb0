"""The edge: clients that come through a proxy, and through the Caddy of docker-compose.yml, are known by their own
address.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from adapters.settings import Settings
from embedded.engines import http_ready
from embedded.gateway import gateway
from embedded.paths import ROOT
from embedded.process import Process, Spec
from tests.files import pdf
from tests.platform import Platform, registration, until
from tests.samples import listing
from tests.streams import events, ticket, websocket

no_caddy = pytest.mark.skipif(os.environ.get("TEST_GATEWAY") != "caddy", reason="Caddy: make test-gateway")
LIMIT = 2
"""Registrations a minute that the API behind the gateway takes from one address."""
KEPT_BY_GATEWAY, KEPT_BY_API = 1, 5
"""Seconds that each keeps an idle connection: the default settings, shortened."""
TRUSTED, UNTRUSTED = "127.1.0.5", "127.0.0.4"


@pytest.fixture
async def api(platform: Platform) -> AsyncIterator[Process]:
    """An API of the gateway's own, for its limits are low."""
    stack = platform.stack
    port = str(stack.ports["gateway_api"])
    spec = Spec(
        "gateway-api",
        [sys.executable, "-m", "api"],
        stack.data / "logs" / "gateway-api.log",
        http_ready(f"http://127.0.0.1:{port}/readyz"),
        env={
            **stack.env,
            "PORT": port,
            "REGISTRATIONS_PER_MINUTE": str(LIMIT),
            "KEEP_ALIVE_SECONDS": str(KEPT_BY_API),
            "TRUSTED_PROXIES": "127.0.0.1, 127.1.0.0/16",
            "S3_PUBLIC_URL": f"http://127.0.0.1:{stack.ports['gateway']}",
        },
        cwd=ROOT,
    )
    api = Process(spec, lambda _: None)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def edge(platform: Platform, api: Process) -> AsyncIterator[str]:
    """The gateway's address."""
    stack = platform.stack
    port = stack.ports["gateway"]
    storage = {"S3_HOST": "127.0.0.1", "S3_PORT": str(stack.ports["s3"])}
    caddy = Process(gateway(stack.data / "logs", port, stack.ports["gateway_api"], **storage), lambda _: None)
    await caddy.start()
    yield f"http://127.0.0.1:{port}"
    await caddy.stop()


async def register(url: str, address: str, forwarded_for: str = "") -> int:
    """The status of a registration whose connection comes from `address`, which may say for whom it asks."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, transport=transport) as http:
        return (await http.post("/api/auth/register", json=registration(), headers=headers)).status_code


async def test_forwarded_for_is_used_from_trusted_proxies_only(platform: Platform, api: Process) -> None:
    url = f"http://127.0.0.1:{platform.stack.ports['gateway_api']}"
    names = [f"203.0.113.{n}" for n in range(LIMIT + 1)]

    by_proxy = [await register(url, TRUSTED, forwarded_for=name) for name in names]
    one_of_them = [await register(url, TRUSTED, forwarded_for=names[0]) for _ in range(LIMIT)]
    made_up = [await register(url, UNTRUSTED, forwarded_for=name) for name in names]

    assert by_proxy == [201] * (LIMIT + 1)
    assert one_of_them == [201] * (LIMIT - 1) + [429]
    assert made_up == [201] * LIMIT + [429]


@pytest.mark.gateway
@no_caddy
async def test_rate_limits_count_by_client_address_behind_the_gateway(edge: str) -> None:
    """Limits count by the client's address: neither the gateway's nor one that a client makes up."""
    first = [await register(edge, "127.0.0.2") for _ in range(LIMIT + 1)]
    pretending = await register(edge, "127.0.0.2", forwarded_for="203.0.113.77")
    another = await register(edge, "127.0.0.3")

    assert (first, pretending, another) == ([201] * LIMIT + [429], 429, 201)


@pytest.mark.gateway
@no_caddy
async def test_gateway_passes_headers_and_problems_through(edge: str) -> None:
    # The people of other tests come from 127.0.0.1, and are counted.
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.5")
    async with httpx.AsyncClient(base_url=edge, timeout=30, trust_env=False, transport=transport) as http:
        registered = await http.post("/api/auth/register", json=registration())
        profile = await http.get(
            "/api/users/profile", headers={"Authorization": f"Bearer {registered.json()['accessToken']}"}
        )
        too_large = await http.post("/api/properties", content=b" " * 1_100_000)

    assert {"command-id", "consistency-token", "etag", "location"} <= registered.headers.keys()
    assert profile.json()["id"] == registered.json()["user"]["id"]
    assert too_large.status_code == 413
    assert too_large.headers["content-type"] == "application/problem+json"


@pytest.mark.gateway
@no_caddy
async def test_file_passes_the_gateway_to_the_object_storage_by_its_signed_url_only(
    edge: str, platform: Platform
) -> None:
    person = await platform.register()
    async with httpx.AsyncClient(base_url=edge, timeout=30, trust_env=False) as http:
        about = {"fileName": "deed.pdf", "contentType": "application/pdf", "size": len(pdf())}
        begun = (await http.post("/api/files/uploads", json=about, headers=person.headers)).json()
        assert begun["url"].startswith(edge)
        longer = await http.put(begun["url"], content=pdf() + b" ", headers=begun["headers"])
        taken = await http.put(begun["url"], content=pdf(), headers=begun["headers"])
        read = await http.get(begun["url"])
        elsewhere = await http.put("/hyderabad-media/uploads/x", content=b"x")
        completed = await http.post(f"/api/files/uploads/{begun['uploadId']}/complete", headers=person.headers)

    assert (longer.status_code, taken.status_code, completed.status_code) == (403, 200, 201)
    assert (read.status_code, elsewhere.status_code) == (404, 415)  # of the API, which has no such routes


@pytest.mark.gateway
@no_caddy
@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/metrics/", "/%6Detrics", "//metrics", "/./readyz", "/READYZ"]
)
async def test_gateway_hides_operational_endpoints(edge: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=edge, timeout=30, trust_env=False) as http:
        answer = await http.get(httpx.URL(edge + path))

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/not-found"


@pytest.mark.gateway
@no_caddy
async def test_gateway_waits_for_an_api_that_comes_back(edge: str, api: Process) -> None:
    """A request that meets no replica waits for the next one instead of being refused."""
    before = api.pid
    assert before
    os.kill(before, signal.SIGKILL)

    async with httpx.AsyncClient(base_url=edge, timeout=30, trust_env=False) as http:
        answer = await http.get("/livez")

    assert answer.status_code == 200
    assert api.pid not in {None, before}


@pytest.mark.gateway
@no_caddy
async def test_listing_is_edited_through_the_gateway_by_the_tag_that_it_gave(edge: str, platform: Platform) -> None:
    """Compressing an answer appends `-gzip` to its ETag, which is no other version of the listing."""
    headers = {"Accept-Encoding": "gzip", **(await platform.register()).headers}
    async with httpx.AsyncClient(base_url=edge, timeout=30, trust_env=False, headers=headers) as http:
        # Long enough to be compressed.
        created = await http.post("/api/properties", json=listing(description="A bright flat near the lake. " * 100))
        path = created.headers["location"]
        read = await http.get(path)
        changed = await http.patch(path, json={"price": 1}, headers={"If-Match": read.headers["etag"]})
        stale = await http.patch(path, json={"price": 2}, headers={"If-Match": read.headers["etag"]})

    assert read.headers["content-encoding"] == "gzip"
    assert (changed.status_code, changed.json()["price"], stale.status_code) == (200, 1, 412)


class Wire:
    """Passes the gateway's connections on to the API, and notes which side closes each."""

    def __init__(self, api_port: int) -> None:
        self._api_port = api_port
        self.opened = 0
        self.closed_by: list[str] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        api_reader, api_writer = await asyncio.open_connection("127.0.0.1", self._api_port)
        sides = {
            asyncio.create_task(_pass_on(reader, api_writer)): "gateway",
            asyncio.create_task(_pass_on(api_reader, writer)): "API",
        }
        closed, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        self.closed_by += [sides[task] for task in closed]
        for end in (writer, api_writer):
            end.close()
        await asyncio.wait(sides)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def _wire(api_port: int) -> AsyncIterator[tuple[Wire, int]]:
    wire = Wire(api_port)
    server = await asyncio.start_server(wire.connected, "127.0.0.1", 0)
    async with server:
        yield wire, server.sockets[0].getsockname()[1]


@pytest.mark.gateway
@no_caddy
async def test_post_after_an_idle_time_never_meets_a_connection_that_the_api_closes(
    platform: Platform, api: Process
) -> None:
    """One request just before the gateway's time for an idle connection ends, one just after; the gateway closes it."""
    path = (await platform.create(await platform.register())).headers["location"]
    stack = platform.stack
    async with _wire(stack.ports["gateway_api"]) as (wire, port):
        caddy = Process(
            gateway(stack.data / "logs", stack.ports["gateway"], port, GATEWAY_KEEP_ALIVE=f"{KEPT_BY_GATEWAY}s"),
            lambda _: None,
        )
        await caddy.start()
        try:
            url = f"http://127.0.0.1:{stack.ports['gateway']}"
            async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
                statuses = [(await http.post(f"{path}/views")).status_code]
                await asyncio.sleep(KEPT_BY_GATEWAY * 0.9)  # what is tested is a time in which nothing is sent
                statuses.append((await http.post(f"{path}/views")).status_code)

                async def all_closed() -> bool:
                    return len(wire.closed_by) == wire.opened

                await until(all_closed)
                statuses.append((await http.post(f"{path}/views")).status_code)
        finally:
            await caddy.stop()

    assert statuses == [204, 204, 204]
    assert set(wire.closed_by) == {"gateway"}


def test_idle_connections_are_closed_by_the_gateway_and_not_by_the_api() -> None:
    caddyfile = (ROOT / "deploy" / "gateway.Caddyfile").read_text()
    kept_by_gateway = re.search(r"keepalive \{\$GATEWAY_KEEP_ALIVE:(\d+)s\}", caddyfile)

    assert kept_by_gateway is not None
    assert int(kept_by_gateway[1]) < Settings.model_fields["keep_alive_seconds"].default


@pytest.mark.gateway
@no_caddy
async def test_live_messages_pass_the_gateway_as_they_come(edge: str, platform: Platform) -> None:
    """Neither held back until there are more, nor compressed, which would hold them back too."""
    person = await platform.register()
    headers = {"Accept-Encoding": "gzip, zstd"}
    async with httpx.AsyncClient(base_url=edge, timeout=30, trust_env=False, headers=headers) as http:
        async with (
            events(http, await ticket(http, person)) as by_events,
            websocket(http, await ticket(http, person), origin=edge) as by_websocket,
        ):
            made = (await platform.create(person)).json()["id"]
            for stream in (by_events, by_websocket):
                entry = await stream.until("history", lambda data: "propertyId" in data["activityData"])
                assert entry["activityData"]["propertyId"] == made
        query = {"ticket": await ticket(http, person)}
        async with http.stream("GET", "/api/stream", params=query) as answer:
            assert "content-encoding" not in answer.headers
