"""What draws with trained models beside training: single pictures, comparisons and verdicts, one at a time."""
