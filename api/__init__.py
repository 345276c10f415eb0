"""How people ask: one router for each resource, one table from error to HTTP."""
