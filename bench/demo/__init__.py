"""The demonstration: `python -m bench.demo` trains a small network by uniform sampling, the
paper's algorithm and isample."""
