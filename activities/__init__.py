"""Temporal activities: side effects that may be retried. Each may run twice and has its effect once."""
