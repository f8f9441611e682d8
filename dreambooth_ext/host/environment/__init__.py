"""The trainer's own Python environment: built, proved, repaired."""
