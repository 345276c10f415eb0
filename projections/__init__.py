"""Read models: one file for each, with `apply` and the query that reads what it writes."""
