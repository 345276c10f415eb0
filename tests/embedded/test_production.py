"""What docker-compose.yml runs is what runs here: the same commands, variables and files, on the same engines."""

import asyncio
import os
import re
from typing import Any

import pytest
import yaml
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from adapters.settings import Settings
from adapters.temporal import SEARCH_ATTRIBUTES
from embedded.paths import ROOT
from embedded.stack import Stack
from embedded.temporal_server import _environment, prepare_namespace, prepare_schema
from workflows import options

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = [name for name, service in COMPOSE.items() if service["image"].startswith("hyderabad-infra")]


def test_every_task_queue_has_its_worker_service() -> None:
    queues = {service["command"][2] for service in COMPOSE.values() if "worker.py" in service.get("command", [])}

    assert queues == set(options.QUEUES)


def test_every_variable_of_our_services_is_a_setting() -> None:
    for name in OURS:
        variables = {variable.lower() for variable in COMPOSE[name]["environment"]}
        assert variables <= Settings.model_fields.keys(), name


def test_every_variable_of_temporal_is_one_that_the_server_runs_with_here(stack: Stack) -> None:
    here = _environment(stack.ports, "postgresql://hyderabad:secret@127.0.0.1:5432/hyderabad", ROOT)

    for name in ("temporal", "temporal-schema", "temporal-namespace"):
        # Who else is in a cluster is asked only where there is one.
        assert COMPOSE[name]["environment"].keys() - {"TEMPORAL_BROADCAST_ADDRESS"} <= here.keys(), name


def test_every_file_that_compose_mounts_is_there() -> None:
    mounts = [mount for service in COMPOSE.values() for mount in service.get("volumes", []) if mount.startswith("./")]

    assert mounts
    for mount in mounts:
        assert (ROOT / mount.split(":")[0]).exists(), mount


def test_kafka_is_told_by_compose_what_it_is_told_here() -> None:
    told = {name.removeprefix("KAFKA_").replace("_", ".").lower() for name in COMPOSE["kafka"]["environment"]}
    source = (ROOT / "embedded" / "apache_kafka.py").read_text()

    assert told == set(re.findall(r'"([a-z.]+)": f?"?', source.split("own = {")[1].split("}\n")[0]))


def test_versions_here_and_in_compose_agree() -> None:
    from embedded.apache_kafka import VERSION as KAFKA
    from embedded.temporal_server import VERSION as TEMPORAL

    assert COMPOSE["kafka"]["image"].endswith(f":{KAFKA}")
    assert {COMPOSE[name]["image"].rpartition(":")[2] for name in ("temporal", "temporal-schema")} == {TEMPORAL}


@pytest.mark.temporal
@pytest.mark.skipif(os.environ.get("TEST_TEMPORAL") != "server", reason="the production server: make test-temporal")
async def test_server_is_set_up_once_however_often(stack: Stack, temporal_client: Client) -> None:
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
