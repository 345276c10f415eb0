"""Conditional requests (RFC 9110, section 13): the versions that clients name by their ETags."""

import re

# A gateway that compresses an answer marks its ETag so (Caddy, Apache); the version is the same.
_ETAG = re.compile(r'(?P<weak>W/)?"(?P<version>[0-9]{1,18})(?:-(?:gzip|zstd|br))?"')


def versions_in(header: str, *, weak: bool) -> tuple[int, ...]:
    """The versions whose ETags a header lists. A tag that is not ours names none; nor a weak one, unless `weak`."""
    found = (_ETAG.fullmatch(tag.strip()) for tag in header.split(","))
    return tuple(int(tag["version"]) for tag in found if tag and (weak or not tag["weak"]))


def is_unchanged(if_none_match: str | None, version: int) -> bool:
    """Whether the client of a GET has the version already: it is named, or `*` stands for any."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or version in versions_in(if_none_match, weak=True)
