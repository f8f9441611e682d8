"""The command line's verbs, a file each: `HELP`, `add_arguments(parser)` and `run(arguments) -> exit status`."""

DONE, BAD_INPUT, USAGE, FAILED, STOPPED = 0, 1, 2, 3, 130
