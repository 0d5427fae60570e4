"""What cheap scoring saves and what it loses. `python -m bench.scoring --help`."""
