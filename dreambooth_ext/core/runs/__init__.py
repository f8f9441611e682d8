"""The run folder: its state, events and commands."""
