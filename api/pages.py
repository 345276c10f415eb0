"""Content negotiation between JSON and a small HTML page, for routes that people open in a browser."""

import html
import json
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>body{{font:16px/1.5 system-ui;margin:3rem auto;max-width:42rem;padding:0 1rem}}
pre{{background:#f4f4f4;padding:1rem;overflow:auto}}</style><h1>{title}</h1>{content}</html>"""


def answer(request: Request, value: dict[str, Any], title: str, content: str) -> Response:
    """`value` as JSON, or a page with the HTML `content` if the client prefers HTML."""
    headers = {"Vary": "Accept"}
    if prefers_html(request.headers.get("accept", "")):
        return HTMLResponse(_PAGE.format(title=html.escape(title), content=content), headers=headers)
    return Response(json.dumps(value), headers=headers, media_type="application/json")


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def links(addresses: dict[str, str]) -> str:
    """A list of links: URLs by their texts."""
    items = (f'<li><a href="{html.escape(url)}">{html.escape(name)}</a></li>' for name, url in addresses.items())
    return f"<ul>{''.join(items)}</ul>"


def sample(value: dict[str, Any]) -> str:
    """An indented JSON document."""
    return f"<pre>{html.escape(json.dumps(value, indent=2))}</pre>"


def prefers_html(accept: str) -> bool:
    """Whether an Accept header puts text/html before JSON, as browsers do; `*/*` and no header do not."""
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def _quality(accept: str, media_type: str) -> float:
    """The weight of a media type by its most specific range (RFC 9110, section 12.5.1); 0 where there is none."""
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.rpartition("q=")[2].strip() if "q=" in parameters else "1"
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            weights[name.strip()] = 0.0
    return next((weights[name] for name in ranges if name in weights), 0.0)
