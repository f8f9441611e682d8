"""Models put into a host's folders, whole under any kill, and taken out again."""
