"""Which build of torch fits a machine, and why: a function of what the machine is, without asking it anything.

PyTorch 2.13 is built for CUDA 13.0 (on PyPI for Linux) and 12.6, ROCm 7.2, Apple's processors and CPUs (its
RELEASE.md, pull request 187075). CUDA 12.6 is the last for cards before Turing: PyTorch 2.15 is to have none for them
(issue 190385).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import UserError
from ...core.messages.message import Message
from .gpu_probe import Card, Machine

INDEX = "https://download.pytorch.org/whl/"
AUTOMATIC = "auto"
BUILDS = ("cu130", "cu126", "rocm", "mps", "cpu")
ROCM = "rocm7.2"


@dataclass(frozen=True)
class Cuda:
    """One of CUDA's builds: the oldest driver (major version), and the compute capabilities from and below which it
    has kernels."""

    name: str
    driver: int
    first: float
    end: float

    def knows(self, card: Card) -> bool:
        if card.capability is None:
            return self.first < 7.5 or not card.is_before_turing
        return self.first <= card.capability < self.end


# Drivers: docs.nvidia.com/deploy/cuda-compatibility, minor version compatibility. Kernels: RELEASE.md, as above.
CUDA_13 = Cuda("cu130", 580, 7.5, 13.0)
CUDA_12 = Cuda("cu126", 525, 5.0, 10.0)

# AMD's cards that PyTorch's ROCm wheels have kernels for, and those that work as the first of their generation.
ROCM_TARGETS = {"gfx900", "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1101", "gfx1102"}
ROCM_TARGETS |= {"gfx1150", "gfx1151", "gfx1200", "gfx1201"}
LIKE_GFX1030 = {"gfx1031", "gfx1032", "gfx1034"}


@dataclass(frozen=True)
class Build:
    """`index`: the package index that has it, None for the usual one. `is_needed`: another build would not do, so
    that the usual index is no way out."""

    name: str
    index: str | None
    reason: Message
    is_needed: bool = False

    def requirement(self, version: str) -> str:
        """What pip is asked for. With the build's label, for where its index does not answer, pip and uv would take the
        usual build of the same version without a word."""
        return f"torch=={version}" + (f"+{self.index.rpartition('/')[2]}" if self.index else "")


def choose(machine: Machine, asked: str = AUTOMATIC, own_sources: bool = False) -> Build:
    """The build for a machine, or the one that was asked for.

    `own_sources`: the user's configuration of pip or uv names indexes or folders; without a card these decide alone.
    Raises UserError("torch") when the build that was asked for does not exist for this system.
    """
    if asked != AUTOMATIC:
        if asked not in builds_for(machine):
            about = {"name": asked, "system": f"{machine.system} {machine.processor}", "choices": builds_for(machine)}
            raise UserError("environment.no_such_torch", "torch", **about)
        return build(machine, asked, Message("environment.torch_asked", name=asked), is_needed=True)
    if machine.system == "Darwin":
        if machine.processor == "arm64":
            return build(machine, "mps", Message("environment.torch_mps"))
        return build(machine, "cpu", Message("environment.torch_intel_mac"))
    if machine.driver is not None and machine.cards:
        return for_nvidia(machine, machine.driver)
    if machine.amd:
        return for_amd(machine)
    if own_sources:
        return Build("cpu", None, Message("environment.torch_own_sources"))
    return build(machine, "cpu", Message("environment.torch_cpu"))


def builds_for(machine: Machine) -> tuple[str, ...]:
    """The names of the builds that exist for its system."""
    if machine.system == "Darwin":
        return ("mps",) if machine.processor == "arm64" else ("cpu",)
    if machine.system == "Linux" and machine.processor in ("x86_64", "AMD64"):
        return "cu130", "cu126", "rocm", "cpu"
    return "cu130", "cu126", "cpu"


def build(machine: Machine, name: str, reason: Message, is_needed: bool = False) -> Build:
    """That build with its index."""
    if name == usual(machine, name):
        return Build(name, None, reason)
    return Build(name, INDEX + (ROCM if name == "rocm" else name), reason, is_needed)


def usual(machine: Machine, name: str) -> str:
    """The build that PyPI has for its system: for CUDA 13.0 on Linux, for the CPU on Windows, for both of Apple's
    processors; "" where that is unknown. `name`: the one that fits it."""
    return {"Linux": "cu130", "Windows": "cpu", "Darwin": name}.get(machine.system, "")


def for_nvidia(machine: Machine, driver: int) -> Build:
    """The newest CUDA that the driver can run, and as many of the cards as possible."""
    known = {cuda: [card for card in machine.cards if cuda.knows(card)] for cuda in (CUDA_13, CUDA_12)}
    if not any(known.values()):
        return build(machine, "cpu", Message("environment.torch_card_too_old", card=machine.cards[0].name))
    about = {"card": ", ".join(card.name for card in known[CUDA_13] or known[CUDA_12]), "driver": driver}
    if driver >= CUDA_13.driver and len(known[CUDA_13]) >= len(known[CUDA_12]):
        return build(machine, "cu130", Message("environment.torch_cuda_13", **about), is_needed=True)
    if not known[CUDA_12]:  # Blackwell, which CUDA 12.6 does not know
        reason = Message("environment.torch_driver_too_old", build="cu130", least=CUDA_13.driver, **about)
        return build(machine, "cu130", reason, is_needed=True)
    about["card"] = ", ".join(card.name for card in known[CUDA_12])
    if driver < CUDA_12.driver:
        reason = Message("environment.torch_driver_too_old", build="cu126", least=CUDA_12.driver, **about)
    elif driver < CUDA_13.driver and known[CUDA_13]:
        reason = Message("environment.torch_driver_12", least=CUDA_13.driver, **about)
    else:
        reason = Message("environment.torch_cards_12", **about)
    return build(machine, "cu126", reason, is_needed=True)


def for_amd(machine: Machine) -> Build:
    about = {"card": ", ".join(machine.amd)}
    if "rocm" not in builds_for(machine):
        return build(machine, "cpu", Message("environment.torch_amd_windows", **about))
    if ROCM_TARGETS & set(machine.amd):
        return build(machine, "rocm", Message("environment.torch_rocm", **about), is_needed=True)
    if LIKE_GFX1030 & set(machine.amd):
        return build(machine, "rocm", Message("environment.torch_rocm_like", **about), is_needed=True)
    return build(machine, "cpu", Message("environment.torch_amd_unknown", **about))
