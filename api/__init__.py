"""The HTTP API: one router for each resource, one table from error to HTTP."""
