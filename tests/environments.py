"""The trainer's environment over every kind of host that people have, for real: `python -m tests.environments`.

For each row of `HOSTS`: a Python environment with that host's torch and its neighbours is made (several GB of wheels
from PyPI, deleted again afterwards; with uv where that is named, which is faster), the trainer's environment over it, a
LoRA and a DreamBooth step are trained inside, pictures of other formats are read, and the host's packages and files are
compared with what they were.
Prints the table of docs/environment.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.interpreter import clean_variables, probe
from dreambooth_ext.host.environment.layout import FOLDER_VARIABLE
from dreambooth_ext.host.environment.pip_runner import interpreter_of, site_of
from dreambooth_ext.host.environment.uv_runner import OFF, VARIABLE

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "dreambooth_ext" / "demo"
TRAINING = [
    "train", "--base-model", str(DEMO / "base" / "demo-base.safetensors"),
    "--instance-data-dir", str(DEMO / "pictures"), "--instance-prompt", "a zkz figure", "--resolution", "64",
    "--max-train-steps", "1", "--validation-steps", "1", "--validation-prompts", "a zkz figure",
    "--report-to", "tensorboard", "--device", "cpu", "--checkpointing-steps", "0",
]  # fmt: skip
METHODS = ("lora", "dreambooth")
SHOWN = ("torch", "numpy", "pillow", "protobuf")


@dataclass(frozen=True)
class Host:
    """One row: whose it is, its Python, what it has installed, and how its environment is laid out."""

    name: str
    python: str
    packages: tuple[str, ...]
    layout: str = "venv"


A1111 = (  # the packages of its release 1.10.1
    "torch==2.1.2", "torchvision==0.16.2", "numpy==1.26.2", "protobuf==3.20.0", "pillow==9.5.0",
    "transformers==4.30.2", "accelerate==0.21.0", "safetensors==0.4.2", "psutil==5.9.5", "setuptools==69.5.1",
)  # fmt: skip
HOSTS = (
    Host(
        "AUTOMATIC1111 1.10.1",
        "3.10",
        A1111,
    ),
    Host(
        "AUTOMATIC1111 1.10.1 of Stability Matrix (an embedded Python)",
        "3.10",
        A1111,
        "embedded",
    ),
    Host(
        "Forge",
        "3.10",
        ("torch==2.3.1", "torchvision==0.18.1", "numpy==1.26.2", "protobuf==3.20.0", "pillow==9.5.0",
         "transformers==4.46.1", "diffusers==0.31.0", "accelerate==0.31.0", "huggingface-hub==0.26.2"),
    ),
    Host(
        "AUTOMATIC1111 dev",
        "3.10",
        ("torch==2.7.1", "torchvision==0.22.1", "numpy==1.26.2", "protobuf==3.20.0", "pillow==9.5.0",
         "transformers==4.30.2", "accelerate==0.21.0", "safetensors==0.4.2", "psutil==5.9.5", "setuptools==69.5.1"),
    ),
    Host(
        "Forge Classic",
        "3.11",
        ("torch==2.9.1", "torchvision==0.24.1", "numpy==1.26.4", "protobuf==4.25.8", "pillow==11.3.0",
         "transformers==4.53.3", "diffusers==0.34.0", "accelerate==1.8.1"),
    ),
    Host(
        "reForge",
        "3.12",
        ("torch==2.9.0", "torchvision==0.24.0", "numpy==1.26.4", "protobuf==4.25.5", "pillow==10.4.0",
         "transformers==4.51.3", "diffusers==0.33.1", "accelerate==1.6.0"),
        "packages by a .pth file",
    ),
    Host(
        "Forge Neo",
        "3.13",
        ("torch==2.11.0", "torchvision==0.26.0", "numpy==2.3.5", "protobuf==4.25.9", "pillow==12.2.0"),
        "uv, without pip",
    ),
    Host(
        "newest torch",
        "3.13",
        ("torch==2.13.0", "numpy==2.3.5", "protobuf==4.25.9", "pillow==12.2.0"),
        "uv, linked packages",
    ),
    Host("no WebUI", "3.11", (), "none"),
)  # fmt: skip


# --- making a host


def interpreter(version: str) -> Path:
    """A Python of that version: on the PATH, or of pyenv. Raises RuntimeError."""
    if found := shutil.which(f"python{version}"):
        done = subprocess.run([found, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        if not done.returncode:
            return Path(done.stdout.strip())
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for folder in sorted((pyenv / "versions").glob(f"{version}.*"), reverse=True):
        return interpreter_of(folder)
    raise RuntimeError(f"there is no Python {version} on the PATH or in {pyenv}")


def make(host: Host, folder: Path, uv: str) -> Path:
    """The host's environment in `folder`, with its packages; its interpreter."""
    python = interpreter(host.python)
    if host.layout == "none":
        return python
    if host.layout == "embedded":
        return embedded(python, folder, host.packages, uv)
    tree = folder / "venv"
    own = interpreter_of(tree)
    if host.layout.startswith("uv"):
        call([uv, "venv", "-q", "--python", str(python), str(tree)])
    else:
        call([str(python), "-m", "venv", str(tree)])
    if "pth" in host.layout:
        elsewhere = folder / "общие packages"
        install(own, folder, uv, host.packages, "--target", str(elsewhere))
        (site_of(tree, version(host)) / "shared.pth").write_text(f"import site; site.addsitedir({str(elsewhere)!a})\n")
    else:
        install(own, folder, uv, host.packages, *(["--link-mode", "symlink"] if "linked" in host.layout else []))
    return own


