"""Downloading the jars of a lock file, and the cache."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.cache import cached
from embedded.jars import fetch_jars, jars_folder

_COORDINATES = "org.example:program:1.0"
_JAR = b"as published"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hyderabad-infra"


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that a mirror of Maven Central gets, which jgo's configuration names."""
    asked: list[str] = []

    class Mirror(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path.endswith(".jar") else 404)
            self.send_header("Content-Length", str(len(_JAR)))
            self.end_headers()
            self.wfile.write(_JAR)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        config = tmp_path / "jgo.conf"
        config.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}/maven\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield asked
        server.shutdown()
        serving.join()


def lock(folder: Path, jar: bytes, within: str = "") -> Path:
    file = folder / "program.lock"
    file.write_text(f"{within}{_COORDINATES} {hashlib.sha256(jar).hexdigest()}\n")
    return file


def test_locked_jars_are_fetched_once(cache: Path, requests: list[str], tmp_path: Path) -> None:
    file = lock(tmp_path, _JAR)

    folder = fetch_jars(file)
    asked = list(requests)

    assert asked[0] == "/maven/org/example/program/1.0/program-1.0.jar"
    assert [(jar.name, jar.read_bytes()) for jar in folder.iterdir()] == [("program-1.0.jar", _JAR)]
    assert folder == jars_folder(file) == fetch_jars(file)
    assert requests == asked


def test_jar_of_a_folder_is_put_into_it(cache: Path, requests: list[str], tmp_path: Path) -> None:
    folder = fetch_jars(lock(tmp_path, _JAR, within="modules/geo "))

    assert [jar.relative_to(folder) for jar in folder.rglob("*.jar")] == [Path("modules/geo/program-1.0.jar")]


def test_jar_with_another_hash_than_the_locked_one_is_rejected(
    cache: Path, requests: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=f"{_COORDINATES} has the hash"):
        fetch_jars(lock(tmp_path, b"as locked"))

    assert list(cache.iterdir()) == []


def test_jar_that_cannot_be_fetched_is_reported_and_leaves_nothing(
    cache: Path, requests: list[str], tmp_path: Path
) -> None:
    (tmp_path / "jgo.conf").write_text("[repositories]\ncentral = http://127.0.0.1:1/maven\n")

    with pytest.raises(SystemExit, match="Maven Central cannot be reached, which the first start needs"):
        fetch_jars(lock(tmp_path, _JAR))

    assert list(cache.iterdir()) == []


def test_folder_that_another_process_created_first_is_used(cache: Path) -> None:
    def make(building: Path) -> None:
        (building / "ours").touch()
        (cache / "program").mkdir()
        (cache / "program" / "theirs").touch()

    folder = cached("program", make)

    assert [file.name for file in folder.iterdir()] == ["theirs"]
    assert list(cache.iterdir()) == [folder]
