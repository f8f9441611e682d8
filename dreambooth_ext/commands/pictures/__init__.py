"""Commands about pictures and their sets."""
