"""What this machine is: `python -m benchmarks.machine` prints it as JSON."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import diffusers
import psutil
import torch


def facts() -> dict[str, Any]:
    found = {
        "cpu": processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "card": None,
        "card_memory": 0,
    }
    if torch.cuda.is_available():
        found["card"] = torch.cuda.get_device_name(0)
        found["card_memory"] = torch.cuda.get_device_properties(0).total_memory
    return found


def processor() -> str:
    """The processor's name as its maker gives it, and the vector instructions that matter here."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    lines = path.read_text(encoding="utf-8").splitlines()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    vectors = [x for x in ("avx2", "avx512f", "amx_bf16") if x in known.get("flags", "").split()]
    return ", ".join([known.get("model name", platform.machine()), *vectors])


if __name__ == "__main__":
    print(json.dumps(facts()))
