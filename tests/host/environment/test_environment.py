"""The trainer's environment, made for real from small wheels that are written here, without a network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

from dreambooth_ext.commands import env
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.system import environment_users
from dreambooth_ext.core.system.terminal import StageLine
from dreambooth_ext.host.environment import builder as build
from dreambooth_ext.host.environment import environment as making
from dreambooth_ext.host.environment import pip_runner
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.gpu_probe import Card, Machine
from dreambooth_ext.host.environment.lock_file import (
    LOCK,
    OLD_TORCH,
    Row,
    for_torch,
    lock_hash,
    missing_wheels,
    over_host,
    read_all,
    read_lock,
)
from dreambooth_ext.host.environment.pip_runner import _explained
from tests.host.environment.small_wheels import TORCH, virtual_environment, wheel

REPOSITORY = Path(__file__).parents[3]


def freeze(python: Path) -> str:
    return subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout


def faked(environment: Environment) -> dict:
    """A marker as a finished set-up writes it, around the running interpreter."""
    package = environment.folder / "torch"
    package.mkdir(parents=True)
    (package / "version.py").write_text("cuda = None\n", encoding="utf-8")
    place = environment.folder / "alpha-2.0.dist-info"
    place.mkdir()
    record = {
        "kind": "full",
        "folder": str(environment.folder),
        "host": sys.executable,
        "python": sys.executable,
        "base_python": sys.executable,
        "python_version": "3.11.7",
        "real_python": os.path.realpath(sys.executable),
        "lock": lock_hash(environment.recipe.lock),
        "torch": {"version": "2.13.0", "folder": str(package), "device": "CPU only"},
        "torch_stamp": build.torch_stamp(str(package)),
        "places": {"alpha": str(place)},
        "packages": {"alpha": "2.0"},
        "optional": {},
        "expected": {},
        "extras": {},
        "built": "2026-01-01 00:00:00",
    }
    environment.marker.write_text(json.dumps(record), encoding="utf-8")
    return record


def test_status_follows_the_marker_and_what_it_names(environment):
    assert environment.status().state == "missing"
    environment.tree.mkdir(parents=True)
    assert environment.status().state == "broken"
    record = faked(environment)
    assert environment.status().state == "ready"
    for change, state in (
        ({"python": str(environment.folder / "gone")}, "broken"),
        ({"real_python": "elsewhere"}, "outdated"),
        ({"base_python": "gone"}, "outdated"),
        ({"folder": "elsewhere"}, "outdated"),
        ({"torch_stamp": "other"}, "outdated"),
        ({"lock": "other"}, "outdated"),
        ({"places": {"alpha": "alpha-9.dist-info"}}, "outdated"),
    ):
        environment.marker.write_text(json.dumps({**record, **change}), encoding="utf-8")
        assert environment.status().state == state, change
    environment.marker.write_text(json.dumps({"lock": record["lock"]}), encoding="utf-8")  # of another version
    assert environment.status().state == "broken"
    environment.marker.write_text("{", encoding="utf-8")
    assert environment.status().state == "broken"


def test_another_torch_than_was_asked_for_last_is_another_though_it_seems_to_be_there(environment, monkeypatch):
    environment.folder.mkdir()
    environment.asked.write_text("rocm", encoding="utf-8")  # and that set-up failed: there is no marker
    assert env.is_other_torch(environment, "auto") and env.is_other_torch(environment, "rocm")
    assert not env.is_other_torch(environment, None)
    environment.asked.unlink()
    made = {**faked(environment), "torch_build": {"name": "cu126", "asked": "auto"}}
    environment.marker.write_text(json.dumps(made), encoding="utf-8")
    assert env.is_other_torch(environment, "cu126")  # to be written down: so far it is only what fitted
    assert not env.is_other_torch(environment, "auto")
    environment.asked.write_text("cu126", encoding="utf-8")
    assert not env.is_other_torch(environment, "cu126") and env.is_other_torch(environment, "auto")


@pytest.mark.parametrize(("torch", "times"), [("cpu", 1), ("auto", 0)])
def test_after_another_set_up_torch_is_the_one_asked_for(environment, monkeypatch, torch, times):
    faked(environment)
    built = []
    monkeypatch.setattr(environment, "only_builder", lambda progress: contextlib.nullcontext((io.BytesIO(), True)))
    monkeypatch.setattr(making, "Builder", lambda *arguments: SimpleNamespace(run=built.append))
    environment.build(torch=torch)
    assert len(built) == times


def test_a_ready_environment_is_told_in_a_fifth_of_a_second(environment):
    faked(environment)
    start = time.perf_counter()
    assert environment.ensure() == Path(sys.executable)
    assert time.perf_counter() - start < 0.2


def test_an_overlay_uses_the_hosts_torch_and_changes_nothing_there(environment, host, wheels):
    before = freeze(host)
    status = environment.build(wheels=wheels, host_python=host)
    assert freeze(host) == before
    assert (status.state, status.kind, status.torch) == ("ready", "overlay", "2.1.2+cu121")
    assert (status.packages["alpha"], status.packages["numpy"]) == ("2.0", "1.26.2")
    assert "gamma" in status.optional  # optional, and no wheel of it: a reason, nothing else
    assert environment.verify().state == "ready"
    (wheels / "beta-3.0-py3-none-any.whl").unlink()
    extra = wheels.parent / "extra" / "requirements.lock"
    extra.parent.mkdir()
    extra.write_text("delta==1.0\n", encoding="utf-8")
    wheel(wheels, "delta", "1.0")
    environment.add(extra, wheels=wheels)
    code = "import os, sys, delta, dreambooth_ext; assert 'VIRTUAL_ENV' not in os.environ; sys.exit(7)"
    os.environ["VIRTUAL_ENV"] = "elsewhere"
    try:
        assert environment.run_inside(["-c", code]) == 7
    finally:
        del os.environ["VIRTUAL_ENV"]

    stranger = environment.own_site(sys.version_info[:2], "overlay") / "torchvision"
    stranger.mkdir()
    with pytest.raises(UserError, match="second torch"):
        environment.verify()


def test_a_changed_lock_updates_in_place_and_repair_starts_from_nothing(environment, host, wheels):
    environment.build(wheels=wheels, host_python=host)
    witness = environment.tree / "witness"
    witness.touch()
    lock = environment.recipe.lock
    lock.write_text(lock.read_text(encoding="utf-8") + "delta==1.0\n", encoding="utf-8")
    assert environment.status().state == "outdated"
    wheel(wheels, "delta", "1.0")
    assert environment.build(wheels=wheels).packages["delta"] == "1.0"
    assert witness.exists()
    assert environment.repair(wheels=wheels).kind == "overlay"
    assert not witness.exists()


USING = """
import sys, time
from dreambooth_ext.core.system import environment_users
with environment_users.joined(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


def test_no_repair_under_a_program_that_runs_inside_however_it_was_started(environment, host, wheels):
    environment.build(wheels=wheels, host_python=host)
    program = subprocess.Popen(
        [*environment.command(["-c", USING]), "20261121-cat"], env=environment.variables(), stdout=subprocess.PIPE
    )
    assert program.stdout.readline().strip() == b"in"
    before = environment.record()
    assert environment_users.names(environment.folder) == ["20261121-cat"]
    with pytest.raises(UserError, match="in use: 20261121-cat") as refused:
        environment.repair(wheels=wheels)
    assert refused.value.problem.remedy and environment.record() == before and environment.last_failure() is None
    assert Path(before["python"]).exists()
    program.kill()
    program.wait()
    (left,) = (environment.folder / "users").iterdir()
    os.utime(left, (1, 1))
    environment.repair(wheels=wheels)
    assert not left.exists() and environment.status().state == "ready"


def test_a_program_runs_where_it_may_not_say_that_it_does(tmp_path, monkeypatch):
    (tmp_path / "users").write_text("is no folder")
    monkeypatch.setenv(environment_users.VARIABLE, str(tmp_path))
    with environment_users.joined("cat"):
        assert environment_users.names(tmp_path) == []


def test_without_virtual_environments_the_packages_go_into_a_folder(environment, host, wheels, monkeypatch):
    def refuse(*arguments):
        raise UserError("other.as_said", "environment", message="no venv")

    monkeypatch.setattr(build, "make_venv", refuse)
    before = freeze(host)
    assert environment.build(wheels=wheels, host_python=host).kind == "target"
    assert freeze(host) == before
    assert environment.verify().packages["alpha"] == "2.0"
    code = environment.folder / "program.py"
    code.write_text("import sys, alpha\nsys.exit(int(float(alpha.version)))\n", encoding="utf-8")
    assert environment.run_inside([str(code)]) == 2


def test_a_host_without_torch_gets_a_full_environment(environment, tmp_path, wheels, monkeypatch):
    wheel(wheels, "torch", "2.13.0", {**TORCH, "torch/__init__.py": "__version__ = '2.13.0'\n"})
    wheel(wheels, "numpy", "2.4.6")
    monkeypatch.setattr(build, "this_machine", Machine)
    status = environment.build(wheels=wheels, host_python=virtual_environment(tmp_path / "bare"))
    assert (status.kind, status.torch, status.packages["numpy"]) == ("full", "2.13.0", "2.4.6")
    assert environment.record()["torch_build"]["name"] == "cpu"
    lock = environment.recipe.lock
    lock.write_text(lock.read_text(encoding="utf-8").replace("torch==2.13.0", "torch==2.14.0"), encoding="utf-8")
    wheel(wheels, "torch", "2.14.0", {**TORCH, "torch/__init__.py": "__version__ = '2.14.0'\n"})
    monkeypatch.setattr(build, "this_machine", lambda: Machine(driver=580, cards=(Card("RTX 3060", 8.6),)))
    assert environment.build(wheels=wheels).torch == "2.14.0"  # in place, with the torch for the card of now
    assert environment.record()["torch_build"]["name"] == "cu130"


def test_missing_wheels_are_all_named(environment, host, wheels, tmp_path):
    for path in wheels.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"alpha==2\.0, beta==3\.0"):
        environment.build(wheels=wheels, host_python=host)
    with pytest.raises(UserError, match="There is no folder"):
        environment.build(wheels=tmp_path / "nowhere", host_python=host)


