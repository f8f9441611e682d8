"""The worker of a launcher: it ends with it from its first moment on, also while it imports PyTorch for seconds."""

from __future__ import annotations

import importlib
import sys

from ...core.system.terminal import open_missing_streams, shield
from .leash import Leash
from .standard_input import take_standard_input

WORKER = "dreambooth_ext.engine.worker"


def main() -> int:
    leash = Leash(take_standard_input())
    return int(importlib.import_module(WORKER).main(sys.argv[1:], leash))


if __name__ == "__main__":
    open_missing_streams()
    shield()
    sys.exit(main())
