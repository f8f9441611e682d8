"""A run's settings: what there is, how it is read, and how it is named."""