def test_a_wheel_that_does_not_work_is_told_and_leaves_no_marker(environment, host, wheels):
    wheel(wheels, "beta", "3.0", {"beta.py": "import nothing_like_it\n"})
    with pytest.raises(UserError, match=r"beta cannot be imported .*nothing_like_it"):
        environment.build(wheels=wheels, host_python=host)
    assert environment.status().state == "broken"


def test_too_little_disk_is_told_before_anything_is_done(environment, host, wheels, monkeypatch):
    monkeypatch.setattr(build, "free_bytes", lambda path: 300 * 2**20)
    with pytest.raises(UserError, match=r"needs 1\.0 GB .* 300\.0 MB are free"):
        environment.build(wheels=wheels, host_python=host)
    assert environment.status().state == "missing"


BUILDER = """
import sys
from pathlib import Path
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.lock_file import Recipe
folder, lock, wheels, host = map(Path, sys.argv[1:])
recipe = Recipe(lock, imports=("torch", "alpha", "beta"), optional={"gamma": "gamma"})
print(Environment(folder, recipe).build(lambda share, text: print(text, flush=True), wheels, host).state)
"""


def builder(environment: Environment, wheels: Path, host: Path) -> subprocess.Popen:
    arguments = [environment.folder, environment.recipe.lock, wheels, host]
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUTF8": "1"},
    )


