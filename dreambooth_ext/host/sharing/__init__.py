"""Pages about a run that are safe to give to others."""
