"""Run by the WebUI's launcher at every start: builds or repairs the trainer's environment, in a folder of its own.

Quick when there is nothing to do. Changes no package of the WebUI, and never prevents its start: the tab shows what
went wrong, with a button that tries again.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    from dreambooth_ext.core.system.files import is_locked
    from dreambooth_ext.host.environment.environment import Environment

    environment = Environment()
    status = environment.status()
    if status.state == "ready":
        return
    if is_locked(environment.folder / "build.lock"):
        print("DreamBooth: another process is setting up the trainer's environment.")
        return
    print(f"DreamBooth: {status.reason} Setting up the trainer's environment in {environment.folder}.")
    environment.build(host_python=Path(sys.executable))
    print(f"DreamBooth: the trainer's environment is ready, on torch {environment.status().torch}.")


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):  # a console may not know the letters of a folder's name
        sys.stdout.reconfigure(errors="replace")
    try:
        main()
    except Exception as error:  # the launcher would show a traceback and the start would look broken
        print(f"DreamBooth: the trainer's environment could not be set up. {error}")
        print("The WebUI works without it. The DreamBooth tab has details, and a button to try again.")
