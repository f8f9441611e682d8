"""Everything that uses the WebUI's `modules`; forks are recognised by their features, never by name."""
