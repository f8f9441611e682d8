"""The deep check: one waiting process, the newest question first, every trouble an answer."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreambooth_ext.commands import check as check_command
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.guide import completion
from dreambooth_ext.host.service import deep_check as module
from dreambooth_ext.host.service.deep_check import DeepCheck

# Stands in for engine.inspection: what it does is asked for by the run's name.
ENGINE = """
import json, os, sys, time
print("a library's noise", file=sys.stderr)
for line in sys.stdin:
    name = json.loads(line)["config"]["name"]
    if name == "slow": time.sleep(2)
    if name == "hangs": time.sleep(60)
    if name == "dies": raise RuntimeError("no such kernel")
    if name == "vanishes": os._exit(3)
    answer = {"plan": {"pid": os.getpid(), "name": name}, "problems": [], "warnings": [], "last": name == "card"}
    print(json.dumps(answer), flush=True)
    if name == "card": break
"""


class FakeEnvironment:
    state = "ready"

    def status(self):
        return SimpleNamespace(state=self.state, reason="Its interpreter is gone.")

    def command(self, argv):
        return [sys.executable, "-c", ENGINE]

    def variables(self, changes):
        return None


@pytest.fixture
def asked(tmp_path):
    with contextlib.closing(DeepCheck(FakeEnvironment(), tmp_path)) as made:
        yield made


def ask(asked: DeepCheck, name: str) -> dict:
    return asked.inspect(RunConfig(name=name))


def test_one_process_answers_again_and_again(asked):
    first, second = ask(asked, "a"), ask(asked, "b")
    assert first["plan"]["name"] == "a" and second["plan"]["name"] == "b"
    assert first["plan"]["pid"] == second["plan"]["pid"]
    assert set(first) == {"plan", "problems", "warnings"}


def test_answers_are_kept_until_base_or_pictures_change(asked, tmp_path, monkeypatch):
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"1")
    (tmp_path / "pictures").mkdir()
    config = RunConfig(name="a", base_model=str(base), instance_data_dir=str(tmp_path / "pictures"))
    questions = []
    original = module.AskedProcess.ask
    monkeypatch.setattr(module.AskedProcess, "ask", lambda *given: questions.append(1) or original(*given))
    assert asked.inspect(config) == asked.inspect(config) and len(questions) == 1
    base.write_bytes(b"22")
    asked.inspect(config)
    assert len(questions) == 2
    (tmp_path / "pictures" / "1.png").write_bytes(b"")
    asked.inspect(config)
    assert len(questions) == 3
    monkeypatch.setattr(module, "FRESH", 0.0)
    asked.inspect(config)
    assert len(questions) == 4


def test_whoever_took_the_card_gives_it_back_and_another_warms_up(asked):
    first = ask(asked, "card")
    waiting = asked._process
    assert waiting is not None and waiting.is_alive()
    assert ask(asked, "b")["plan"]["pid"] != first["plan"]["pid"]
    assert asked._process is waiting


@pytest.mark.parametrize(
    ("name", "part"), [("dies", "RuntimeError: no such kernel"), ("vanishes", "a library's noise")]
)
def test_a_failure_is_a_problem_and_the_next_question_is_answered(asked, name, part):
    answer = ask(asked, name)
    assert [problem["field"] for problem in answer["problems"]] == ["environment"]
    assert part in answer["problems"][0]["message"] and answer["problems"][0]["remedy"]
    assert set(answer) == {"plan", "problems", "warnings"}
    assert ask(asked, "a")["plan"]["name"] == "a"
    assert ask(asked, name)["problems"]  # failures are not kept


def test_no_answer_in_time(asked, monkeypatch):
    monkeypatch.setattr(module, "TIME_OUT", 0.5)
    answer = ask(asked, "hangs")
    assert "no answer within" in answer["problems"][0]["message"]


def test_an_environment_that_is_not_ready(asked, monkeypatch):
    monkeypatch.setattr(FakeEnvironment, "state", "broken")
    answer = ask(asked, "a")
    assert answer["problems"][0]["field"] == "environment" and "interpreter is gone" in answer["problems"][0]["message"]


def test_an_interpreter_that_does_not_start(asked, monkeypatch):
    monkeypatch.setattr(FakeEnvironment, "command", lambda self, argv: ["/nowhere/python"])
    assert "could not be started" in ask(asked, "a")["problems"][0]["message"]


def test_only_the_newest_of_several_questions_is_answered(asked):
    ask(asked, "warm")
    answers = {}
    threads = []
    for name in ("slow", "middle", "newest"):
        threads.append(threading.Thread(target=lambda name=name: answers.update({name: ask(asked, name)})))
        threads[-1].start()
        time.sleep(0.3)
    for thread in threads:
        thread.join(20)
    assert answers["slow"]["plan"]["name"] == "slow"  # it was being answered already
    assert answers["middle"] == {"plan": {}, "problems": [], "warnings": [], "superseded": True}
    assert answers["newest"]["plan"]["name"] == "newest"


def test_a_question_that_takes_too_long_gives_way(asked, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    answers = {}
    thread = threading.Thread(target=lambda: answers.update(old=ask(asked, "hangs")))
    thread.start()
    time.sleep(0.5)
    assert ask(asked, "new")["plan"]["name"] == "new"
    thread.join(20)
    assert answers["old"]["superseded"]


def test_closing_ends_what_is_asked(asked):
    answers = {}
    thread = threading.Thread(target=lambda: answers.update(old=ask(asked, "hangs")))
    thread.start()
    time.sleep(0.5)
    asked.close()
    thread.join(20)
    assert answers["old"]["superseded"]
    assert ask(asked, "a")["plan"]["name"] == "a"  # a Reload UI goes on with the same one


def test_the_process_ends_when_nobody_asks(tmp_path):
    with contextlib.closing(DeepCheck(FakeEnvironment(), tmp_path, idle=0.3)) as asked:
        ask(asked, "a")
        process = asked._process
        deadline = time.monotonic() + 10
        while process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not process.is_alive() and asked._process is None


class ThisPython(FakeEnvironment):
    """The tests run in the trainer's environment."""

    def command(self, argv):
        return [sys.executable, *argv]

    def variables(self, changes):
        return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **changes}


