"""Judging a run: what is measured, what it means, what to do about it."""
