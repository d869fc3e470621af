"""Published code of others beside this toolkit, at the same sizes with random weights: `python -m experiments.bench.peers`."""
