"""Clients of external systems: one module for each system outside the process."""
