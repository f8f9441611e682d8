"""Checks of a config before anything is loaded: problems that forbid a run, and warnings."""
