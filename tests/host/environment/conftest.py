"""A host, small wheels, and an environment to be made of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dreambooth_ext.host.environment import uv_runner
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.lock_file import Recipe
from tests.host.environment.small_wheels import TORCH, virtual_environment, wheel


@pytest.fixture(autouse=True)
def only_these_wheels(monkeypatch):
    """No package from this machine's own pip configuration, nor by uv, which test_layouts.py tries."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(uv_runner.VARIABLE, uv_runner.OFF)


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Path:
    """A WebUI's Python: a virtual environment with an old torch, an old alpha and its own numpy."""
    folder = tmp_path_factory.mktemp("вебуи с пробелом")
    wheels = folder / "wheels"
    wheel(wheels, "torch", "2.1.2+cu121", TORCH)
    wheel(wheels, "alpha", "1.0")
    wheel(wheels, "numpy", "1.26.2")
    return virtual_environment(folder / "venv", wheels)


@pytest.fixture
def wheels(tmp_path) -> Path:
    folder = tmp_path / "колёса wheels"
    wheel(folder, "alpha", "2.0")
    wheel(folder, "beta", "3.0", {"beta.py": "import alpha, torch\nassert alpha.version == '2.0'\n"})
    return folder


@pytest.fixture
def environment(tmp_path) -> Environment:
    """For alpha 2 and beta 3 over torch and numpy, in a folder with a space and non-Latin letters."""
    lock = tmp_path / "requirements.lock"
    lock.write_text("torch==2.13.0\nnumpy==2.4.6\nalpha==2.0\nbeta==3.0\ngamma==1.0\n", encoding="utf-8")
    recipe = Recipe(lock, imports=("torch", "numpy", "alpha", "beta"), optional={"gamma": "gamma"})
    return Environment(tmp_path / "среда обучения", recipe)
