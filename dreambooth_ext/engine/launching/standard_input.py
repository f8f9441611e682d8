"""The standard input of a worker, whose other end whoever started it holds."""

from __future__ import annotations

import io
import os
from typing import BinaryIO


def take_standard_input() -> BinaryIO:
    """Move standard input to another file descriptor, which child processes do not inherit; they get an empty one.

    On Windows, a program hangs at its start if another one waits on the pipe that it inherits as standard input.
    """
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return io.FileIO(pipe, closefd=False)  # buffering or closing it would block the exit
