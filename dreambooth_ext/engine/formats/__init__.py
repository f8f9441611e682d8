"""The model files that a run publishes: written, verified by reading them back, and read."""
