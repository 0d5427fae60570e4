"""Everything that wants a GPU, by one command: `python -m bench.gpu`, or `make gpu`."""
