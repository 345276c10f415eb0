"""Conditional requests (RFC 9110, section 13): an ETag is the version of a resource."""

import re

# Gateways that compress a response append a suffix to its ETag (Caddy, Apache); the version is the same.
_ETAG = re.compile(r'(?P<weak>W/)?"(?P<version>[0-9]{1,18})(?:-(?:gzip|zstd|br))?"')


def versions_in(header: str, *, weak: bool) -> tuple[int, ...]:
    """The versions of the ETags in a header. Other tags are ignored, and so are weak ones unless `weak` is true."""
    found = (_ETAG.fullmatch(tag.strip()) for tag in header.split(","))
    return tuple(int(tag["version"]) for tag in found if tag and (weak or not tag["weak"]))


def is_unchanged(if_none_match: str | None, version: int) -> bool:
    """Whether `If-None-Match` lists the version or is `*`, so that the answer is 304."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or version in versions_in(if_none_match, weak=True)
