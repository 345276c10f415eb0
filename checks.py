"""`make check`: style, types, imports between packages, migrations, the compose file, the Dockerfile and documents."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import yaml

from embedded import kafka, opensearch
from embedded.engines import binary
from embedded.paths import ROOT
from embedded.stack import Stack

_COMPOSE_LOADER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
_REDOCLY = "@redocly/cli@2.55.0"
_SPECTRAL = "@stoplight/spectral-cli@6.16.3"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-+?])(?P<word>[^${}]*))?\}")
"""A variable whose default contains no other; of nested ones the innermost is replaced first."""
_COMPOSE_SETTINGS = ("POSTGRES_PASSWORD", "SECRET_KEY", "JWT_PRIVATE_KEY", "S3_SECRET_KEY", "GATEWAY_ADDRESS")


def _run(*command: str, cwd: Path = ROOT, env: Mapping[str, str] = MappingProxyType({})) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **env}, check=False)
    if done.returncode != 0:
        raise SystemExit(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")


def style() -> None:
    _run(binary("ruff"), "check", ".")
    _run(binary("ruff"), "format", "--check", ".")


def types() -> None:
    _run(binary("mypy"), "domain", "notices", "adapters", "activities", "workflows", "projections", "api")
    _run(binary("mypy"), "embedded", "demo", "bench", "worker.py", "admin.py", "checks.py", "docs", "tests")
    _run(binary("mypy"), "migrations/__main__.py")


def imports() -> None:
    _run(binary("lint-imports"), env={"PYTHONPATH": "."})


def lock() -> None:
    """The lock files contain no download address, and have a version of every dependency."""
    jars = {
        kafka.LOCK: {*kafka.BROKER, kafka.TOOLS},
        opensearch.LOCK: {name for wanted in opensearch.JARS.values() for name in (*wanted.programs, *wanted.alone)},
    }
    text = (ROOT / "requirements.lock").read_text()
    if " @ " in text or any("://" in file.read_text() for file in (ROOT / "requirements.lock", *jars)):
        raise SystemExit("a lock file contains a download address. Run make lock")
    for file, wanted in jars.items():
        if not wanted <= {line.split()[-2] for line in file.read_text().splitlines()}:
            raise SystemExit(f"{file.name} does not match embedded/{file.stem}.py. Run make lock")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "requirements.lock"
        shutil.copy(ROOT / "requirements.lock", copy)
        options = ["--all-extras", "--universal", "--python-version", "3.11", "--quiet", "--no-emit-index-url"]
        more = ["--no-emit-find-links", "--no-header", "--no-annotate"]
        _run(binary("uv"), "pip", "compile", "pyproject.toml", *options, *more, "-o", str(copy))
        if copy.read_text() != text:
            raise SystemExit("requirements.lock does not match pyproject.toml. Run make lock")


def migrations() -> None:
    async def check() -> None:
        stack = Stack(Path(folder), lambda _: None)
        try:
            await stack.start_engines(["postgres"])
            # Two processes may begin at once: one migrates, and the other waits for it.
            for words in (["database", "database"], ["check"]):
                run = [
                    asyncio.to_thread(_run, sys.executable, "-m", "migrations", word, env=stack.env) for word in words
                ]
                await asyncio.gather(*run)
        finally:
            await stack.stop()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check())


def _substituted(variable: re.Match[str]) -> str:
    """What an unset variable becomes, or a placeholder for one that README.md says to set; others are typing errors."""
    match variable["how"]:
        case "-":
            return variable["word"]
        case "+":
            return ""
    if variable["name"] not in _COMPOSE_SETTINGS:
        raise SystemExit(f"docker-compose.yml needs {variable['name']}, which README.md does not say how to set")
    return "check"


def compose() -> None:
    """docker-compose.yml is valid for compose's own loader, and every image has a fixed tag."""
    docker = shutil.which("docker")
    plugin = docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
    with tempfile.TemporaryDirectory() as folder:
        # The command line of compose-go does not pass the environment on, so variables are substituted first.
        loaded = Path(folder) / "docker-compose.yml"
        text, found = (ROOT / "docker-compose.yml").read_text(), 1
        while found:
            text, found = _VARIABLE.subn(_substituted, text)
        loaded.write_text(text)
        if plugin and docker:
            _run(docker, "compose", "config", "-q", cwd=Path(folder))
        elif go := shutil.which("go"):
            _run(go, "run", _COMPOSE_LOADER, "docker-compose.yml", cwd=Path(folder))
        else:
            sys.stdout.write("  skipped: the loader of docker-compose.yml, which needs `docker compose` or Go\n")
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        if not any(part.isdigit() for part in tag) or tag == "latest":
            raise SystemExit(f"docker-compose.yml: the image of {name} has no fixed tag: {service['image']}")


def dockerfile() -> None:
    _run(binary("hadolint"), "Dockerfile")


def documents() -> None:
    _run(sys.executable, "-m", "docs", "check")


def openapi() -> None:
    """The OpenAPI and AsyncAPI documents pass the rules that Redocly and Spectral recommend, without a warning."""
    npx = shutil.which("npx")
    if npx is None:
        sys.stdout.write("  skipped: the rules of Redocly and Spectral, because Node is not installed\n")
        return
    document = "docs/reference/openapi.json"
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    # `/users/passkeys/{id}` is not ambiguous with `/users/{id}/role`: every id is a UUID, which the rule does not read.
    rules = ("--extends=recommended-strict", "--skip-rule=no-ambiguous-paths")
    _run(npx, "--yes", _REDOCLY, "lint", document, *rules, env=quiet)
    both = (document, "docs/reference/asyncapi.json")
    _run(npx, "--yes", _SPECTRAL, "lint", *both, "--ruleset=.spectral.yaml", "--fail-severity=warn")


CHECKS: tuple[Callable[[], None], ...] = (
    style,
    types,
    imports,
    lock,
    migrations,
    compose,
    dockerfile,
    documents,
    openapi,
)


def main() -> None:
    for check in CHECKS:
        began = time.monotonic()
        check()
        sys.stdout.write(f"{check.__name__:<12} passed ({time.monotonic() - began:.1f} s)\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
