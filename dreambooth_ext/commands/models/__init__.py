"""Commands about model files: drawing with them, comparing them, changing their format."""