def embedded(python: Path, folder: Path, packages: tuple[str, ...], uv: str) -> Path:
    """As python.org's archive for embedding is: a whole Python that can be copied, without venv and ensurepip."""
    code = "import sys; print(sys.base_prefix)"
    home = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    copy = folder / "python"
    left_out = shutil.ignore_patterns("venv", "ensurepip", "test", "site-packages")
    shutil.copytree(home, copy, symlinks=True, ignore=left_out)
    sites = next(copy.glob("lib/python3.*")) / "site-packages"
    sites.mkdir()
    install(python, folder, uv, ("pip", *packages), "--target", str(sites))
    return interpreter_of(copy)


def install(python: Path, folder: Path, uv: str, packages: tuple[str, ...], *options: str) -> None:
    if uv:
        pip = [uv, "pip", "install", "-q", "--cache-dir", str(folder / "cache"), "--python", str(python)]
    else:
        pip = [str(python), "-m", "pip", "install", "-q", "--progress-bar", "off"]
    call([*pip, *options, *packages])


def version(host: Host) -> tuple[int, int]:
    major, minor = host.python.split(".")
    return int(major), int(minor)


def call(command: list[str]) -> None:
    done = subprocess.run(command, env=clean_variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-2000:]}")


# --- what is looked at

PICTURES = """
import io
from PIL import Image
from dreambooth_ext.engine.pictures.other_formats import missing_formats, readable_formats
from tests.engine.pictures.samples import AVIF, HEIC
for content in AVIF, HEIC:
    Image.open(io.BytesIO(content), formats=readable_formats()).convert("RGB")
assert not missing_formats(), missing_formats()
import cv2, onnxruntime
assert cv2.GaussianBlur(__import__("numpy").zeros((9, 9), "uint8"), (3, 3), 0).shape == (9, 9)
"""


