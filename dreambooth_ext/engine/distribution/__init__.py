"""Several processes on one run: how they average their gradients, and how they end together."""
