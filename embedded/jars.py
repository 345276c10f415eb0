"""Downloads the jars of a lock file from Maven Central, and verifies them by their hashes."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext

from embedded.cache import cache_folder, cached

_CONCURRENCY = 8
"""Parallel downloads: most of the time is latency, and the 47 jars of Kafka took four times as long one by one."""


def jars_folder(lock: Path) -> Path:
    """The cache folder of a lock file's jars, keyed by the hash of the lock file."""
    return cache_folder() / _name(lock)


def fetch_jars(lock: Path) -> Path:
    """The folder of the jars of a lock file, which are downloaded the first time.

    Exits when a jar cannot be downloaded or does not have the locked hash.
    """

    def fetch(folder: Path) -> None:
        hashes = dict(line.split() for line in lock.read_text().splitlines())
        downloads = folder / "downloads"
        context = _maven(downloads)
        artifacts = [context.create_dependency(coordinates).artifact for coordinates in hashes]
        for jar, (coordinates, locked) in zip(_download(artifacts), hashes.items(), strict=True):
            found = _sha256(jar)
            if found != locked:
                raise SystemExit(f"{coordinates} has the hash {found}, but {lock.name} says {locked}")
            jar.rename(folder / jar.name)
        shutil.rmtree(downloads)

    return cached(_name(lock), fetch)


def write_lock(lock: Path, wanted: Iterable[str], without_dependencies: Iterable[str]) -> None:
    """Write a lock file of `wanted` with their run-time dependencies, and of `without_dependencies` without theirs."""
    with tempfile.TemporaryDirectory() as folder:
        context = _maven(Path(folder))
        roots = [context.create_dependency(coordinates) for coordinates in wanted]
        roots += [
            context.create_dependency(coordinates, [context.project("*", "*")]) for coordinates in without_dependencies
        ]
        direct, transitive = context.resolver.resolve(roots)
        artifacts = [each.artifact for each in direct]
        artifacts += [each.artifact for each in transitive if each.scope in ("compile", "runtime")]
        lines = [
            f"{each.groupId}:{each.artifactId}:{each.version} {_sha256(jar)}\n"
            for each, jar in zip(artifacts, _download(artifacts), strict=True)
        ]
    lock.write_text("".join(sorted(lines)))


def _name(lock: Path) -> str:
    return f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"


def _maven(downloads: Path) -> MavenContext:
    """Maven Central, and the repositories of jgo's own configuration: one named `central` is a mirror of it."""
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=downloads, remote_repos=repositories, timeout=30)


def _download(artifacts: Sequence[Artifact]) -> list[Path]:
    try:
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            return list(pool.map(Artifact.resolve, artifacts))
    except (OSError, RuntimeError) as error:
        raise SystemExit(f"Maven Central cannot be reached, which the first start needs ({error})") from error


def _sha256(jar: Path) -> str:
    return hashlib.sha256(jar.read_bytes()).hexdigest()
