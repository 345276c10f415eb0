"""docker-compose.yml and the embedded stack run the same commands, variables, files and versions."""

import asyncio
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

import worker
from adapters.settings import Settings
from adapters.temporal import SEARCH_ATTRIBUTES
from api.__main__ import GRACEFUL_SHUTDOWN_SECONDS
from embedded import opensearch
from embedded.engines import postgres_programs
from embedded.kafka import java
from embedded.paths import ROOT
from embedded.stack import Stack
from embedded.temporal_server import _environment, prepare_namespace, prepare_schema
from tests.platform import Platform
from workflows import options

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = [name for name, service in COMPOSE.items() if service["image"].startswith("hyderabad-infra")]


def test_image_has_every_package_that_production_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["importlinter"]["root_packages"]) - {"embedded"}

    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == packages


def test_every_task_queue_has_its_worker_service() -> None:
    workers = [service["command"] for service in COMPOSE.values() if "worker.py" in service.get("command", [])]
    queues = {queue for _, _, *queues in workers for queue in queues}

    assert queues == set(options.QUEUES)


def test_every_variable_of_our_services_is_a_setting() -> None:
    for name in OURS:
        variables = {variable.lower() for variable in COMPOSE[name]["environment"]}
        assert variables <= Settings.model_fields.keys(), name


def test_only_the_api_can_sign_tokens() -> None:
    """The file `.env`, which every service reads, has the key: the others replace it by nothing."""
    keys = {name: COMPOSE[name]["environment"]["JWT_PRIVATE_KEY"] for name in OURS if "env_file" in COMPOSE[name]}

    assert keys.keys() == set(OURS)
    assert [name for name, key in keys.items() if key] == ["api"]


def test_port_of_the_gateway_is_not_that_of_the_api() -> None:
    """`PORT` in `.env` is the port that the gateway publishes."""
    assert {COMPOSE[name]["environment"]["PORT"] for name in OURS} == {"8080"}


async def test_links_of_mails_begin_with_the_address_of_the_api(platform: Platform) -> None:
    for name in ("api", "worker"):
        env = platform.stack.processes[name].spec.env
        assert (env["PUBLIC_URL"], env["PUBLIC_API_URL"]) == (platform.url, platform.url)


async def test_only_the_api_is_started_with_the_key_that_signs_tokens(platform: Platform) -> None:
    processes = platform.stack.processes

    assert "JWT_PRIVATE_KEY" in processes["api"].spec.env
    for name in ("worker", "projections"):
        assert "JWT_PRIVATE_KEY" not in processes[name].spec.env, name


def test_containers_are_given_longer_to_stop_than_processes_take(platform: Platform) -> None:
    """Ten seconds, compose's default, would kill a worker that is finishing its activities."""
    for name in OURS:
        seconds = int(COMPOSE[name]["stop_grace_period"].removesuffix("s"))
        assert seconds > max(GRACEFUL_SHUTDOWN_SECONDS, worker.DRAIN.total_seconds()), name
        assert seconds >= platform.stack.processes["api"].spec.stop_seconds, name


def test_every_variable_of_temporal_is_one_that_the_server_runs_with_here(stack: Stack) -> None:
    here = _environment(stack.ports, "postgresql://hyderabad:secret@127.0.0.1:5432/hyderabad", ROOT)

    for name in ("temporal", "temporal-schema", "temporal-namespace"):
        # The broadcast address is needed in a cluster only.
        assert COMPOSE[name]["environment"].keys() - {"TEMPORAL_BROADCAST_ADDRESS"} <= here.keys(), name


def test_every_file_that_compose_mounts_is_there() -> None:
    mounts = [mount for service in COMPOSE.values() for mount in service.get("volumes", []) if mount.startswith("./")]

    assert mounts
    for mount in mounts:
        assert (ROOT / mount.split(":")[0]).exists(), mount


def test_compose_sets_the_same_kafka_properties(stack: Stack) -> None:
    def names(properties: Path) -> set[str]:
        return {line.partition("=")[0] for line in properties.read_text().splitlines() if not line.startswith("#")}

    in_compose = {name.removeprefix("KAFKA_").replace("_", ".").lower() for name in COMPOSE["kafka"]["environment"]}

    assert in_compose == names(stack.data / "kafka.properties") - names(ROOT / "deploy" / "kafka" / "server.properties")


def test_redis_and_s3_have_the_same_arguments_as_in_compose(stack: Stack) -> None:
    redis, s3 = (stack.processes[name].spec for name in ("redis", "s3"))
    said = COMPOSE["redis"]["command"][1:]

    assert set(zip(said[::2], said[1::2], strict=True)) <= set(zip(redis.command, redis.command[1:], strict=False))
    # Folder and port differ.
    assert {word.split("=")[0] for word in COMPOSE["s3"]["command"]} <= {word.split("=")[0] for word in s3.command}
    assert COMPOSE["s3"]["environment"].keys() == s3.env.keys()


