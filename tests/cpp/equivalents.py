"""Mutants that no test can notice, and why."""

# {(file below csrc, line before, line after, number among those that read the same): why}
EQUIVALENT = {}
