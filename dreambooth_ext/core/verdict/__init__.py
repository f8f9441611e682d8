"""The verdict on a run: what is drawn to judge it, what the scores mean, and which model to keep. Plain Python."""
