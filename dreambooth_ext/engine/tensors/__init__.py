"""Tensors in files: read lazily, written whole, unpickled without running anything."""
