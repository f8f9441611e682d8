"""Options of the verbs that work without a run: generate, convert, network."""
