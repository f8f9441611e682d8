"""Streaming: the same numbers with blocks that live outside the card."""
