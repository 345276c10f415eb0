"""The roles of accounts."""

from enum import StrEnum


class UserRole(StrEnum):
    USER = "USER"
    AGENT = "AGENT"
    BUILDER = "BUILDER"
    ADMIN = "ADMIN"
