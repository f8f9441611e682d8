"""What the commands of several machines say in their terminals, and how the others stop."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from dreambooth_ext.commands.support import machines
from dreambooth_ext.core.runs.launch_place import LaunchPlace
from dreambooth_ext.core.system.message_lines import messages


@pytest.mark.parametrize(("count", "ranks"), [(2, "1"), (4, "1 to 3")])
def test_the_first_machine_says_how_the_others_are_started(capsys, count, ranks):
    machines.say_others(argparse.Namespace(machines=count), LaunchPlace(count, 0, "10.0.0.1:29600"))
    options = f"--machines {count} --machine-rank {ranks} --main-address 10.0.0.1:29600\n"
    assert capsys.readouterr().err.endswith(options)


def test_nothing_is_said_where_a_launcher_starts_the_others_or_there_are_none(capsys):
    machines.say_others(argparse.Namespace(machines=None), LaunchPlace(2, 0, "localhost:1", 0, 2))
    machines.say_others(argparse.Namespace(machines=1), None)
    assert capsys.readouterr().err == ""


def test_a_first_interrupt_is_told_as_a_wish_and_promises_nothing_of_the_first_machine(capsys, tmp_path):
    kept = tmp_path / "kept"
    script = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'wb'))"
    process = subprocess.Popen([sys.executable, "-c", script, str(kept)], stdin=subprocess.PIPE, bufsize=0)
    machines.interrupt(process, 1)
    assert process.wait(30) == 0
    with kept.open("rb") as stream:
        assert list(messages(stream)) == [{"stop": True}]
    assert "first machine" not in capsys.readouterr().err
