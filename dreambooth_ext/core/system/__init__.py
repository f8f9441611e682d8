"""Files, disk, terminal and other things of the operating system."""
