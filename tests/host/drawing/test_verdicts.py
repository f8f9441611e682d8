"""Verdicts: asked for over the API, judged by a `verdict` that only pretends, by itself when nothing else goes on."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.waiting import until

pytest.importorskip("starlette")
pytest.importorskip("PIL.Image")

from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.host.drawing import verdicts
from dreambooth_ext.host.drawing.device_jobs import Job, Pace, Task
from dreambooth_ext.host.drawing.idle_judge import IdleJudge
from dreambooth_ext.host.jobs.loans import Loan
from tests.host.asking import Asked
from tests.host.drawing.pretended import pretending, trained, verdict_of, without_job


@pytest.fixture
def asked(tmp_path) -> Asked:
    return pretending(tmp_path)


def judged_with(run) -> list[str]:
    return json.loads((run.path / "verdict.json").read_text())["words"]


def test_a_run_is_judged(asked):
    run = trained(asked)
    assert asked.get(f"runs/{run.id}/verdict").json() == {"verdict": None, "votes": {}, "job": None, "is_old": False}
    (asked.environment.folder / "wait").touch()
    assert asked.post(f"runs/{run.id}/verdict").status == 202
    job = until(lambda: (found := asked.get(f"runs/{run.id}/verdict").json()["job"])["total"] and found)
    job = until(lambda: (found := asked.get("job").json()["job"])["done"] == 3 and found)
    assert (job["state"], job["total"], job["automatic"]) == ("running", 40, False)
    assert (job["stage"], job["stage_code"]) == ("drawing with each model", "stages.drawing_to_judge")
    assert 0 < job["left"] < 60
    assert asked.post(f"runs/{run.id}/verdict").json()["code"] == "drawing.busy"
    (asked.environment.folder / "wait").unlink()
    without_job(asked)
    found = asked.get(f"runs/{run.id}/verdict").json()
    assert found["verdict"]["sentence"] == "Keep it." and found["job"]["state"] == "done"
    assert judged_with(run) == [str(run.path), "--device=cpu"]
    asked.post(f"runs/{run.id}/verdict", {"steps_only": True})
    without_job(asked)
    assert judged_with(run) == [str(run.path), "--device=cpu", "--steps-only"]


def test_time_left_is_of_the_stage():
    job = Job(Task("verdict", "anna", [], "cpu"))
    assert (job.status()["total"], job.status()["left"]) == (0, None)
    pace = Pace()
    for done, now in ((2, 10.0), (4, 14.0), (4, 100.0)):
        pace.note(done, now)
    assert pace.left(10) == 12  # two seconds each, whenever it is asked
    job.heard("drawing with each model 40/40 (100 %), took 1:20")
    job.heard("looking at the pictures")
    assert (job.status()["stage_code"], job.status()["total"], job.status()["left"]) == ("stages.judging", 0, None)
    job.heard("looking at the pictures, or not 1/2 (")
    assert job.status()["stage_code"] == "stages.judging"


def test_a_stage_is_no_reason_for_a_failure():
    job = Job(Task("verdict", "anna", [], "cpu"))
    for line in ("killed by the system", "deciding"):
        job.heard(line)
    assert job.last_words(-9) == "killed by the system"


def test_who_judges_is_asked_for_or_the_option(asked, monkeypatch):
    run = trained(asked)

    def words(**given) -> list[str]:
        assert asked.post(f"runs/{run.id}/verdict", given).status == 202
        without_job(asked)
        return judged_with(run)[2:]

    assert words(judge="D:\\models\\мой dino ") == ["--judge=D:\\models\\мой dino"]
    asked.host.options.set("judge_model", "/models/faces.onnx")
    assert words() == ["--judge=/models/faces.onnx"] and words(judge="") == []
    assert words(steps_only=True) == ["--steps-only"]
    monkeypatch.setattr(asked.host, "restricted", lambda: "It is shared.")
    assert words(judge="/models/faces.onnx") == ["--judge=/models/faces.onnx"]
    refused = asked.post(f"runs/{run.id}/verdict", {"judge": "/etc/passwd.onnx"})
    assert (refused.status, refused.json()["field"]) == (403, "judge")
    assert asked.post(f"runs/{run.id}/verdict", {"judge": 3}).status == 422


def test_what_cannot_be_judged_is_refused(asked):
    nothing = trained(asked, "none", steps=())
    assert asked.post(f"runs/{nothing.id}/verdict").json()["code"] == "drawing.nothing_to_judge"
    going = trained(asked, "going")
    going.write_state(status="queued")
    assert asked.post(f"runs/{going.id}/verdict").status == 409
    assert asked.post("runs/none/verdict").status == 404


def test_the_page_gets_sentences_to_translate_and_files_by_name(asked):
    run = trained(asked)
    message = Message("drawing.going_on_verdict", of="anna")
    verdict_of(run, sentence=str(message), message={"code": message.code, "values": message.values})
    found = asked.get(f"runs/{run.id}/verdict").json()["verdict"]
    assert found["sentence_code"] == message.code and found["sentence_values"] == {"of": "anna"}
    assert "message" not in found and found["recommended"]["file"] == "anna_600.safetensors"
    assert found["proof"][0]["file"] == "proof_0.png" and found["proof"][0]["nearest"] == "nearest_0.png"
    for file, kind in (("proof_0.png", "image/png"), ("nearest_0.png", "image/png"), ("curves.svg", "image/svg+xml")):
        answer = asked.get(f"runs/{run.id}/verdict/pictures/{file}")
        assert answer.status == 200 and answer.headers["content-type"] == kind
    for file in ("..", "verdict.json", "none.png"):
        assert asked.get(f"runs/{run.id}/verdict/pictures/{file}").status == 404
    (run.path / "verdict.json").write_text("[1")
    assert asked.get(f"runs/{run.id}/verdict").json()["verdict"] is None


def test_strangers_see_no_training_picture(asked, monkeypatch):
    run = trained(asked, instance_data_dir="/home/me/photos")
    verdict_of(run)
    assert asked.get(f"runs/{run.id}/verdict/pictures/nearest_0.png").status == 200
    monkeypatch.setattr(asked.host, "restricted", lambda: "It is shared.")
    assert asked.get(f"runs/{run.id}/verdict/pictures/nearest_0.png").status == 404
    assert asked.get(f"runs/{run.id}/verdict/pictures/proof_0.png").status == 200
    proof = asked.get(f"runs/{run.id}/verdict").json()["verdict"]["proof"]
    assert [one["nearest"] for one in proof] == [None] * 6


def test_votes_on_its_pictures_count_by_file(asked):
    run = trained(asked)
    verdict_of(run)
    given = {"prompt": "zkz person in medieval armor", "seed": 1, "models": [300, 600], "better": 600}
    answer = asked.post(f"runs/{run.id}/verdict/votes", given)
    votes = {"anna_300.safetensors": {"shown": 1, "better": 0}, "anna_600.safetensors": {"shown": 1, "better": 1}}
    assert answer.json() == {"votes": votes} == {"votes": asked.get(f"runs/{run.id}/verdict").json()["votes"]}
    assert asked.post(f"runs/{run.id}/verdict/votes", {**given, "models": [300, 301]}).status == 422
    assert (run.path / "votes.json").is_file()


def test_one_with_newer_models_is_old(asked):
    run = trained(asked)
    verdict_of(run)
    assert not asked.get(f"runs/{run.id}/verdict").json()["is_old"]
    os.utime(run.path / "verdict.json", (time.time() - 60,) * 2)
    assert asked.get(f"runs/{run.id}/verdict").json()["is_old"]


# --- by itself


@pytest.fixture
def judge(asked) -> IdleJudge:
    judge = asked.service.idle_judge
    judge.idle = 0.0
    return judge


def ends(asked, judge, run) -> None:
    """The run trains, and has ended by the next look."""
    asked.dispatcher.running = [run]
    judge.look()
    asked.dispatcher.running = []


def test_what_has_ended_is_judged_when_nothing_goes_on(asked, judge):
    run, single = trained(asked), trained(asked, "single", steps=(100,))
    asked.dispatcher.ids = [single.id]
    ends(asked, judge, run)
    judge.look()
    assert asked.get("job").json()["job"] is None  # another one waits
    asked.dispatcher.ids = []
    judge.look()
    assert asked.get("job").json()["job"]["automatic"]
    without_job(asked)
    assert judged_with(run) == [str(run.path), "--device=cpu"]
    ends(asked, judge, single)
    judge.look()
    without_job(asked)
    assert judged_with(single) == [str(single.path), "--device=cpu", "--steps-only"]  # there is nothing to choose from
    before = (run.path / "verdict.json").stat().st_mtime_ns
    ends(asked, judge, run)
    judge.look()
    without_job(asked)
    assert (run.path / "verdict.json").stat().st_mtime_ns == before  # nothing new to judge


def test_it_waits_for_idle_time_and_can_be_turned_off(asked, judge):
    run = trained(asked)
    judge.idle = 3600.0
    ends(asked, judge, run)
    judge.look()
    assert asked.get("job").json()["job"] is None
    judge.idle = judge._free = 0.0
    asked.host.options.set("judge", False)
    judge.look()
    asked.host.options.set("judge", True)
    judge.look()
    assert asked.get("job").json()["job"] is None and not (run.path / "verdict.json").exists()


def test_it_gives_way_and_begins_anew(asked, judge):
    run = trained(asked)
    (asked.environment.folder / "wait").touch()
    ends(asked, judge, run)
    judge.look()
    until(lambda: asked.get("job").json()["job"]["state"] == "running")
    assert str(asked.dispatcher.loans.claimed("cpu")) == f"The run {run.id} is being judged."  # a run wants the device
    without_job(asked)
    assert not (run.path / "verdict.json").exists()
    (asked.environment.folder / "wait").unlink()
    judge.look()
    without_job(asked)
    assert judged_with(run)


def test_who_draws_meanwhile_does_not_wait(asked, judge, monkeypatch):
    run = trained(asked)
    (asked.environment.folder / "wait").touch()
    ends(asked, judge, run)
    judge.look()
    until(lambda: asked.get("job").json()["job"]["state"] == "running")
    monkeypatch.setattr(asked.host, "is_wanted", lambda: True)
    judge.look()
    without_job(asked)
    monkeypatch.undo()
    (asked.environment.folder / "wait").unlink()
    judge.look()
    assert asked.service.drawing.status() is None  # more pictures may follow
    judge._free = 0.0
    judge.look()
    without_job(asked)
    assert judged_with(run)


def test_users_come_first(asked, judge):
    run = trained(asked)
    (asked.environment.folder / "wait").touch()
    ends(asked, judge, run)
    judge.look()
    until(lambda: asked.get("job").json()["job"]["state"] == "running")
    models = [{"run": run.id, "artifact": "anna.safetensors"}]
    assert asked.post("comparisons", {"models": models, "prompts": ["a hat"]}).status == 202
    assert asked.get("job").json()["job"]["kind"] == "compare"
    asked.delete("job")
    without_job(asked)


def test_one_that_users_stop_stays_stopped(asked, judge):
    run = trained(asked)
    (asked.environment.folder / "wait").touch()
    ends(asked, judge, run)
    judge.look()
    until(lambda: asked.get("job").json()["job"]["state"] == "running")
    asked.delete("job")
    without_job(asked)
    judge.look()
    assert asked.get("job").json()["job"] is None
    assert asked.get(f"runs/{run.id}/verdict").json()["job"]["state"] == "stopped"


def test_a_slow_machine_judges_by_losses(tmp_path):
    base = tmp_path / "base.safetensors"
    base.touch()
    assert not verdicts.is_large(str(base))
    os.truncate(base, verdicts.SMALL_BASE + 1)
    assert verdicts.is_large(str(base)) and verdicts.is_large("someone/a-base")


def test_a_device_is_lent_once(asked):
    loan = Loan("cuda:0", Message("drawing.going_on_verdict", of="anna"))
    asked.dispatcher.lend(loan)
    with pytest.raises(Exception, match="is being judged"):
        asked.dispatcher.lend(Loan("cuda:0", loan.reason))
    asked.dispatcher.give_back(loan)
    asked.dispatcher.lend(Loan("cuda:0", loan.reason))
