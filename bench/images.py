"""Pictures a second and peak memory on one core, beside sharp (npm) and beside plain Pillow in a loop.

`python -m bench.images` prints the rows without engines; with the name of one that makes pictures, a folder and files,
it makes them and prints how long that took.
"""

import asyncio
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from adapters.pictures import Pictures
from adapters.pictures.encoding import WIDTHS, widths_of
from bench.search import AddRow
from embedded.cache import cached
from embedded.paths import ROOT
from tests.adapters.pictures.test_real_files import FOLDER, SIZES

_SHARP = "0.35.5"
_PHONE = (4000, 3000)
"""Pixels of a phone's photo: 12 megapixels."""
_ROUNDS = 3
"""Of all, alternating; the median of each counts."""
_MISSING = "sharp is not here: it needs Node 20.9 or newer, and npm"


@dataclass(frozen=True)
class Measured:
    seconds: float
    """Of all files."""
    peak: int
    """kB of the process that decodes and encodes."""


def measure(row: AddRow) -> None:
    """The rows `images-*`, of four photos as phones take them, and of the real files of ../shared/data."""
    if not FOLDER.exists():
        row("images", 0, "pictures/s a core", "the images of ../shared/data are not on this machine")
        return
    with tempfile.TemporaryDirectory(prefix="hyderabad-bench-") as folder:
        phone = _phone_photos(Path(folder))
        # sharp's binaries cannot decode HEIC.
        real = [FOLDER / name for name in SIZES if not name.endswith(".heif")]
        out = Path(folder) / "out"
        out.mkdir()
        commands = _commands(out)
        for name, files in (("phone", phone), ("real", real)):
            ours, sharp, plain = _alternating(commands, files)
            rate = len(files) / ours.seconds
            beside_sharp = len(files) / sharp.seconds if sharp else _MISSING
            row(f"images-{name}", rate, "pictures/s a core, beside sharp", beside_sharp)
            row(f"images-{name}-plain", rate, "pictures/s a core, beside plain Pillow", len(files) / plain.seconds)
            megabytes = ours.peak / 1000
            row(f"images-{name}-memory", megabytes, "MB, beside sharp", sharp.peak / 1000 if sharp else _MISSING)
            row(f"images-{name}-memory-plain", megabytes, "MB, beside plain Pillow", plain.peak / 1000)


def _phone_photos(folder: Path) -> list[Path]:
    """The photos of properties, enlarged to what a phone takes."""
    made = []
    for source in sorted(FOLDER.glob("property_*.jpg")):
        path = folder / source.name
        with Image.open(source) as image:
            image.resize(_PHONE, Image.Resampling.LANCZOS).save(path, quality=92)
        made.append(path)
    return made


def _commands(out: Path) -> list[list[str] | None]:
    """How each is started; None where sharp is not on this machine."""
    python = [sys.executable, "-m", "bench.images"]
    sharp = _sharp()
    return [
        [*python, "pictures", str(out)],
        ["node", str(ROOT / "bench" / "images.mjs"), str(sharp), str(out)] if sharp else None,
        [*python, "plain", str(out)],
    ]


def _sharp() -> Path | None:
    """The folder where sharp is installed; None without Node, or without a registry to install it from."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None

    def install(folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"sharp@{_SHARP}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    try:
        return cached(f"sharp-{_SHARP}", install)
    except subprocess.CalledProcessError:
        return None


def _alternating(
    commands: Sequence[list[str] | None], files: Sequence[Path]
) -> tuple[Measured, Measured | None, Measured]:
    rounds = [[_measured(command, files) if command else None for command in commands] for _ in range(_ROUNDS)]
    # Where sharp is missing, it is in each round.
    ours, sharp, plain = (
        sorted(filter(None, each), key=lambda it: it.seconds)[len(rounds) // 2] if each[0] else None
        for each in zip(*rounds, strict=True)
    )
    assert ours
    assert plain
    return ours, sharp, plain


def _measured(command: list[str], files: Sequence[Path]) -> Measured:
    """Run one on a single core."""
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(
        ["taskset", "--cpu-list", str(core), *command, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return Measured(**json.loads(done.stdout))


async def _pictures(out: Path, files: Sequence[Path]) -> tuple[float, int]:
    pictures = Pictures(1)
    for file in files:
        await pictures.make(file, out, lambda _: None)
    began = time.perf_counter()
    for file in files:
        await pictures.make(file, out, lambda _: None)
    seconds = time.perf_counter() - began
    (process,) = multiprocessing.active_children()
    assert process.pid
    peak = _peak(process.pid)
    await pictures.close()
    return seconds, peak


def _plain(out: Path, files: Sequence[Path]) -> tuple[float, int]:
    """As one writes it first: each variant from the file, with the settings that Pillow has."""

    def make(file: Path) -> None:
        with Image.open(file) as image:
            width = ImageOps.exif_transpose(image).width
        for wanted in widths_of(width):
            kinds = ["avif", "webp", *(["jpg"] if wanted == min(WIDTHS[2], width) else [])]
            for kind in kinds:
                with Image.open(file) as image:
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                    upright.thumbnail((wanted, 100_000))
                    upright.save(out / f"{wanted}.{kind}")

    began = time.perf_counter()
    for file in files:
        make(file)
    return time.perf_counter() - began, _peak(os.getpid())


def _peak(pid: int) -> int:
    """The most memory that a process has had, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _print(name: str, value: float, unit: str, baseline: float | str) -> None:
    beside = baseline if isinstance(baseline, str) else f"{baseline:.2f} ({value / baseline:.2f})"
    print(f"{name}: {value:.2f} {unit}, {beside}")  # noqa: T201


def main(arguments: Sequence[str]) -> None:
    if not arguments:
        measure(_print)
        return
    name, out, *files = arguments
    paths = [Path(file) for file in files]
    seconds, peak = asyncio.run(_pictures(Path(out), paths)) if name == "pictures" else _plain(Path(out), paths)
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1:])