@pytest.mark.parametrize("moment", ["making the environment", "packages", "checking"])
def test_a_killed_set_up_is_made_good_by_the_next(environment, host, wheels, moment):
    process = builder(environment, wheels, host)
    for line in process.stdout:
        if line.startswith(moment):
            break
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate()
    assert environment.status().state in ("broken", "missing")
    assert environment.build(wheels=wheels, host_python=host).state == "ready"


def test_two_builders_take_turns(environment, host, wheels):
    first, second = builder(environment, wheels, host), builder(environment, wheels, host)
    said = [process.communicate()[0] for process in (first, second)]
    assert all(text.rstrip().endswith("ready") for text in said)
    assert sum("waiting for another set-up" in text for text in said) == 1
    assert sum("making the environment" in text for text in said) == 1  # the one that waited found it ready


def test_a_python_that_is_too_old_or_does_not_run(environment, tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.host.environment.interpreter.SUPPORTED_PYTHON", ((3, 98), (3, 99)))
    with pytest.raises(UserError, match="too old"):
        environment.build()
    with pytest.raises(UserError, match="does not run"):
        environment.build(host_python=tmp_path / "no python")


def test_every_row_of_the_locks_is_pinned_and_there_once_for_each_python():
    for lock in (LOCK, REPOSITORY / "tests" / "requirements.lock"):
        every = {row.name for row in read_all(lock) if "win32" not in row.marker}
        for python in ((3, 11), (3, 12), (3, 13)):
            names = [row.name for row in read_lock(lock, python)]
            assert len(names) == len(set(names))
            assert set(names) | {"exceptiongroup", "tomli", "colorama"} >= every
    assert len(read_lock(LOCK, (3, 10))) == len(read_lock(LOCK, (3, 13))) + 2  # exceptiongroup, tomli
    newest = next(row.version for row in read_all(LOCK) if row.name == "bitsandbytes")
    assert newest not in [table.get("bitsandbytes") for _, table in OLD_TORCH]


def test_versions_by_torch_and_by_host():
    rows = [Row("bitsandbytes", "0.50.2"), Row("sympy", "1.14.0"), Row("pillow", "13.0.0"), Row("requests", "2.34.2")]
    versions = [("2.0.1", "0.45.5"), ("2.1.2+cu121", "0.45.5"), ("2.2.0", "0.47.0"), ("2.3.1", "0.49.2")]
    for torch, wanted in [*versions, ("2.4.0", "0.50.2"), ("2.13.0", "0.50.2")]:
        assert for_torch(rows, torch)[0].version == wanted
    installed = {"sympy": "1.13.1", "pillow": "9.5.0", "requests": "2.31.0"}
    over = over_host(rows, installed, ["sympy==1.13.1", "filelock", "typing-extensions>=4.10.0"])
    assert [row.version for row in over] == ["0.50.2", "1.13.1", "9.5.0", "2.34.2"]


def test_tensorboard_by_the_hosts_protobuf():
    rows = [Row("tensorboard", "2.21.0"), Row("protobuf", "7.36.2")]
    for protobuf, wanted in [("3.20.0", "2.20.0"), ("5.29.3", "2.20.0"), ("6.31.1", "2.21.0"), ("7.36.2", "2.21.0")]:
        over = over_host(rows, {"protobuf": protobuf}, [])
        assert [row.version for row in over] == [wanted, protobuf]
    assert over_host(rows, {}, []) == rows


@pytest.mark.parametrize("peft, version", [("0.13.2", "0.21.2"), ("0.17.1", None), (None, None)])
def test_a_hosts_peft_is_replaced_where_diffusers_would_not_import_beside_it(peft, version):
    """Forge has 0.13."""
    over = over_host(read_lock(LOCK, (3, 10)), {"peft": peft} if peft else {}, [])
    assert {row.name: row.version for row in over}.get("peft") == version


def test_a_local_build_is_its_version(tmp_path):
    assert Row("torch", "2.13.0").satisfied_by({"torch": "2.13.0+cpu"})
    wheel(tmp_path, "torch", "2.13.0+cpu")
    assert missing_wheels([Row("torch", "2.13.0"), Row("alpha", "1")], tmp_path) == ["alpha==1"]


def test_pips_configuration_is_seen_beside_a_program_that_puts_uv_in_its_place(monkeypatch):
    """As Forge Neo does where it was started with `--uv`: every `subprocess.run` of pip is one of uv."""
    monkeypatch.setattr(pip_runner.subprocess, "run", lambda command, **more: CompletedProcess(["uv"], 2, "", ""))
    pip = [sys.executable, "-c", "print('global.index-url=x'); print(':env:.no-index=1')"]
    assert pip_runner.own_sources(pip) == (True, True)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("WARNING: Retrying: NewConnectionError(...)\nERROR: No matching distribution found for torch", "network"),
        ("ERROR: No matching distribution found for torch==2.13.0", r"no build of torch==2\.13\.0"),
        (
            "Cannot install gamma==1.0 because these package versions have conflicting dependencies.",
            "no build of g",
        ),
        ("/usr/bin/python3: No module named ensurepip", "apt install python3-venv"),
        ("ERROR: [WinError 5] Access is denied: 'torch_cpu.dll'", "may be using it"),
        ("ERROR: something else", "something else"),
    ],
)
def test_pips_errors_in_words(output, words, tmp_path):
    with pytest.raises(UserError, match=words):
        raise _explained(output.splitlines(), "packages", tmp_path / "install.log")


