"""What the command line's exit status says."""

DONE, BAD_INPUT, USAGE, FAILED, STOPPED = 0, 1, 2, 3, 130
