"""The referee: training methods against each other at equal wall-clock time. `python -m
bench.training --help`."""
