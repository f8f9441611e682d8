"""The command line's commands, one file each: `HELP`, `add_arguments(parser)` and `run(arguments) -> exit status`."""
