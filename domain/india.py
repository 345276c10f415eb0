"""The time of India."""

from datetime import timedelta, timezone

INDIA = timezone(timedelta(hours=5, minutes=30))
"""Asia/Kolkata, which has had no other offset since 1945; so no time zone database is needed."""
