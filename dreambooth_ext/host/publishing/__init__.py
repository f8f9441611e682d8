"""Publishing models into a host's folders, whole even if killed, and removing them again."""
