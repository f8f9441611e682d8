"""`python -m tests.host.standin --data DIR [--gradio 3|4] [--folder NAME] [--port N] [the stand-in's own options]`

Runs in the foreground; Ctrl-C ends it. In a new DIR it puts this repository as an extension and two checkpoints.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.host.standin", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where models, settings and extensions are")
    parser.add_argument("--gradio", type=int, choices=(3, 4), default=3)
    parser.add_argument("--folder", default="dreambooth", help="the extension's folder, made if it is not there")
    parser.add_argument("--port", type=int, default=7860)
    arguments, options = parser.parse_known_args()
    data = arguments.data.absolute()
    if not (data / "extensions" / arguments.folder).exists():
        running.install_extension(data, arguments.folder)
    if not (data / "models").exists():
        running.add_checkpoint(data, "one.safetensors", b"the first")
        running.add_checkpoint(data, "two.safetensors", b"the second")
    command = running.command(data, arguments.gradio, arguments.port, options)
    try:
        return subprocess.call(command, cwd=data, env=running.environment(None))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
