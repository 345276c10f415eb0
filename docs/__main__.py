"""`python -m docs`: write docs/reference from the code; `python -m docs check`: is it up to date, are links whole?"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

from adapters.settings import Settings
from api.app import create_app
from docs.asyncapi import asyncapi
from docs.statuses import statuses

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
_INDEX = """# Reference

Made by `python -m docs` from the code; `make check` compares them.

- [openapi.json](openapi.json): every route (OpenAPI 3.1); the running API shows it at `/docs`.
- [asyncapi.json](asyncapi.json): every Kafka message (AsyncAPI 3.0), from the registry in `domain/events.py`.
- [statuses.md](statuses.md): the statuses of a listing, and who may change which into which.
"""


def openapi() -> dict[str, Any]:
    settings = Settings.model_validate({"secret_key": base64.b64encode(bytes(32)).decode()})
    return create_app(settings).openapi()


def documents() -> dict[Path, str]:
    return {
        REFERENCE / "README.md": _INDEX,
        REFERENCE / "statuses.md": statuses(),
        REFERENCE / "openapi.json": json.dumps(openapi(), indent=1, sort_keys=True) + "\n",
        REFERENCE / "asyncapi.json": json.dumps(asyncapi(), indent=1, sort_keys=True) + "\n",
    }


def problems() -> list[str]:
    """What is out of date, and links that lead nowhere."""
    found = [
        f"{file.relative_to(ROOT)} is not what the code says: python -m docs"
        for file, text in documents().items()
        if not file.exists() or file.read_text() != text
    ]
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in link and not (page.parent / link).exists():
                found.append(f"{page.relative_to(ROOT)} links to {link}, which is not there")
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