def test_compose_sets_the_settings_of_opensearch_that_are_set_here() -> None:
    environment = COMPOSE["opensearch"]["environment"]

    # Names in lower case are settings, the others are read by the image.
    assert {name: value for name, value in environment.items() if name.islower()} == opensearch.SETTINGS
    assert COMPOSE["opensearch"]["profiles"] == ["search"]


async def test_health_checks_of_our_services_see_whether_they_are_ready(platform: Platform) -> None:
    """Runs the health checks of compose: they pass on the port of a ready process and fail on a closed port."""
    ports = platform.stack.ports
    there = {
        "api": platform.url.rpartition(":")[2],
        "projections": ports["projections_ops"],
        "worker": ports["worker_ops"],
    }
    checked = {name for name in OURS if "healthcheck" in COMPOSE[name]}

    assert checked == set(OURS) - {"migrations"}
    for name in checked:
        _, *command = COMPOSE[name]["healthcheck"]["test"]
        [inside] = re.findall(r"127\.0\.0\.1:(\d+)", " ".join(command))
        for port, expected in ((there[name.partition("-")[0]], 0), (ports["nobody"], 1)):
            words = [word.replace(f":{inside}", f":{port}") for word in command]
            check = await asyncio.create_subprocess_exec(
                sys.executable, *words[1:], stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "no_proxy": "*"}
            )
            assert await check.wait() == expected, (name, words)


async def test_health_check_of_postgres_sees_whether_it_is_ready(stack: Stack) -> None:
    _, program, *words = COMPOSE["postgres"]["healthcheck"]["test"]
    answers = {}
    for name in ("postgres", "nobody"):
        check = await asyncio.create_subprocess_exec(
            str(postgres_programs() / program), *words, env={**os.environ, "PGPORT": str(stack.ports[name])}
        )
        answers[name] = await check.wait()

    # 0 accepts connections, 2 gave no answer (https://www.postgresql.org/docs/18/app-pg-isready.html).
    assert answers == {"postgres": 0, "nobody": 2}


async def test_health_check_of_kafka_sees_a_broker_that_serves(stack: Stack) -> None:
    _, script, *words = COMPOSE["kafka"]["healthcheck"]["test"]
    at = words.index("--bootstrap-server") + 1
    words[at] = words[at].replace(":9092", f":{stack.ports['kafka']}")

    # The script runs this class.
    assert script.endswith("/kafka-broker-api-versions.sh")
    command = java("org.apache.kafka.tools.BrokerApiVersionsCommand", *words)
    check = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await check.communicate()

    assert check.returncode == 0
    assert b"Produce(0): " in said


def test_versions_here_and_in_compose_agree() -> None:
    from embedded.gateway import VERSION as CADDY
    from embedded.kafka import VERSION as KAFKA
    from embedded.opensearch import VERSION as OPENSEARCH
    from embedded.temporal_server import VERSION as TEMPORAL
    from embedded.temporal_ui import VERSION as UI

    assert COMPOSE["gateway"]["image"].endswith(f":{CADDY}-alpine")
    assert COMPOSE["kafka"]["image"].endswith(f":{KAFKA}")
    assert COMPOSE["opensearch"]["image"].endswith(f":{OPENSEARCH}")
    assert {COMPOSE[name]["image"].rpartition(":")[2] for name in ("temporal", "temporal-schema")} == {TEMPORAL}
    assert COMPOSE["temporal-ui"]["image"].endswith(f":{UI}")


@pytest.mark.temporal
@pytest.mark.skipif(os.environ.get("TEST_TEMPORAL") != "server", reason="the production server: make test-temporal")
async def test_ui_runs_here_with_every_variable_that_compose_sets(stack: Stack) -> None:
    assert COMPOSE["temporal-ui"]["environment"].keys() <= stack.processes["temporal-ui"].spec.env.keys()


@pytest.mark.temporal
@pytest.mark.skipif(os.environ.get("TEST_TEMPORAL") != "server", reason="the production server: make test-temporal")
async def test_setting_up_the_server_is_idempotent(stack: Stack, temporal_client: Client) -> None:
    database = stack.env["DATABASE_URL"]
    for prepare in (prepare_schema, prepare_namespace):
        await asyncio.to_thread(prepare, stack.ports, database)
    await stack.prepare()

    described = await temporal_client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    known = await temporal_client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace="default")
    )

    assert described.config.workflow_execution_retention_ttl.seconds == 7 * 24 * 3600
    assert SEARCH_ATTRIBUTES.keys() <= known.custom_attributes.keys()
