"""Captions as text: their tags, bulk changes, tokens, and what training makes of them."""