def test_progress_is_one_line_on_a_terminal_and_stages_elsewhere(capsys):
    with StageLine() as progress:
        for n in range(5):
            progress(n / 10, f"torch: {n} of 5 MB")
        progress(0.9, "packages")
    assert capsys.readouterr().err == "  0 % torch: 0 of 5 MB\n 90 % packages\n"
    with StageLine() as progress:
        progress.live = True
        progress(0.5, "half of it")
        progress(1.0, "done")
    assert capsys.readouterr().err == "\r 50 % half of it\r100 % done      \n"


def test_the_verb_env_tells_and_fails_when_there_is_nothing(tmp_path, monkeypatch, capsys):
    import argparse

    monkeypatch.setenv("DREAMBOOTH_EXT_ENVIRONMENT", str(tmp_path / "нет"))
    parser = argparse.ArgumentParser()
    env.add_arguments(parser)
    assert env.run(parser.parse_args(["--status", "--json"])) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "missing"
    assert env.run(parser.parse_args(["--status"])) == 1
    assert "is missing" in capsys.readouterr().out


LEFT = {  # in a shell, by launchers, containers and habits
    "RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "NODE_RANK": "0",
    "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_DEEPSPEED": "true",
    "TORCHELASTIC_RUN_ID": "x", "OMPI_COMM_WORLD_SIZE": "2", "PMI_SIZE": "2", "FSDP_SHARDING_STRATEGY": "1",
    "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONINSPECT": "1", "PYTHONSTARTUP": "x", "PYTHONPATH": "x",
}  # fmt: skip


