"""Benchmarks: each figure beside a baseline from the same run."""
