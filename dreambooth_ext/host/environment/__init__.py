"""The trainer's own Python environment: creates, checks and repairs it."""
