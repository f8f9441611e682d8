"""Model families and their files: recognised, read and assembled."""
