"""A run's settings: the list of them, how they are read, and what names are allowed."""
