"""A worker that only pretends, for the launcher: what the process of rank N does is in the variable DOES_N.

`done`, `stopped`: after a command to stop. `fails`, `exchange`: tells it, and waits to be ended. `crashes`: dies.
`waits`: until it hears of a failure, which it records. `hangs`: whatever it hears, but for the end of the run. All but
the last begin when every process has said its word; a number behind it: so many seconds later.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from dreambooth_ext.core.errors import Problem
from dreambooth_ext.core.runs.events import take_commands
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine.launching.leash import Leash
from tests.waiting import until


def main() -> int:
    run, rank = Run(Path(sys.argv[1])), int(os.environ["RANK"])
    leash = Leash(os.fdopen(os.dup(0), "rb", buffering=0))
    (run.path / f"{rank}.pid").write_text(str(os.getpid()))
    what, _, after = os.environ[f"DOES_{rank}"].partition(" ")
    print("a library says something", flush=True)
    (run.path / f"{rank}.said").touch()
    if what == "hangs":
        time.sleep(1000)
    until(lambda: all((run.path / f"{other}.said").exists() for other in range(int(os.environ["WORLD_SIZE"]))))
    time.sleep(float(after or 0))
    if what == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "stopped":
        while "stop" not in take_commands(run.commands):
            time.sleep(0.02)
        return 130
    if what == "waits":
        while not (known := leash.failure(wait=True)):
            pass
        run.write_state(status="failed", problem=known[0].as_dict())
        leash.rescue()
        time.sleep(2.0)
        leash.tell(known[0], known[1], is_exchange=False)
        return known[1]
    if what in ("fails", "exchange"):
        leash.tell(Problem("device.missing", "device", device=f"cuda:{rank}"), 1, is_exchange=what == "exchange")
        leash.wait()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
