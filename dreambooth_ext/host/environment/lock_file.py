"""Reads lock files: which packages, in which versions, for which Python and torch."""

from __future__ import annotations

import hashlib
import operator
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...core.facts.optimizer_facts import OPTIMIZERS

LOCK = Path(__file__).with_name("requirements.lock")
SUPPORTED_PYTHON = ((3, 10), (3, 13))
SUPPORTED_TORCH = ((2, 1), (2, 13))  # of a torch that is already there

# A torch older than the key needs these instead of the lock's. bitsandbytes by trial (its metadata does not tell);
# torch before 2.3 was compiled against numpy 1 and cannot exchange arrays with numpy 2.
OLD_TORCH: tuple[tuple[tuple[int, int], dict[str, str]], ...] = (
    ((2, 2), {"bitsandbytes": "0.45.5", "numpy": "1.26.4"}),
    ((2, 3), {"bitsandbytes": "0.47.0", "numpy": "1.26.4"}),
    ((2, 4), {"bitsandbytes": "0.49.2"}),
)

# The same for a host's protobuf, which stays: TensorBoard 2.21 is generated for 6.31 and newer. Writing and showing
# curves with 2.20 on protobuf 3.20 was tried.
OLD_PROTOBUF: tuple[tuple[tuple[int, int], dict[str, str]], ...] = (((6, 31), {"tensorboard": "2.20.0"}),)

# Wanted only where the host has one older than that: we use none, but diffusers does not import beside it.
INSTEAD_OF_OLD: dict[str, tuple[tuple[int, int], str]] = {"peft": ((0, 17), "0.21.2")}

# Never replaced over a host's torch: its own binary relations, and protobuf, whose old releases install a .pth file
# that binds the `google` package to the host's folder.
HOSTS_OWN = {"torch", "torchvision", "torchaudio", "xformers", "numpy", "pillow", "protobuf", "triton"}


@dataclass(frozen=True)
class Recipe:
    """What the environment must contain: the lock, the imports that must work, and the optional ones (package ->
    import)."""

    lock: Path = LOCK
    imports: tuple[str, ...] = (
        "torch",
        "diffusers:UNet2DConditionModel",
        "diffusers:AutoencoderKL",
        "diffusers:DDPMScheduler",
        "transformers:CLIPTextModel",
        "transformers:CLIPTokenizer",
        "accelerate:Accelerator",
        "safetensors.torch",
        "tokenizers",
        "huggingface_hub",
        "numpy",
        "PIL.Image",
        "yaml",
        "psutil",
        *dict.fromkeys(facts.module for facts in OPTIMIZERS.values() if not facts.is_optional),
    )
    optional: Mapping[str, str] = field(
        default_factory=lambda: {
            "bitsandbytes": "bitsandbytes.optim",
            "tensorboard": "torch.utils.tensorboard",
            "xformers": "xformers.ops",
            "opencv-python-headless": "cv2",
            "onnxruntime": "onnxruntime",
            "pi-heif": "pi_heif",
            "pillow-avif-plugin": "pillow_avif",
        }
    )


_ROW = re.compile(r"^([A-Za-z0-9][\w.-]*)==([\w.+!]+)\s*(?:;\s*(.+))?$")
_TERM = re.compile(r"""^(python_version|sys_platform)\s*(==|!=|<=|>=|<|>)\s*["']([\w.]+)["']$""")
_OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Row:
    """One pinned package; `name` is normalised (PEP 503)."""

    name: str
    version: str
    marker: str = ""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def applies(self, python: tuple[int, int], platform: str = sys.platform) -> bool:
        for term in filter(None, (part.strip() for part in self.marker.split(" and "))):
            match = _TERM.match(term)
            assert match, f"marker not understood: {term}"
            variable, compare, value = match.groups()
            left, right = (platform, value) if variable == "sys_platform" else (python, version_tuple(value))
            if not _OPERATORS[compare](left, right):
                return False
        return True

    def satisfied_by(self, installed: Mapping[str, str]) -> bool:
        """Whether the package is installed in this version; a local build (2.13.0+cpu) counts."""
        return installed.get(self.name, "").split("+")[0] == self.version.split("+")[0]


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version_tuple(version: str) -> tuple[int, int]:
    """Major and minor of a version such as 2.1.2+cu121."""
    numbers = re.findall(r"\d+", version)
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0


def read_all(lock: Path) -> list[Row]:
    rows = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            match = _ROW.match(text)
            assert match, f"{lock.name}: every row is name==version; this is not: {line}"
            rows.append(Row(normalise(match[1]), match[2], (match[3] or "").strip()))
    return rows


def read_lock(lock: Path, python: tuple[int, int]) -> list[Row]:
    """The rows that apply to that Python on this system."""
    return [row for row in read_all(lock) if row.applies(python)]


def lock_hash(lock: Path) -> str:
    """A hash of the rows only, so that a changed comment does not rebuild environments."""
    rows = sorted(f"{row};{row.marker}" for row in read_all(lock))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def for_torch(rows: Iterable[Row], torch: str) -> list[Row]:
    """The rows with the versions that this version of torch needs."""
    return aged(rows, torch, OLD_TORCH)


def aged(rows: Iterable[Row], version: str, tables: Iterable[tuple[tuple[int, int], dict[str, str]]]) -> list[Row]:
    """The rows with the versions of the first table whose limit is above `version`."""
    versions = next((table for limit, table in tables if version_tuple(version) < limit), {})
    return [replace(row, version=versions.get(row.name, row.version)) for row in rows]


def over_host(rows: Iterable[Row], installed: Mapping[str, str], torch_requires: Iterable[str]) -> list[Row]:
    """The rows for an overlay: packages that belong to the host's torch keep the host's version, and the rest fits
    it."""
    if "protobuf" in installed:
        rows = aged(rows, installed["protobuf"], OLD_PROTOBUF)
    for name, (least, version) in INSTEAD_OF_OLD.items():
        if name in installed and version_tuple(installed[name]) < least:
            rows = [*rows, Row(name, version)]
    pinned = {normalise(re.split(r"[^\w.-]", text)[0]) for text in torch_requires if re.search(r"==|<", text)}
    own = HOSTS_OWN | {name for name in pinned if not name.startswith("python")}
    return [replace(row, version=installed[row.name]) if row.name in own & set(installed) else row for row in rows]


def missing_wheels(rows: Iterable[Row], folder: Path) -> list[str]:
    """Names of the rows without a wheel of their version in `folder`; pip checks Python and platform later."""
    present = set()
    for wheel in folder.glob("*.whl"):
        name, _, rest = wheel.name.partition("-")
        present.add((normalise(name), rest.partition("-")[0].split("+")[0]))
    return [str(row) for row in rows if (row.name, row.version.split("+")[0]) not in present]
