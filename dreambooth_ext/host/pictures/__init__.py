"""Uploaded pictures: sets of them, and how they are decoded."""
