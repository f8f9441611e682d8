"""What a run says and hears: commands, signals, states, exit codes, events, heartbeat; saves and previews."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from unittest import mock

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import conclusion, events, run_folder
from dreambooth_ext.core.runs.events import EventLog, EventReader
from dreambooth_ext.core.runs.leader_lock import LeaderLock
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import environment_users, files
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime import control
from dreambooth_ext.engine.training import training_state
from dreambooth_ext.engine.training.loop import Loop
from dreambooth_ext.engine.training.run_outputs import Saver
from tests import tiny, training
from tests.training import Trainer

PROMPT = "a photo of sksper person"


@pytest.fixture
def at_step(monkeypatch):
    """`at_step(2, action)`: the action, given the run, happens right after step 2 was reported."""

    def arrange(step: int, action: Callable[[Run], object]) -> None:
        report = Loop._report

        def reported(loop: Loop, *arguments):
            report(loop, *arguments)
            if loop.state.step == step:
                action(loop.control.run)

        monkeypatch.setattr(Loop, "_report", reported)

    return arrange


def statuses(run: Run) -> list[str]:
    return [e["status"] for e in training.events(run, "status") if "stage" not in e and "plan" not in e]


def models(run: Run) -> list[str]:
    return [event["name"] for event in training.events(run, "artifact")]


def states(run: Run) -> list[int]:
    return [state.step for state in training_state.found(run.checkpoints)]


# --- states and exit codes


def test_a_run_from_queued_to_done(trainer):
    run = trainer.train()
    assert statuses(run) == ["queued", "preparing", "training", "saving", "training", "saving", "training", "done"]
    state = files.read_json(run.path / "state.json")
    assert state == run.state()
    assert (state["status"], state["step"], state["total"]) == ("done", 4, 4)
    assert state["pid"] == os.getpid() and state["host"] and state["heartbeat"] >= state["created"]
    assert state["problem"] is None
    plan = state["plan"]
    assert (plan["pictures"], plan["class_pictures"], plan["steps"], plan["resolution"]) == (3, 0, 4, 64)
    steps = training.events(run, "step")
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    for event in steps:
        assert set(event) >= {"loss", "lr", "it_per_s", "eta_s", "memory", "epoch", "total", "n", "time"}
        assert event["lr"] == {"unet": 1e-3} and event["memory"]["peak"] >= event["memory"]["now"] > 0
    assert steps[-1]["eta_s"] == 0 and steps[2]["epoch"] == 1
    (artifact,) = training.events(run, "artifact")
    assert artifact["final"] and artifact["file"] == "taught.safetensors"
    assert [e["type"] for e in run.artifact_events()] == ["artifact"]


def test_events_are_json_that_any_reader_takes(trainer):
    run = trainer.train()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=refuse)


def test_bad_input_ends_with_1_before_anything_is_loaded(trainer):
    run = trainer.create()
    trainer.base.unlink()
    assert training.go_on(run) == worker.BAD_INPUT
    assert run.state()["status"] == "failed" and run.state()["problem"]["field"] == "base_model"
    assert statuses(run) == ["queued", "preparing", "failed"]
    (error,) = training.events(run, "error")
    assert error["field"] == "base_model" and error["what"] and error["remedy"] and error["why"]


def test_state_of_a_worker_that_ends_well_while_we_look(trainer, monkeypatch):
    """The status is read, the worker finishes, the lock is found free: that run is done, not dead."""
    run = trainer.create()
    run.write_state(status="saving")

    def look(self: Run, state: dict | None = None) -> bool:
        self.write_state(status="done")
        return False

    monkeypatch.setattr(Run, "is_alive", look)
    assert run.state()["status"] == "done"


def test_a_look_at_the_run_does_not_keep_its_worker_from_starting(trainer):
    run = trainer.create()
    lock = run.take()
    threading.Timer(0.2, lock.close).start()
    assert training.go_on(run) == worker.DONE


def test_a_run_is_alive_only_while_its_worker_is(trainer, at_step):
    seen = []
    at_step(2, lambda run: seen.append((run.is_alive(), run.state()["status"])))
    run = trainer.train()
    assert seen == [(True, "training")] and not run.is_alive()


def test_two_looks_at_once_do_not_take_each_other_for_a_worker(trainer):
    run = trainer.create()
    run.take().close()
    with (run.path / "worker.lock").open("rb") as stream:
        assert files._lock(stream, shared=True)
        assert os.name == "nt" or not run.is_alive()


def test_a_worker_on_another_machine_is_judged_by_its_heartbeat(trainer):
    run = trainer.create()
    run.write_state(status="training", host="elsewhere", heartbeat=time.time())
    assert run.state()["status"] == "training"
    run.write_state(heartbeat=time.time() - 120)
    assert run.state()["status"] == "failed"


def test_the_heart_beats_while_a_step_takes_long(trainer, at_step, monkeypatch):
    monkeypatch.setattr(control, "HEARTBEAT", 0.02)
    beats = []

    def look(run: Run) -> None:
        for _ in range(2):
            beats.append(files.read_json(run.path / "state.json"))
            time.sleep(0.3)

    at_step(2, look)
    trainer.train()
    assert beats[1]["heartbeat"] > beats[0]["heartbeat"]
    assert beats[1]["step"] == 2 and beats[1]["status"] == "training"


# --- commands and signals


def test_stop_and_resume_is_the_run_without_it(trainer, at_step, monkeypatch):
    whole = trainer.train(text_encoder_steps=2)
    at_step(2, lambda run: run.command("stop"))
    run = trainer.train(ends=worker.STOPPED, text_encoder_steps=2)
    assert run.state()["status"] == "stopped" and run.state()["step"] == 2
    assert states(run) == [2] and models(run) == []
    assert statuses(run)[-3:] == ["saving", "training", "stopped"]
    monkeypatch.undo()
    assert training.go_on(run) == worker.DONE
    training.assert_same_run(whole, run)


def stop_while_captions_are_encoded(monkeypatch, command: str) -> list[int]:
    """Give the command before the first caption of the next run; returns the captions that it comes to encode."""
    stage, encoded = control.Control.stage, []

    def told(self: control.Control, name: str, done: int, total: int) -> None:
        if name == "encoding captions":
            encoded.append(done)
            if done == 1:
                self.run.command(command)
        stage(self, name, done, total)

    monkeypatch.setattr(control.Control, "stage", told)
    return encoded


@pytest.mark.parametrize(("method", "command"), [("dreambooth", "stop"), ("lora", "stop_and_save")])
def test_a_stop_while_captions_are_encoded_on_the_way(trainer, monkeypatch, method, command):
    """When the text encoder has learned enough: its state is that of the step, and the run goes on from it."""
    folder = training.pictures(trainer.folder / "captioned", 6, captions=True)
    settings = {"method": method, "instance_data_dir": folder, "instance_prompt": "[filewords]"}
    settings |= {"text_encoder_steps": 2, "max_train_steps": 3}
    whole = trainer.train(**settings)
    with monkeypatch.context() as patch:
        encoded = stop_while_captions_are_encoded(patch, command)
        run = trainer.train(ends=worker.STOPPED, **settings)
    assert encoded == [1] and run.state()["step"] == 2 and states(run) == [2]
    assert models(run) == (["taught_2"] if command == "stop_and_save" else [])
    assert training.go_on(run) == worker.DONE
    training.assert_same_run(whole, run)
    assert len(training.losses(run)) == 3


def test_encoding_captions_is_shown_and_stops(trainer, monkeypatch):
    folder = training.pictures(trainer.folder / "captioned", 6, captions=True)
    settings = {"instance_data_dir": folder, "instance_prompt": "[filewords]", "max_train_steps": 1}
    run = trainer.train(**settings)
    told = [e for e in training.events(run, "status") if e.get("stage") == "encoding captions"]
    assert told and (told[-1]["done"], told[-1]["of"]) == (8, 8)  # beside the captions: none, and the negative prompt
    encoded = stop_while_captions_are_encoded(monkeypatch, "stop")
    run = trainer.train(ends=worker.STOPPED, **settings)
    assert encoded == [1] and run.state()["step"] == 0


def test_stop_and_save_makes_a_model_as_well(trainer, at_step):
    at_step(2, lambda run: run.command("stop_and_save"))
    run = trainer.train(ends=worker.STOPPED)
    assert states(run) == [2] and models(run) == ["taught_2"]
    assert [event["step"] for event in training.events(run, "checkpoint")] == [2]
    assert [event["stops"] for event in training.events(run, "artifact")] == [True]  # a host puts it into the WebUI


def test_save_now_goes_on(trainer, at_step):
    at_step(2, lambda run: run.command("save"))
    run = trainer.train()
    assert states(run) == [2, 4] and models(run) == ["taught_2", "taught"]
    assert [event["stops"] for event in training.events(run, "artifact")] == [False, False]


def test_sample_now_draws_the_previews(trainer, at_step):
    at_step(2, lambda run: run.command("sample"))
    run = trainer.train(validation_prompts=[PROMPT, "a house"], validation_num_images=2, validation_seed=5)
    drawn = training.events(run, "sample")
    assert [(e["step"], e["prompt"], e["seed"]) for e in drawn] == [
        (2, PROMPT, 5),
        (2, PROMPT, 6),
        (2, "a house", 5),
        (2, "a house", 6),
    ]
    names = sorted(path.name for path in (run.samples / "2").iterdir())
    assert names == ["0_5.png", "0_6.png", "1_5.png", "1_6.png"]
    assert (run.artifacts / "taught.preview.png").exists()


def test_previews_are_counted_while_they_are_drawn(trainer):
    run = trainer.train(validation_prompts=[PROMPT, "a house"], validation_steps=2, max_train_steps=2)
    told = [e for e in run.events.read() if e.get("stage") == "drawing previews" or e["type"] == "sample"]
    assert [e["type"] for e in told] == ["status", "sample"] * 4  # before the first step, and after the second
    assert [(e["status"], e["done"], e["of"]) for e in told[::2]] == [("training", 1, 2), ("training", 2, 2)] * 2


@pytest.fixture
def stopped_at_its_base(monkeypatch):
    """`stopped_at_its_base(run)`: the run's first start, which a stop after the base's previews ends."""

    def start(run: Run) -> dict[str, bytes]:
        with monkeypatch.context() as patch:
            preview = Saver.preview
            patch.setattr(Saver, "preview", lambda saver, step: (preview(saver, step), run.command("stop")))
            assert training.go_on(run) == worker.STOPPED
        return pictures_of(run, 0)

    return start


def pictures_of(run: Run, step: int) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run.samples / str(step)).iterdir())}


def test_the_base_is_drawn_once_before_the_first_step(trainer, stopped_at_its_base):
    """With the prompts and seeds of all others. Whoever stops before there is a training state begins again with it."""
    settings = {"validation_prompts": [PROMPT, "a house"], "validation_num_images": 2, "validation_steps": 3}
    run = trainer.create(**settings, max_train_steps=3)
    base = stopped_at_its_base(run)
    assert list(base) == ["0_0.png", "0_1.png", "1_0.png", "1_1.png"] and states(run) == []
    (run.samples / "0" / "1_1.png").unlink()  # as if it had been killed there
    assert training.go_on(run) == worker.DONE, training.log(run)
    assert pictures_of(run, 0) == base and pictures_of(run, 3) != base
    drawn = [(e["step"], e["prompt"], e["seed"]) for e in training.events(run, "sample")]
    wanted = [(prompt, seed) for prompt in (PROMPT, "a house") for seed in (0, 1)]
    assert drawn == [(step, *one) for step in (0, 0, 3) for one in wanted]
    assert training.go_on(run, total=4) == worker.DONE  # from a training state: the base is no longer at hand
    assert [e["step"] for e in training.events(run, "sample")] == [0] * 8 + [3] * 4 + [4] * 4


def test_the_base_s_previews_stay_those_of_the_run_s_base(trainer, stopped_at_its_base):
    run = trainer.create(validation_prompts=[PROMPT], validation_steps=9, max_train_steps=1)
    before = stopped_at_its_base(run)
    assert training.go_on(run) == worker.DONE
    assert [e["step"] for e in training.events(run, "sample")] == [0, 1] and pictures_of(run, 0) == before
    again = trainer.create(validation_prompts=[PROMPT], validation_steps=9, max_train_steps=1)
    stopped_at_its_base(again)
    tiny.single_file(trainer.folder, "sd1", seed=5)  # nothing was learned yet: another base may take its place
    assert training.go_on(again) == worker.DONE, training.log(again)
    assert pictures_of(again, 0) != before


def test_a_stop_during_previews_keeps_what_was_learned(trainer, monkeypatch):
    """Unlike during the preparations, where there is nothing to keep."""
    preview = Saver.preview

    def stopped(saver, step):
        preview(saver, step)
        if step:
            saver.run.command("stop")

    monkeypatch.setattr(Saver, "preview", stopped)
    run = trainer.train(validation_prompts=[PROMPT], validation_steps=1, ends=worker.STOPPED)
    assert run.state()["step"] == 1 and states(run) == [1]


def test_the_log_tells_what_a_run_did(trainer, capsys):
    run = trainer.train(validation_prompts=[PROMPT], validation_steps=2, max_train_steps=2)
    lines = [line.partition("  ")[2] for line in capsys.readouterr().err.splitlines()]
    plan = run.state()["plan"]
    assert any(line.startswith(f"{plan['family']} at {plan['resolution']}, ") for line in lines)
    steps = [line for line in lines if line.startswith("step ")]
    loss = training.losses(run)[-1]
    assert len(steps) == 2 and steps[-1].startswith(f"step 2/2, loss {loss:.4f}, ")
    assert "drawing previews 1/1" in lines and "saved the training state of step 2" in lines
    assert any(line.endswith("taught.safetensors") for line in lines) and lines[-1] == "done"


def test_sample_without_prompts_is_a_warning(trainer, at_step):
    at_step(2, lambda run: run.command("sample"))
    (warning,) = training.events(trainer.train(), "warning")
    assert warning["field"] == "validation_prompts" and warning["remedy"]


def test_commands_at_once_are_all_obeyed_in_order(trainer, at_step):
    def give(run: Run) -> None:
        for command in ("sample", "save", "stop"):
            run.command(command)

    at_step(1, give)
    run = trainer.train(ends=worker.STOPPED, validation_prompts=[PROMPT])
    assert models(run) == ["taught_1"] and states(run) == [1]
    kinds = [e["type"] for e in run.events.read() if e["type"] in ("sample", "checkpoint", "artifact")]
    assert kinds == ["sample", "checkpoint", "artifact"]


def test_stop_before_training_has_begun(trainer):
    """As with Ctrl-C while the worker still imports torch: the command waits for it."""
    run = trainer.create()
    run.command("stop")
    assert training.go_on(run) == worker.STOPPED
    assert statuses(run) == ["queued", "preparing", "stopped"] and training.losses(run) == []
    assert training.go_on(run) == worker.DONE


def test_a_signal_during_the_preparations_is_heard(trainer, monkeypatch):
    encode = worker.Dataset.encode

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        encode(*arguments)

    monkeypatch.setattr(worker.Dataset, "encode", interrupted)
    run = trainer.train(ends=worker.STOPPED)
    assert training.losses(run) == []


def test_save_before_the_first_step_costs_nothing(trainer):
    """There is nothing to save yet; the commands of the preparations are not lost either."""
    run = trainer.create(validation_prompts=[PROMPT])
    run.command("save")
    run.command("sample")
    assert training.go_on(run) == worker.DONE, training.log(run)
    assert models(run) == ["taught"] and [e["step"] for e in training.events(run, "sample")] == [0]
    assert "learned nothing" in training.events(run, "warning")[0]["what"]


def test_an_intermediate_model_that_equals_its_base_does_not_end_the_run(trainer):
    """A slow warm-up: after its first step, at rate 0, there is nothing to show yet."""
    run = trainer.train(lr_scheduler="constant_with_warmup", lr_warmup_steps=2, checkpointing_steps=1)
    assert models(run) == ["taught_2", "taught_3", "taught"] and states(run) == [1, 2, 3, 4]


def test_stop_with_the_last_step_is_done(trainer, at_step):
    at_step(4, lambda run: run.command("stop"))
    assert models(trainer.train()) == ["taught"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_and_keep_the_state(trainer, at_step, number):
    before = signal.getsignal(number)
    at_step(3, lambda run: os.kill(os.getpid(), number))
    run = trainer.train(ends=worker.STOPPED)
    assert states(run) == [3] and run.state()["status"] == "stopped"
    assert signal.getsignal(number) is before


def test_commands_are_taken_once_in_order_and_junk_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 5)  # a clock that ticks slowly
    for command in events.COMMANDS:
        events.give_command(tmp_path, command)
    (tmp_path / "6-1.json").write_text('{"command": "explode"}')
    (tmp_path / "7-1.json").write_text('{"comm')
    (tmp_path / "8-1.json").write_text("[1]")
    (tmp_path / ".tmp-9-1.json").write_text("{}")
    assert events.take_commands(tmp_path) == list(events.COMMANDS)
    assert events.take_commands(tmp_path) == []


# --- events


def test_numbers_without_gaps_from_several_writers(tmp_path):
    path = tmp_path / "events.jsonl"

    def write() -> None:
        for _ in range(40):
            EventLog(path).append("warning", what="w" * 50)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["n"] for event in EventLog(path).read()] == list(range(1, 161))
    assert [event["n"] for event in EventLog(path).read(after=158)] == [159, 160]


def test_a_torn_last_line_is_left_out_and_closed(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    reader = EventReader(log.path)
    log.append("status", status="queued")
    with log.path.open("ab") as stream:
        stream.write(b'{"n": 2, "type": "st')
    assert [e["n"] for e in log.read()] == [1] and [e["n"] for e in reader.new()] == [1]
    assert log.append("status", status="done")["n"] == 2
    assert [e["status"] for e in log.read()] == ["queued", "done"]
    assert [e["status"] for e in reader.new()] == ["done"] and reader.new() == []


@pytest.mark.parametrize("size", [3000, 4096, 70_000, 500_000])
def test_numbers_go_on_after_a_very_long_event(tmp_path, size):
    log = EventLog(tmp_path / "events.jsonl")
    for _ in range(3):
        log.append("error", what="x" * size)
    assert [event["n"] for event in log.read()] == [1, 2, 3]


def test_a_file_name_that_is_no_text_does_not_end_the_run(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.append("warning", what=os.fsdecode(b"caf\xe9.png") if os.name != "nt" else "caf\udce9.png")
    assert "caf" in log.read()[0]["what"]


# --- saves, previews, curves


def test_previews_leave_training_as_it_is(trainer):
    settings = {"text_encoder_steps": 2, "use_ema": True, "ema_decay": 0.5}
    plain = trainer.train(**settings)
    drawn = trainer.train(**settings, validation_prompts=[PROMPT], validation_steps=1)
    assert len(training.events(drawn, "sample")) == 1 + 4
    training.assert_same_run(plain, drawn)
    assert training.losses(plain) == training.losses(drawn)


def test_previews_of_an_inpainting_base_and_after_long_prompts(tmp_path):
    trainer = Trainer(tmp_path, base={"inpainting": True})
    prompts = ["word " * 100, PROMPT]
    run = trainer.train(validation_prompts=prompts, validation_steps=4, validation_inference_steps=2)
    assert len(training.events(run, "sample")) == 2 * 2


@pytest.mark.parametrize(("limit", "left"), [(1, [6]), (2, [4, 6]), (None, [2, 4, 6])])
def test_only_so_many_states_stay(trainer, limit, left, monkeypatch):
    there = []
    remove = files.remove

    def removed(path) -> None:
        there.append([state.step for state in training_state.found(path.parent)])
        remove(path)

    monkeypatch.setattr(files, "remove", removed)
    run = trainer.train(max_train_steps=6, checkpointing_steps=2, checkpoints_total_limit=limit)
    assert states(run) == left
    assert all(len(steps) > limit for steps in there)  # the new one was written before an old one went
    assert models(run) == ["taught_2", "taught_4", "taught"]


def test_no_saves_before_the_start_step(trainer):
    run = trainer.train(checkpointing_steps=1, checkpointing_start_step=3)
    assert states(run) == [3, 4] and models(run) == ["taught_3", "taught"]


def test_states_without_models(trainer):
    run = trainer.train(checkpointing_steps=2, save_intermediate_models=False)
    assert states(run) == [2, 4] and models(run) == ["taught"]


def test_a_model_that_a_kill_left_out_is_written_on_resuming(trainer):
    run = trainer.train(checkpointing_steps=2)
    with (run.path / "events.jsonl").open("rb+") as stream:  # as it was after the state of step 2
        lines = stream.readlines()
        stream.seek(0)
        stream.truncate()
        until = next(i for i, line in enumerate(lines) if b'"checkpoint"' in line)
        stream.writelines(line for line in lines[: until + 1] if b'"artifact"' not in line)
    for path in run.artifacts.glob("*.*"):
        path.unlink()
    files.remove(run.checkpoints / "4")
    run.write_state(status="saving", step=2)
    assert training.go_on(run) == worker.DONE
    assert models(run) == ["taught_2", "taught"]


def test_curves_hold_every_step_to_the_last_one(trainer):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trainer.train(report_to="tensorboard", text_encoder_steps=2)
    curves = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [point.step for point in curves.Scalars("loss")] == [1, 2, 3, 4]
    assert [point.step for point in curves.Scalars("lr/text_encoder")] == [1, 2]


TIED = """
import subprocess, sys, threading
from dreambooth_ext.engine.launching.standard_input import take_standard_input

