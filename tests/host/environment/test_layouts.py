"""Hosts as their installers lay them out: without pip, with uv, with linked packages, embedded, in other folders."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.environment import uv_runner
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.interpreter import Interpreter, check_python, neighbour_webui, probe
from dreambooth_ext.host.environment.pip_runner import _explained, interpreter_of, site_of
from dreambooth_ext.host.environment.uv_runner import PROGRAM, VARIABLE, find_uv
from tests.host.environment.small_wheels import TORCH, virtual_environment, wheel

HERE = sys.version_info[:2]
UV = find_uv(Path(sys.executable))
needs_uv = pytest.mark.skipif(UV is None, reason="uv is not installed")


def unpack(wheels: Path, folder: Path) -> None:
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)


@pytest.fixture
def torch_wheels(tmp_path) -> Path:
    folder = tmp_path / "torch and numpy"
    wheel(folder, "torch", "2.1.2+cu121", TORCH)
    wheel(folder, "numpy", "1.26.2")
    return folder


@pytest.fixture
def without_pip(tmp_path, torch_wheels) -> Path:
    """A host's interpreter as uv makes it: with torch, without pip."""
    folder = tmp_path / "вебуи uv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    unpack(torch_wheels, site_of(folder, HERE))
    return interpreter_of(folder)


def embedded(python: Path) -> Path:
    """The same as in python.org's archive for embedding, which lacks these modules of the standard library."""
    lines = "import sys; sys.modules.update(venv=None, ensurepip=None)\n"
    (site_of(python.parents[1], HERE) / "embedded.pth").write_text(lines, encoding="ascii")
    return python


def log(environment: Environment) -> str:
    return environment.log.read_text(encoding="utf-8")


def test_a_host_without_pip_gets_its_overlay_by_the_overlays_own_pip(environment, without_pip, wheels):
    status = environment.build(wheels=wheels, host_python=without_pip)
    assert (status.state, status.kind, status.packages["alpha"]) == ("ready", "overlay", "2.0")
    assert not list(site_of(without_pip.parents[1], HERE).glob("pip*"))


def test_looking_for_pip_asks_no_finder_for_it(tmp_path):
    """Setuptools' finder cannot be imported afterwards, nor torch 2.3 then."""
    python = virtual_environment(tmp_path / "host")
    site = site_of(python.parents[1], HERE)
    (site / "watch.pth").write_text("import watch\n", encoding="ascii")
    (site / "watch.py").write_text(
        "import sys\nclass Finder:\n    def find_spec(self, name, path=None, target=None):\n"
        "        assert name != 'pip'\nsys.meta_path.insert(0, Finder())\n",
        encoding="ascii",
    )
    assert "pip" in probe([str(python)], "packages").modules


@needs_uv
def test_uv_needs_no_pip_and_installs_none(environment, without_pip, wheels, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(UV))
    for name, value in {"UV_SYSTEM_PYTHON": "1", "UV_LINK_MODE": "symlink", "UV_CONSTRAINT": "nowhere"}.items():
        monkeypatch.setenv(name, value)  # of somebody's shell
    said: list[str] = []
    status = environment.build(lambda share, text: said.append(text), wheels=wheels, host_python=without_pip)
    assert (status.kind, status.torch, status.packages["alpha"]) == ("overlay", "2.1.2+cu121", "2.0")
    own = environment.own_site(HERE, "overlay")
    assert not (own / "alpha.py").is_symlink() and not list(own.glob("pip*"))
    assert not any(getattr(text, "code", "") == "environment.uv_failed" for text in said)
    assert "no build of gamma" in status.optional["gamma"]
    assert environment.verify().state == "ready"


@needs_uv
def test_uv_fills_a_folder_where_there_is_neither_venv_nor_pip(environment, without_pip, wheels, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(UV))
    status = environment.build(wheels=wheels, host_python=embedded(without_pip))
    assert (status.kind, status.packages["beta"]) == ("target", "3.0")
    program = environment.folder / "program.py"
    program.write_text("import sys, alpha, torch\nsys.exit(5)\n", encoding="utf-8")
    assert environment.run_inside([str(program)]) == 5


def test_pip_takes_over_where_uv_fails(environment, host, wheels, monkeypatch):
    monkeypatch.setenv(VARIABLE, sys.executable)  # which knows no `pip install`
    said: list[str] = []
    assert environment.build(lambda share, text: said.append(text), wheels, host).state == "ready"
    assert any(getattr(text, "code", "") == "environment.uv_failed" for text in said)


def test_uv_stands_back_where_pips_configuration_names_sources(environment, host, wheels, monkeypatch):
    monkeypatch.setenv(VARIABLE, sys.executable)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels).replace(" ", "%20") if os.name == "nt" else wheels.as_uri())
    assert environment.build(host_python=host).packages["alpha"] == "2.0"
    assert f"{sys.executable} pip install" not in log(environment)


