"""Every engine and every process of ours on one machine, from Python wheels: for `make run`, tests and benchmarks."""
