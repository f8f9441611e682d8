"""The exit statuses of the command line."""

DONE, BAD_INPUT, USAGE, FAILED, STOPPED = 0, 1, 2, 3, 130
