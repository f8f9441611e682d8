"""`env`: the trainer's environment."""

from ..host.env_command import add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show, make, check and repair the trainer's environment"
