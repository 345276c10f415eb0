"""Runs every engine and every process of the platform on one machine, for `make run`, tests and benchmarks."""
