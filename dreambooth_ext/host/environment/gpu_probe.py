"""Finds the graphics cards of this machine and their driver, without torch."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")  # what AMD's compute driver for Linux tells of its devices
DISPLAY_ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
WINDOWS_TOOL = Path(r"C:\Program Files\NVIDIA Corporation\NVSMI\nvidia-smi.exe")  # of drivers before 2020

# Names of cards before Turing, for drivers that do not tell the compute capability.
OLD_NAMES = re.compile(
    r"GTX (?:TITAN|[6-9]\d\d|10[5-8]0)|GT (?:[6-9]\d\d|10[13]0)|GeForce \d{3}M|MX[123]\d\d|TITAN (?:X|V|Xp)\b"
    r"|Tesla [KMPV]\d|Quadro [KMPG]\d|Quadro GV|\bP(?:4|40|100|104|106)\b|\bV100\b|NVS \d",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Card:
    """An NVIDIA card; `capability` is its compute capability, which old drivers do not tell."""

    name: str
    capability: float | None = None

    @property
    def is_before_turing(self) -> bool:
        return self.capability < 7.5 if self.capability is not None else bool(OLD_NAMES.search(self.name))


@dataclass(frozen=True)
class Machine:
    """`driver`: NVIDIA's, its major version. `amd`: the targets of AMD's cards (gfx1100), or their names on Windows."""

    system: str = "Linux"  # as `platform.system` says: Linux, Windows, Darwin
    processor: str = "x86_64"
    driver: int | None = None
    cards: tuple[Card, ...] = ()
    amd: tuple[str, ...] = ()


def this_machine() -> Machine:
    system = platform.system()
    driver, cards = nvidia()
    amd = windows_adapters("AMD", "Radeon") if system == "Windows" else kfd_targets(KFD_NODES)
    return Machine(system, platform.machine(), driver, cards, amd)


def nvidia() -> tuple[int | None, tuple[Card, ...]]:
    """(driver's major version, cards); (None, ()) without a driver that works."""
    tool = shutil.which("nvidia-smi") or (str(WINDOWS_TOOL) if WINDOWS_TOOL.exists() else "nvidia-smi")
    for fields in ("driver_version,name,compute_cap", "driver_version,name"):
        try:
            done = subprocess.run(
                [tool, f"--query-gpu={fields}", "--format=csv,noheader"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return read_cards(done.stdout)
    return None, ()


def read_cards(text: str) -> tuple[int | None, tuple[Card, ...]]:
    """Parse nvidia-smi's rows, `580.95.05, NVIDIA GeForce RTX 3060, 8.6`, one for each card."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if re.match(r"\d+\.", line)]
    if not rows:
        return None, ()
    capabilities = [float(row[2]) if len(row) > 2 and re.fullmatch(r"\d+\.\d+", row[2]) else None for row in rows]
    cards = tuple(Card(row[1], capability) for row, capability in zip(rows, capabilities, strict=True))
    return int(rows[0][0].split(".")[0]), cards


def kfd_targets(nodes: Path) -> tuple[str, ...]:
    """The targets of AMD's cards, such as gfx90a, by `gfx_target_version 90010`; a processor's is 0."""
    found = []
    for properties in sorted(nodes.glob("*/properties")):
        try:
            match = re.search(r"^gfx_target_version (\d+)", properties.read_text(encoding="ascii"), re.MULTILINE)
        except (OSError, ValueError):
            continue
        if match and (number := int(match[1])):
            found.append(f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}")
    return tuple(found)


def windows_adapters(*makers: str) -> tuple[str, ...]:
    """The names of the graphics cards of those makers, from the registry; nothing on other systems."""
    if sys.platform != "win32":
        return ()
    import winreg

    names = []
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, DISPLAY_ADAPTERS) as adapters:
            keys = [winreg.EnumKey(adapters, number) for number in range(winreg.QueryInfoKey(adapters)[0])]
            for key in filter(str.isdigit, keys):
                with suppress(OSError), winreg.OpenKey(adapters, key) as adapter:  # one without a name
                    names.append(str(winreg.QueryValueEx(adapter, "DriverDesc")[0]))
    except OSError:  # not to be read: then nothing is known of AMD's cards
        return ()
    return tuple(name for name in names if any(maker in name for maker in makers))
