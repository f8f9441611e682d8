"""Judging a run's saved models: each draws the same prompts, and the base itself, which has seen none of it, judges."""
