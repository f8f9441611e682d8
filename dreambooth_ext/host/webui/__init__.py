"""Everything that uses the WebUI's `modules`; forks are told apart by their features, never by name."""
