"""A cache of downloaded and built engines, outside the checkout and keyed by version."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder(home: Path | None = None) -> Path:
    """The cache of this user, or another in `home`. Exits when another user owns it."""
    home = home or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyderabad-infra"
    home.mkdir(parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        raise SystemExit(f"{home} is owned by another user, so its programs are not run. Remove it and try again.")
    return home


def cached(name: str, make: Callable[[Path], None], home: Path | None = None) -> Path:
    """The folder `name` of the cache, made by `make` the first time. A failed attempt leaves nothing behind."""
    home = cache_folder(home)
    folder = home / name
    if folder.exists():
        return folder
    building = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home))
    try:
        make(building)
        building.chmod(0o755)
        building.rename(folder)
    except OSError:
        # Another process has created the same folder first: use that one.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def tool(name: str, why: str) -> str:
    """The path of an installed program. Exits with advice when it is missing."""
    found = shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is needed {why}; install it and try again.")
    return found


def run(command: list[str], what: str, **env: str) -> None:
    """Run a build step, showing its output only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{what} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def go_install(folder: Path, what: str, *packages: str) -> None:
    """Build Go programs into `folder`."""
    go = tool("go", f"to build {what}")
    run([go, "install", *packages], f"Building {what}", GOBIN=str(folder), GOFLAGS="-buildvcs=false")


def go_module(module: str) -> Path:
    """The folder of a Go module (`path@version`) in the module cache; it must have been downloaded."""
    found = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", module], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"{module} is not in the Go module cache:\n{found.stderr}")
    return Path(found.stdout.strip())


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