def open_pictures(folder: Path) -> str:
    """What the optional packages are for, inside the trainer's environment; "" or the last lines of what it said."""
    environment = Environment(folder / "environment")
    done = subprocess.run(
        [environment.status().python, "-c", PICTURES], cwd=REPOSITORY, env=environment.variables(),
        capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    return "" if done.returncode == 0 else "pictures: " + done.stderr[-1500:]


def files_of(folder: Path) -> Iterator[tuple[str, int, int]]:
    """(name, size, time of change) of each file, but for bytecode."""
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts and path.is_file():
            found = path.stat()
            yield str(path), found.st_size, found.st_mtime_ns


def train(folder: Path, method: str) -> str:
    """One step; "" or the last lines of what it said."""
    variables = {FOLDER_VARIABLE: str(folder / "environment"), "OMP_NUM_THREADS": "1"}
    out = folder / "models"
    where = ["--method", method, "--name", method, "--runs-dir", str(folder / "runs"), "--output-dir", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "dreambooth_ext", *TRAINING, *where],
        cwd=REPOSITORY, env={**os.environ, **variables}, capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    made = (out / f"{method}.safetensors").is_file() and (out / f"{method}.preview.png").is_file()
    return "" if done.returncode == 0 and made else f"{method}: " + done.stderr[-1500:]


@dataclass
class Row:
    """What happened with one host."""

    host: Host
    versions: dict[str, str]
    kind: str = ""
    added: int = 0
    size: int = 0
    seconds: float = 0.0
    by: str = ""
    trained: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    unchanged: bool = False
    faults: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        result = "; ".join(self.faults) if self.faults else f"{', '.join(self.trained)} trained, HEIC and AVIF read"
        return [
            self.host.name,
            self.host.python,
            *(self.versions.get(name, "-") for name in SHOWN),
            self.host.layout,
            f"{self.kind}, by {self.by}: {self.added} packages, {self.size / 2**20:.0f} MB, {self.seconds:.0f} s",
            "unchanged" if self.unchanged else "CHANGED",
            result + (f" (without {', '.join(self.optional)})" if self.optional else ""),
        ]


HEADER = ["host", "Python", *SHOWN, "its packages", "the trainer's environment", "the host's files", "result"]


def prove(host: Host, folder: Path, uv: str) -> Row:
    python = make(host, folder, uv)
    roots = [path for path in folder.iterdir() if path.name != "cache"]
    before = probe([str(python)], "packages").packages
    there = [entry for root in roots for entry in files_of(root)]
    row = Row(host, before if host.packages else {})
    environment = Environment(folder / "environment")
    os.environ[VARIABLE] = uv if host.layout.startswith("uv") else OFF
    start = time.monotonic()
    try:
        status = environment.build(host_python=python)
        row.seconds = time.monotonic() - start
    except UserError as error:
        row.faults = (str(error),)
        return row
    log = environment.log.read_text(encoding="utf-8")
    row.by = "uv" if " pip install --python" in log else "pip"
    row.kind, row.optional = status.kind, tuple(status.optional)
    row.versions = row.versions or status.packages
    own = environment.own_site(version(host), status.kind)
    row.added = len(list(own.glob("*.dist-info")))
    row.size = sum(size for _, size, _ in files_of(own))
    faults = {method: train(folder, method) for method in METHODS}
    faults["pictures"] = open_pictures(folder)
    row.trained = tuple(method for method in METHODS if not faults[method])
    row.faults = tuple(fault for fault in faults.values() if fault)
    after = [entry for root in roots for entry in files_of(root)]
    row.unchanged = probe([str(python)], "packages").packages == before and after == there
    return row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.environments", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name, Python or layout contains this")
    parser.add_argument("--folder", type=Path, help="where to build: 12 GB, one row after the other; else temporary")
    parser.add_argument("--uv", default=shutil.which("uv") or "", help="the program uv, to make the hosts with")
    arguments = parser.parse_args()
    print("", *HEADER, "", sep=" | ", flush=True)
    print("", *("---" for _ in HEADER), "", sep=" | ", flush=True)
    failed = 0
    for host in HOSTS:
        told = f"{host.name}, {host.python}, {host.layout}, {' '.join(host.packages)}"
        if arguments.only not in told:
            continue
        if host.layout.startswith("uv") and not arguments.uv:
            print("", host.name, "left out: uv is not there", "", sep=" | ", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="хост с пробелом ", dir=arguments.folder) as folder:
            try:
                row = prove(host, Path(folder), arguments.uv)
            except RuntimeError as error:
                row = Row(host, {}, faults=(str(error),))
        failed += bool(row.faults) or not row.unchanged
        print("", *(cell.replace("\n", " ") for cell in row.cells()), "", sep=" | ", flush=True)
        print(json.dumps(row.__dict__ | {"host": host.name}, ensure_ascii=False), file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
