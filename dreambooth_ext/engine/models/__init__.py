"""Base models: recognise their files, read their configuration and build their parts."""