def test_the_real_engine(tmp_path):
    tiny = pytest.importorskip("tests.tiny")
    image = pytest.importorskip("PIL.Image")
    base = tiny.single_file(tmp_path, name="base")
    folder = tmp_path / "фото"
    folder.mkdir()
    image.new("RGB", (64, 64)).save(folder / "sksper (1).png")
    (folder / "sksper (2).png").write_bytes(b"<html>")
    asked_for = RunConfig(
        name="a",
        base_model=str(base),
        instance_data_dir=str(folder),
        max_train_steps=10,
        text_encoder_steps=0,
        resolution=64,
        with_prior_preservation=False,
        device="cpu",
    )
    config, _ = completion.fill_in(asked_for, 1)
    with contextlib.closing(DeepCheck(ThisPython(), tmp_path / "runs")) as asked:
        answer = asked.inspect(config)
        assert answer["plan"]["pictures"] == 1 and answer["plan"]["steps"] == 10 and not answer["problems"]
        assert any("sksper (2).png" in warning["message"] for warning in answer["warnings"])
        process = asked._process
        again = asked.inspect(config.replace(optimizer="lion", max_train_steps=20))
        assert again["plan"]["steps"] == 20 and again["plan"]["optimizer"] == "lion"
        assert asked._process is process and process.is_alive()  # nothing is imported again
        missing = asked.inspect(config.replace(base_model=str(tmp_path / "none.safetensors")))
        assert [problem["field"] for problem in missing["problems"]] == ["base_model"]


def test_the_command_asks_the_same(monkeypatch):
    assert check_command.DeepCheck is DeepCheck
