"""Temporal workflows: the steps of each command, in order; one file for each workflow."""
