"""Options of the commands that need no run: generate, convert, network."""
