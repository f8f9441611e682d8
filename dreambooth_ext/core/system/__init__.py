"""Files, disk, terminal and other parts of the operating system."""
