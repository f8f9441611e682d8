"""Run by another interpreter: reports its version, packages and imports as one line of JSON.

Started as a script, not imported, so it may run on any Python from 3.7 on and cannot import the package.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys


def facts(with_torch: bool) -> dict:
    """The interpreter: version, package folders, installed packages, its torch."""
    packages: dict[str, str] = {}
    places: dict[str, str] = {}
    modules = [name for name in ("venv", "ensurepip", "torch") if importlib.util.find_spec(name)]
    # By the path alone: before Python 3.12, setuptools' finder gives distutils up once it is asked for pip, and then
    # cannot be imported, as triton does for torch 2.3.
    modules += ["pip"] if importlib.machinery.PathFinder.find_spec("pip") else []
    answer = {
        "base": getattr(sys, "_base_executable", sys.executable),
        "version": list(sys.version_info[:3]),
        "prefix": sys.prefix,
        "sites": [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")],
        "modules": modules,
        "packages": packages,
        "places": places,
        "torch": {},
        "torch_requires": [],
    }
    for name, version, place in installed():
        if name not in packages:  # the first on the path is the one that is imported
            packages[name] = version
            places[name] = place
    if with_torch and "torch" in modules:
        answer["torch"] = torch_facts()
        answer["torch_requires"] = requires("torch")
    return answer


def installed():
    """(normalised name, version, its metadata's folder) of each package; skips damaged ones without name or version."""
    from importlib import metadata

    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] if distribution.metadata else None
        if name and distribution.version:
            place = str(getattr(distribution, "_path", ""))
            yield name.lower().replace("_", "-").replace(".", "-"), distribution.version, place


def requires(name: str) -> list:
    from importlib import metadata

    try:
        return [text.split(";")[0] for text in metadata.requires(name) or [] if "extra ==" not in text]
    except metadata.PackageNotFoundError:
        return []


def torch_facts() -> dict:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # whatever a broken torch raises (OSError of a missing DLL, ...) is the answer
        return {"error": f"{type(error).__name__}: {error}"}
    package = os.path.dirname(os.path.abspath(torch.__file__ or ""))
    return {"version": str(torch.__version__), "folder": package, "device": device(torch), "devices": devices(torch)}


def device(torch) -> str:
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_available():
        card = cuda.get_device_properties(0)
        runtime = f"ROCm {torch.version.hip}" if getattr(torch.version, "hip", None) else f"CUDA {torch.version.cuda}"
        return f"{card.name}, {card.total_memory / 2**30:.0f} GB, {runtime}"
    mps = getattr(getattr(torch, "backends", None), "mps", None)
    return "Apple GPU (MPS)" if mps is not None and mps.is_available() else "CPU only"


def devices(torch) -> list:
    """Every graphics device that torch sees: its name for torch, what people call it, and its bytes where it tells."""
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_available():
        cards = [cuda.get_device_properties(number) for number in range(cuda.device_count())]
        return [{"name": f"cuda:{n}", "title": card.name, "memory": card.total_memory} for n, card in enumerate(cards)]
    mps = getattr(getattr(torch, "backends", None), "mps", None)
    return [{"name": "mps", "title": "Apple GPU", "memory": None}] if mps is not None and mps.is_available() else []


def imports(names: list) -> dict:
    """Import each `module` or `module:attribute`; returns the error, "" if it worked."""
    answer = {}
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            loaded = importlib.import_module(module)
            if attribute:
                getattr(loaded, attribute)  # diffusers and transformers import lazily, on this access
            answer[name] = ""
        except Exception as error:  # see torch_facts
            answer[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return answer


if __name__ == "__main__":
    screen, sys.stdout = sys.stdout, sys.stderr  # imported packages print; the answer stays alone
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # this script's folder is no place for imports
        del sys.path[0]
    result = facts(with_torch=sys.argv[1] == "facts")
    if sys.argv[1] == "imports":
        result["imports"] = imports(sys.argv[2:])
        result["torch"] = torch_facts()
    print(json.dumps(result), file=screen)
