"""Apache Kafka itself, from its published jars: `make kafka` fetches it, tests and `make run KAFKA=apache` start it."""

import base64
import os
import subprocess
import uuid
from pathlib import Path

from embedded.cache import cached, run, say, tool
from embedded.engines import kafka_answers
from embedded.paths import ROOT, Ports
from embedded.process import Spec

VERSION = "4.1.0"
_FOLDER = f"kafka-{VERSION}-with-tools"
"""In the cache: the broker, and the programs that its image has beside it."""
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>hyderabad-infra</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""


def _fetch(folder: Path) -> None:
    maven = tool("mvn", "to fetch Apache Kafka")
    say(f"Fetching Apache Kafka {VERSION} ...")
    pom = folder / "pom.xml"
    pom.write_text(_POM)
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={folder / 'libs'}", "-DincludeScope=runtime"]
    run([maven, "-q", "-B", "-f", str(pom), *copy], "Fetching Apache Kafka")


def java(main: str, *arguments: str) -> list[str]:
    libraries = cached(_FOLDER, _fetch) / "libs"
    # For one machine: a small heap, and no time spent on optimising code that runs for minutes.
    options = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return [tool("java", "to run Apache Kafka"), *options, "-cp", f"{libraries}/*", main, *arguments]


def apache_kafka(data: Path, ports: Ports) -> tuple[Spec, dict[str, str]]:
    """One node with the settings of deploy/kafka/server.properties, which docker-compose.yml uses too."""
    address = f"127.0.0.1:{ports['kafka']}"
    controller = f"127.0.0.1:{ports['kafka_controller']}"
    logs, properties = data / "kafka", data / "kafka.properties"
    own = {
        "listeners": f"BROKER://{address},CONTROLLER://{controller}",
        "advertised.listeners": f"BROKER://{address}",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(logs),
    }
    shared = (ROOT / "deploy" / "kafka" / "server.properties").read_text()
    properties.write_text(shared + "".join(f"{name}={value}\n" for name, value in own.items()))
    if not (logs / "meta.properties").exists():
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatting = java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties))
        run(formatting, "Formatting Kafka's folder")
    command = java("kafka.Kafka", str(properties))
    spec = Spec("kafka", command, data / "logs" / "kafka.log", lambda: kafka_answers(address), stop_seconds=30)
    return spec, {"KAFKA_BOOTSTRAP_SERVERS": address, "KAFKA_IDEMPOTENCE": "true"}


def main() -> None:
    folder = cached(_FOLDER, _fetch)
    version = subprocess.run(
        [tool("java", "to run Apache Kafka"), "-version"], capture_output=True, text=True, check=True
    )
    say(f"Apache Kafka {VERSION} is in {folder} ({version.stderr.splitlines()[0]})")


if __name__ == "__main__":
    os.umask(0o022)
    main()
