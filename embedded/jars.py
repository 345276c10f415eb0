"""Downloads the jars of a lock file from Maven Central, and verifies them by their hashes."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext

from embedded.cache import cache_folder, cached

_CONCURRENCY = 8
"""Parallel downloads: most of the time is latency, and the 47 jars of Kafka took four times as long one by one."""


class Wanted(NamedTuple):
    """The jars of a folder, by their coordinates."""

    programs: Sequence[str]
    """With their run-time dependencies."""
    alone: Sequence[str] = ()
    """Without theirs."""


def jars_folder(lock: Path) -> Path:
    """The cache folder of a lock file's jars, keyed by the hash of the lock file."""
    return cache_folder() / _name(lock)


def fetch_jars(lock: Path) -> Path:
    """The folder of the jars of a lock file, which are downloaded the first time.

    A line of the file is `[FOLDER] COORDINATES HASH`. Exits when a jar cannot be downloaded or does not have the locked
    hash.
    """

    def fetch(folder: Path) -> None:
        lines = [line.split() for line in lock.read_text().splitlines()]
        downloads = folder / "downloads"
        context = _maven(downloads)
        artifacts = [context.create_dependency(coordinates).artifact for *_, coordinates, _ in lines]
        for jar, (*within, coordinates, locked) in zip(_download(artifacts), lines, strict=True):
            found = _sha256(jar)
            if found != locked:
                raise SystemExit(f"{coordinates} has the hash {found}, but {lock.name} says {locked}")
            target = folder.joinpath(*within)
            target.mkdir(parents=True, exist_ok=True)
            jar.rename(target / jar.name)
        shutil.rmtree(downloads)

    return cached(_name(lock), fetch)


def write_lock(lock: Path, folders: Mapping[str, Wanted]) -> None:
    """Write a lock file of the jars of each folder; a jar of an earlier folder is not in a later one again."""
    with tempfile.TemporaryDirectory() as downloads:
        context = _maven(Path(downloads))
        lines: list[str] = []
        known: set[tuple[str, str]] = set()
        for folder, wanted in folders.items():
            artifacts = {(each.groupId, each.artifactId): each for each in _resolve(context, wanted)}
            fresh = [artifact for name, artifact in artifacts.items() if name not in known]
            known |= artifacts.keys()
            prefix = f"{folder} " if folder else ""
            lines += [
                f"{prefix}{each.groupId}:{each.artifactId}:{each.version} {_sha256(jar)}\n"
                for each, jar in zip(fresh, _download(fresh), strict=True)
            ]
    lock.write_text("".join(sorted(lines)))


def _resolve(context: MavenContext, wanted: Wanted) -> list[Artifact]:
    """The jars for every machine: one with a classifier has the native code of a single kind."""
    alone = [context.project("*", "*")]
    # Resolved apart, because the managed versions of one root would change the dependencies of the others.
    groups = [
        [context.create_dependency(name) for name in wanted.programs],
        [context.create_dependency(name, alone) for name in wanted.alone],
    ]
    needed = []
    for roots in filter(None, groups):
        direct, transitive = context.resolver.resolve(roots)
        needed += [*direct, *(each for each in transitive if each.scope in ("compile", "runtime"))]
    return [each.artifact for each in needed if not each.artifact.classifier]


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
