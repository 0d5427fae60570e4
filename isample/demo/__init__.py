"""The demonstration: `python -m isample demo` trains a small network by uniform sampling, the paper's algorithm and isample."""
