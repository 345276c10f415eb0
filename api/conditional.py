"""Conditional requests (RFC 9110, section 13): an ETag is the version of a resource."""

import re

# Gateways that compress a response append a suffix to its ETag (Caddy, Apache); the version is the same.
_ETAG = re.compile(r'"(?P<version>[0-9]{1,18})(?:-(?:gzip|zstd|br))?"')


def versions_in(if_match: str) -> tuple[int, ...]:
    """The versions of the ETags in `If-Match`. Other tags and weak ones are ignored: they match nothing."""
    found = (_ETAG.fullmatch(tag.strip()) for tag in if_match.split(","))
    return tuple(int(tag["version"]) for tag in found if tag)


def is_not_wanted(if_none_match: str | None) -> bool:
    """Whether `If-None-Match` is `*`, so that the answer is 304.

    A version in it does not make it 304: counts in the body change without the version, and the client would never
    see them.
    """
    return if_none_match is not None and if_none_match.strip() == "*"
