"""Conditional requests (RFC 9110, section 13): an ETag is the version of a resource."""

import re

# RFC 9110, section 8.8.3; `re` matches text, into which servers decode headers as Latin-1.
_ANY_ETAG = r'(?:W/)?"[!\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t,]*{_ANY_ETAG}(?:[ \t]*,[ \t,]*{_ANY_ETAG})*[ \t,]*")
# Gateways that compress a response append a suffix to its ETag (Caddy, Apache); the version is the same.
_ETAG = re.compile(r'"(?P<version>[0-9]{1,18})(?:-(?:gzip|zstd|br))?"')


def versions_in(if_match: str) -> tuple[int, ...]:
    """The versions of the ETags in `If-Match`. Other tags and weak ones are ignored: they match nothing.

    Raises ValueError if it is no list of ETags.
    """
    if not _LIST.fullmatch(if_match):
        raise ValueError("not a list of ETags")
    found = (_ETAG.fullmatch(tag) for tag in re.findall(_ANY_ETAG, if_match))
    return tuple(int(tag["version"]) for tag in found if tag)


def is_not_wanted(if_none_match: str | None) -> bool:
    """Whether `If-None-Match` is `*`, so that the answer is 304.

    A version in it does not make it 304: counts in the body change without the version, and the client would never
    see them.
    """
    return if_none_match is not None and if_none_match.strip() == "*"
