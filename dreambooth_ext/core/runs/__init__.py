"""The run folder: its states, events and commands."""
