"""What runs in a process of the pool: limits of the process, and the making of one picture."""

import os
import resource
import signal
import sys
import warnings
from pathlib import Path

from adapters.pictures.decoding import decode
from adapters.pictures.encoding import encode, flat, thumbhash
from adapters.pictures.hashing import perceptual_hash
from adapters.pictures.picture import Picture, PictureRefused


def prepare_process(memory: int) -> None:
    """Limit the process to so many bytes of address space beyond what it has; elsewhere than on Linux it is not."""
    # At once, and not when a decoder returns.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Decoders warn of damages for which they have an answer.
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def make_picture(source: Path, folder: Path, steps: Path, cpu_seconds: int) -> Picture:
    """Make the variants of a file in `folder`; each step is a line written to the pipe `steps`.

    Raises PictureRefused, and OSError where files cannot be read or written. The kernel ends the process by SIGXCPU
    when it has computed for so many seconds, also when nobody waits for it any more.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    pipe = os.open(steps, os.O_WRONLY)

    def step(name: str) -> None:
        os.write(pipe, f"{name}\n".encode())

    try:
        decoded = decode(source, step)
        size = decoded.width, decoded.height
        variants, smallest = encode(decoded.image, size, folder, step)
        return Picture(
            media_type=decoded.media_type,
            width=decoded.width,
            height=decoded.height,
            thumbhash=thumbhash(smallest),
            perceptual_hash=perceptual_hash(flat(smallest)),
            variants=variants,
        )
    except MemoryError:
        raise PictureRefused("needs-too-much-memory") from None
    finally:
        os.close(pipe)