pipe = take_standard_input()
reader = threading.Thread(target=lambda: print("parent said", pipe.read(100)), daemon=True)
reader.start()
child = [sys.executable, "-c", "import sys; print('child read', repr(sys.stdin.read()))"]
print(subprocess.run(child, stdout=subprocess.PIPE, encoding="utf-8", timeout=60).stdout.strip(), flush=True)
reader.join()
"""


def test_programs_that_a_tied_worker_starts_do_not_wait_for_its_parent():
    """They inherit an empty standard input, while the worker still waits for the end of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", TIED],
        cwd=training.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout.readline() == "child read ''\n"
    process.stdin.close()
    assert process.stdout.readline() == "parent said b''\n"
    assert process.wait(30) == 0


@pytest.mark.parametrize("wish", ["stop", "continue"])
def test_a_led_worker_does_what_its_host_wished_last_when_no_host_leads_any_more(tmp_path, monkeypatch, wish):
    monkeypatch.setattr(control, "HEARTBEAT", 0.05)
    run, leader_lock = run_folder.create(tmp_path, RunConfig(name="cat")), LeaderLock(tmp_path)
    first = leader_lock.take()
    leader_lock.wish(wish != "stop")
    with control.Control(run) as led:
        led.stop_without(leader_lock)
        time.sleep(0.3)
        assert led.commands() == []
        leader_lock.wish(wish == "stop")  # the option was changed meanwhile
        first.close()
        with leader_lock.take():  # another host takes over at once
            time.sleep(0.3)
            assert led.commands() == []
        deadline = time.monotonic() + (5 if wish == "stop" else 0.5)
        while not (heard := led.commands()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert heard == (["stop"] if wish == "stop" else [])


def test_a_led_run_goes_on_without_a_host_that_wished_nothing(trainer, monkeypatch):
    monkeypatch.setattr(control, "HEARTBEAT", 0.01)
    run = trainer.create()
    training.forget_accelerate()
    assert worker.main([str(run.path), "--led"]) == worker.DONE


def test_what_was_wrong_before_is_forgotten_when_it_goes_on(trainer):
    run = trainer.train(max_train_steps=2)
    problem = {"field": "", "message": "the disk is full.", "remedy": "Delete something."}
    run.write_state(status="failed", problem=problem, problems=[problem])
    assert training.go_on(run, 4) == worker.DONE
    state = run.state()
    assert (state["status"], state["problem"], state["problems"]) == ("done", None, [])


def test_a_worker_says_in_its_environment_that_it_uses_it(trainer, at_step, tmp_path, monkeypatch):
    monkeypatch.setenv(environment_users.VARIABLE, str(tmp_path / "environment"))
    found = []
    at_step(2, lambda run: found.extend(environment_users.names(tmp_path / "environment")))
    run = trainer.train()
    assert found == [run.id] and environment_users.names(tmp_path / "environment") == []


@pytest.mark.parametrize(
    ("how", "code"), [("done", worker.DONE), ("stopped", worker.STOPPED), ("failed", worker.BAD_INPUT)]
)
def test_who_follows_a_run_tells_how_it_ended(trainer, how, code):
    """After publishing what it made, and giving the device back; the worker's own last word is only its state's."""
    run = trainer.create()
    files.write_json(run.path / "host.json", {"publish": True, "settled": False})
    if how == "stopped":
        run.command("stop")
    if how == "failed":
        trainer.base.unlink()
    with run.claim():
        assert training.go_on(run) == code
        assert (run.state()["status"], run.state()["ending"]) == ("saving", how)
        assert how not in statuses(run) and statuses(run)[-1] == "saving"
    assert run.state()["status"] == "saving"  # as long as it is owed, whoever is there
    with run.claim():
        assert conclusion.conclude(run) and conclusion.conclude(run)
    assert statuses(run)[-1] == run.state()["status"] == how and statuses(run).count(how) == 1
    assert bool(run.state().get("problem")) == (how == "failed")


@pytest.mark.parametrize(("command", "status"), [("stop", "stopped"), ("stop_and_save", "saving")])
def test_a_worker_that_nobody_follows_tells_its_end_itself_unless_a_model_is_due(trainer, at_step, command, status):
    run = trainer.create(max_train_steps=3)
    files.write_json(run.path / "host.json", {"publish": True, "settled": False})
    at_step(2, lambda run: run.command(command))
    assert training.go_on(run) == worker.STOPPED
    assert run.state()["status"] == statuses(run)[-1] == status
    assert run.state()["ending"] == "stopped"


def test_a_process_that_lost_the_first_one_waits_for_the_news_before_it_says_so(tmp_path):
    """By the news the first one may have ended in order, which ends this one; of failures it hears nothing."""
    follower = control.Follower(run_folder.create(tmp_path, RunConfig(name="mine")))
    follower.leash = mock.Mock(tells_all=False)
    assert follower.failure_of_another(wait=True) is None
    follower.leash.failure.assert_called_once_with(True)
