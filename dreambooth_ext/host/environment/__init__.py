"""The trainer's own Python environment: made, checked and repaired."""
