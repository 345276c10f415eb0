"""The roles of accounts, and who may act on a listing."""

from enum import StrEnum


class UserRole(StrEnum):
    USER = "USER"
    AGENT = "AGENT"
    BUILDER = "BUILDER"
    ADMIN = "ADMIN"
