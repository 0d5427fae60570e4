"""What the benchmarks and the demonstration share: data and networks."""