def test_an_embedded_python_gets_a_folder_of_packages(environment, tmp_path, torch_wheels, wheels):
    python = embedded(virtual_environment(tmp_path / "portable python", torch_wheels))
    status = environment.build(wheels=wheels, host_python=python)
    assert (status.kind, status.packages["alpha"]) == ("target", "2.0")
    assert "-m venv" not in log(environment)
    assert environment.verify().state == "ready"


def test_without_pip_venv_and_uv_the_way_out_is_told(environment, without_pip, wheels):
    with pytest.raises(UserError, match=r"this Python has no pip\. .* install uv"):
        environment.build(wheels=wheels, host_python=embedded(without_pip))


@pytest.mark.parametrize("how", ["pth", "links"])
def test_packages_that_the_host_only_refers_to_are_used(environment, tmp_path, torch_wheels, wheels, how):
    """A shared folder that a .pth file names, and `uv pip install --link-mode symlink`."""
    shared = tmp_path / "общая папка"
    unpack(torch_wheels, shared)
    python = virtual_environment(tmp_path / "host")
    site = site_of(python.parents[1], HERE)
    if how == "pth":
        (site / "shared.pth").write_text(f"import site; site.addsitedir({str(shared)!a})\n", encoding="ascii")
    else:
        for path in [path for path in shared.rglob("*") if path.is_file()]:
            link = site / path.relative_to(shared)
            link.parent.mkdir(exist_ok=True)
            try:
                link.symlink_to(path)
            except OSError:
                pytest.skip("this system allows no links")
    status = environment.build(wheels=wheels, host_python=python)
    assert (status.kind, status.torch, status.packages["numpy"]) == ("overlay", "2.1.2+cu121", "1.26.2")
    (shared / "torch" / "version.py").write_text("cuda = '12.4'\n", encoding="utf-8")
    assert environment.status().state == "outdated"  # another torch behind the link


@pytest.mark.parametrize(
    "place",
    [
        "venv/bin/python", "venv/Scripts/python.exe", "env/bin/python", "env/Scripts/python.exe", ".venv/bin/python",
        "../system/python/python.exe", "system/python/python.exe", "python/python.exe", "../python_embeded/python.exe",
    ],
)  # fmt: skip
def test_the_webuis_python_is_found_beside_the_extension(tmp_path, place):
    webui = tmp_path / "Data" / "Packages" / "Форж Нео (1)"
    repository = webui / "extensions" / "dreambooth"
    repository.mkdir(parents=True)
    assert neighbour_webui(repository) is None
    python = Path(os.path.abspath(webui / place))
    python.parent.mkdir(parents=True)
    python.touch()
    assert neighbour_webui(repository) == python
    assert neighbour_webui(tmp_path / "elsewhere" / "dreambooth") is None


def test_uv_is_found_where_people_have_it(tmp_path, monkeypatch):
    home, library = tmp_path / "home", tmp_path / "StabilityMatrix" / "Data"
    python = interpreter_of(library / "Packages" / "forge" / "venv")
    for name in (VARIABLE, "UV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(uv_runner.shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "home", lambda: home)
    assert find_uv(python) is None
    for place in (library / "Assets" / "uv" / PROGRAM, home / ".local" / "bin" / PROGRAM, python.parent / PROGRAM):
        place.parent.mkdir(parents=True)
        place.touch()
        assert find_uv(python) == place  # each goes before the last
    monkeypatch.setattr(uv_runner.shutil, "which", lambda name: sys.executable)
    assert find_uv(python) == Path(sys.executable)
    monkeypatch.setenv(VARIABLE, "off")
    assert find_uv(python) is None


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("error: Request failed\n  cause: Failed to fetch: https://x/\n  cause: dns error", "network"),
        ("  cause: Because there is no version of torch==2.13.0 and you require", r"no build of torch==2\.13\.0"),
        ("  cause: Because torch==2.13.0 has no usable wheels and building", r"no build of torch==2\.13\.0"),
        ("  cause: Because gamma was not found in the provided package locations", "no build of gamma"),
        ("error: Failed to install: x\n  cause: No space left on device (os error 28)", "disk is full"),
    ],
)
def test_uvs_errors_in_words(output, words, tmp_path):
    with pytest.raises(UserError, match=words):
        raise _explained(output.splitlines(), "packages", tmp_path / "install.log")


@pytest.mark.parametrize(("version", "words"), [((3, 14, 0), "3.14.0 .* too new"), ((3, 9, 18), "3.9.18 .* too old")])
def test_another_python_is_named_where_this_one_is_not_supported(version, words):
    rest: dict = {"sites": [], "modules": [], "packages": {}, "places": {}, "torch": {}, "torch_requires": []}
    python = Interpreter(Path("python"), Path("python"), version, "", imports={}, **rest)
    with pytest.raises(UserError, match=rf"{words} .*Use Python 3\.10, 3\.11, 3\.12 or 3\.13.* env --host-python PATH"):
        check_python(python)
