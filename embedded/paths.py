"""The ports and secrets of one checkout's stack, which are kept between runs."""

import base64
import json
import os
import secrets
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROOT = Path(__file__).resolve().parent.parent


# Below the ephemeral ports, which an outgoing connection could take while an engine restarts. Temporal's server also
# stores its ports as 16-bit signed numbers.
_PORT_RANGE = range(20_000, 32_768)


class Ports:
    """Free ports of 127.0.0.1 by name, the same in each run while they are free. `<NAME>_PORT` sets one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        self._checked: set[str] = set()

    def __getitem__(self, name: str) -> int:
        if name not in self._checked:
            self._ports[name] = self._choose(name)
            self._checked.add(name)
            self._file.write_text(json.dumps(self._ports, indent=1))
        return self._ports[name]

    def _choose(self, name: str) -> int:
        wanted = os.environ.get(f"{name.upper()}_PORT")
        if wanted:
            port = _port_number(f"{name.upper()}_PORT", wanted)
            if not is_free(port):
                raise SystemExit(
                    f"{name.upper()}_PORT={port} is in use by another program; choose another or unset it."
                )
            return port
        before = self._ports.get(name)
        if before and is_free(before):
            return before
        taken = set(self._ports.values())
        return next(
            port for port in (secrets.choice(_PORT_RANGE) for _ in range(10_000)) if port not in taken and is_free(port)
        )


def _port_number(name: str, value: str) -> int:
    if not value.isdigit() or not 1 <= int(value) <= 65535:
        raise SystemExit(f"{name}={value!r} is not a port number between 1 and 65535.")
    return int(value)


def api_port() -> int:
    """The API's port: `PORT`, else 8080. Exits with advice when it is in use."""
    port = _port_number("PORT", os.environ.get("PORT", "8080"))
    if not is_free(port):
        raise SystemExit(f"Port {port} is in use by another program. Choose another: make run PORT={port + 1}")
    return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def load_or_create_secrets(folder: Path) -> dict[str, str]:
    """The passwords and keys of this checkout's stack: created once, in a file that only its owner may read."""
    file = folder / "secrets.json"
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    signing_key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    push_key = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32)
    made = {
        "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "JWT_PRIVATE_KEY": signing_key.decode(),
        "VAPID_PRIVATE_KEY": base64.urlsafe_b64encode(push_key).decode().rstrip("="),
    }
    # An earlier release has made fewer.
    if made.keys() <= kept.keys():
        return kept
    made |= kept
    unfinished = file.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(made, out, indent=1)
    unfinished.replace(file)
    return made


def write_environment(file: Path, env: Mapping[str, str]) -> None:
    """Write environment variables as a shell script that only its owner may read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.writelines(f"{name}={shlex.quote(value)}\n" for name, value in sorted(env.items()))
