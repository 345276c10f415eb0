"""Conditional requests (RFC 9110, section 13)."""


def is_unchanged(if_none_match: str | None, etag: str) -> bool:
    """Whether the client of a GET has the version `etag` already: it is named, or `*` stands for any."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
