"""Pictures that somebody uploads: sets of them, and how they are decoded."""
