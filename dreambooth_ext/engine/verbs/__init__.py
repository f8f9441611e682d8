"""The verbs that need the engine but no run: generate, convert, network."""
