"""The command line's verbs, a file each: `HELP`, `add_arguments(parser)` and `run(arguments) -> exit status`."""
