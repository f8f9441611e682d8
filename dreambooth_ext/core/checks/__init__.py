"""What is wrong with a config, and what is worth a warning, before anything is loaded."""
