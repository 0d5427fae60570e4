"""The demonstration: `python -m isample demo` trains a small network with uniform and with importance sampling."""
