"""Publishes models into a host's folders, never partially even if killed, and removes them again."""