def test_nothing_that_a_shell_has_left_over_reaches_the_programs_inside(tmp_path, monkeypatch):
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = Environment(tmp_path).variables({"OURS": "1"})
    assert not {name for name in LEFT if name != "PYTHONPATH"} & found.keys() and found["PYTHONPATH"] != "x"
    assert found["CUDA_VISIBLE_DEVICES"] == "1" and found["OURS"] == "1"


def test_a_program_inside_keeps_its_assertions_and_docstrings(tmp_path, monkeypatch):
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)
    code = "import sys, warnings; warnings.warn('x'); print(sys.flags.optimize, sys.flags.inspect)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=Environment(tmp_path).variables(), capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "0"] and done.returncode == 0


def test_what_is_cancelled_ends_with_all_that_it_started(tmp_path):
    """pip --python starts another pip, which would go on installing."""
    beats = tmp_path / "beats"
    inner = f"import time\nfor _ in range(600): open({str(beats)!r}, 'a').write('x'); time.sleep(0.1)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"

    def progress(share, text):
        if beats.exists():
            raise UserError("environment.cancelled", "environment")

    with pytest.raises(UserError, match="stopped"):
        pip_runner.Runner(tmp_path / "log", progress).run([sys.executable, "-c", outer], "x", pip_runner.Window(0, 1))
    time.sleep(0.3)
    count = beats.stat().st_size
    time.sleep(0.5)
    assert beats.stat().st_size == count
