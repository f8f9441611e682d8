"""Pictures before a run: what a training crop leaves of them, and how they are edited."""
