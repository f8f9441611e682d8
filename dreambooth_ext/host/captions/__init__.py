"""Captions in the tab and the API: bulk changes that can be undone, previews, taggers, and what a word is worth."""
