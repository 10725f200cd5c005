"""Measurements: ratios within one run, never asserted on by tests. `python -m benchmarks [NAME ...]` prints the table."""
