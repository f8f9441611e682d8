"""The HTTP API and the standalone server."""
