"""Frozen weights in 8 or 4 bits: how they are packed, and the layers that compute with them."""
