"""Measurements: `python -m benchmarks.<name>` prints a table and writes its JSON; nothing imports it."""
