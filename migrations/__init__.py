"""The database, step by step, forward only."""
