"""Messages to users: a code with values, and one catalogue of their English texts (`english/`)."""
