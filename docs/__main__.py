"""`python -m docs`: generate docs/reference and docs/settings.md; `python -m docs check`: check them and all links."""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from adapters.settings import Settings
from api.app import create_app
from docs.asyncapi import asyncapi
from docs.statuses import statuses

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
_INDEX = """# Reference

Generated from the code by `python -m docs`; `make check` fails when it is out of date.

- [openapi.json](openapi.json): every route (OpenAPI 3.1); the running API shows it at `/docs`.
- [asyncapi.json](asyncapi.json): every Kafka message and every live message (AsyncAPI 3.0).
- [statuses.md](statuses.md): the statuses of a listing, and who may change which into which.
"""


_SETTINGS = """# Settings

Generated from `adapters/settings.py` by `python -m docs`; `make check` fails when it is out of date.

Every process reads its settings from environment variables when it starts. If one is missing or invalid, the process
names it and exits with code 2. An empty variable counts as not set. `make run` sets what it needs itself; for
docker compose, README.md says what goes into `.env`.

| setting | default | meaning |
|---|---|---|
"""


def settings() -> str:
    """The page of every setting, in the order of the code."""
    rows = [
        f"| `{name.upper()}` | {_default(field)} | {' '.join((field.description or '').split())} |"
        for name, field in Settings.model_fields.items()
    ]
    return _SETTINGS + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    text = ",".join(default) if isinstance(default, tuple) else "" if default is None else f"{default}"
    return f"`{text}`" if text else "none"


def openapi() -> dict[str, Any]:
    made_up = Settings.model_validate({"secret_key": base64.b64encode(bytes(32)).decode()})
    return create_app(made_up).openapi()


def documents() -> dict[Path, str]:
    return {
        ROOT / "docs" / "settings.md": settings(),
        REFERENCE / "README.md": _INDEX,
        REFERENCE / "statuses.md": statuses(),
        REFERENCE / "openapi.json": json.dumps(openapi(), indent=1, sort_keys=True) + "\n",
        REFERENCE / "asyncapi.json": json.dumps(asyncapi(), indent=1, sort_keys=True) + "\n",
    }


def problems() -> list[str]:
    """Reference documents that are out of date, and broken links."""
    found = [
        f"{file.relative_to(ROOT)} is out of date: run python -m docs"
        for file, text in documents().items()
        if not file.exists() or file.read_text() != text
    ]
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in link and not (page.parent / link).exists():
                found.append(f"{page.relative_to(ROOT)} links to {link}, which does not exist")
    return found


def main() -> None:
    if sys.argv[1:] == ["check"]:
        found = problems()
        if found:
            raise SystemExit("\n".join(found))
    elif not sys.argv[1:]:
        for file, text in documents().items():
            file.write_text(text)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
