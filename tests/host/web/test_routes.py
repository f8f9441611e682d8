"""Every route: what it answers, and what it says to wrong questions."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.waiting import until

pytest.importorskip("starlette")
Image = pytest.importorskip("PIL.Image")

from starlette.applications import Starlette  # noqa: E402

from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig  # noqa: E402
from dreambooth_ext.core.data import picture_list  # noqa: E402
from dreambooth_ext.core.data.concepts import CONCEPT_KEYS  # noqa: E402
from dreambooth_ext.core.data.entry import Entry  # noqa: E402
from dreambooth_ext.core.errors import Problem, UserError  # noqa: E402
from dreambooth_ext.core.runs import events as protocol  # noqa: E402
from dreambooth_ext.core.runs import job_options, run_folder  # noqa: E402
from dreambooth_ext.core.version import __version__  # noqa: E402
from dreambooth_ext.host.hosts import model_lists  # noqa: E402
from dreambooth_ext.host.runs import event_pages, run_index  # noqa: E402
from dreambooth_ext.host.service import asked_options  # noqa: E402
from dreambooth_ext.host.service.runs import Runs  # noqa: E402
from dreambooth_ext.host.web import routes  # noqa: E402
from tests.host.asking import FAR, Answer, Asked, request  # noqa: E402


@pytest.fixture
def asked(tmp_path) -> Asked:
    return Asked(tmp_path)


def pictures(folder: Path, count: int = 6) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"sksper ({number}).png")
    return str(folder)


def good(folder: Path, **changes) -> dict:
    """A config with nothing wrong in it."""
    base = folder / "base.safetensors"
    base.write_bytes(b"x")
    given = {"name": "mine", "base_model": str(base), "instance_data_dir": pictures(folder / "фото")}
    return {**given, "instance_prompt": "a photo of sksper person", **changes}


def artifact(run: run_folder.Run, file: str = "mine.safetensors") -> None:
    (run.artifacts / file).write_bytes(b"weights")
    about = {"kind": "checkpoint", "name": file.split(".")[0], "file": file, "step": 4, "final": True}
    run.events.append("artifact", **about, path=str(run.artifacts / file), size=7)


class Alive:
    """A worker's hold on a run."""

    def __init__(self, run: run_folder.Run):
        self.run = run

    def __enter__(self) -> None:
        self.run.write_state(status="training")
        self.lock = self.run.take()
        assert self.lock

    def __exit__(self, *error: object) -> None:
        self.lock.close()


# --- what there is


def test_version_host_schema_state(asked, tmp_path):
    assert asked.get("version").json() == {
        "version": __version__, "protocol": protocol.PROTOCOL, "host": "standalone",
    }  # fmt: skip
    host = asked.get("host").json()
    assert host["name"] == "standalone" and host["restricted"] == "" and host["can_open"] is True
    assert host["bases"] == [] and host["current"] == "" and host["lacks"] == {}
    assert host["options"]["select"] == "final" and host["folders"].keys() >= {"checkpoint", "lora"}
    told = asked.get("schema").json()
    assert {item["name"] for group in told["groups"] for item in group["settings"]} == SETTINGS.keys()
    state = asked.get("state").json()
    assert state["queue"] == [] and state["active"] is None and state["revision"] == 0
    assert state["environment"]["state"] == "ready" and abs(state["time"] - time.time()) < 60


def test_state_says_that_the_lists_have_changed(asked, monkeypatch):
    monkeypatch.setattr(model_lists, "REST", 0.0)
    monkeypatch.setattr(model_lists, "SHARE", 0)
    before = asked.get("state").json()["lists"]
    assert asked.get("state").json()["lists"] == before
    folder = asked.host.folders()["checkpoint"]
    folder.mkdir(parents=True)
    (folder / "new.safetensors").touch()
    assert asked.get("state").json()["lists"] != before


def test_every_answer_is_harmless(asked):
    for path in ("version", "nothing", "page/none.js", "runs/none"):
        headers = asked.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and "sandbox" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin" and headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_unknown_addresses_and_methods(asked):
    for path in ("", "nothing", "runs/a/b/c/d", "page/", "version/"):
        answer = asked.get(path)
        assert answer.status == 404 and answer.json()["error"] and answer.json()["remedy"], path
        assert answer.json()["code"] and isinstance(answer.json()["values"], dict), path
    answer = asked.post("version")
    assert answer.status == 405 and answer.headers["allow"] == "GET"
    assert asked.delete("queue").status == 405
    assert asked.ask("PATCH", "runs").status == 405
    answer = asked.ask("OPTIONS", "runs", headers={"access-control-request-method": "POST", "origin": "null"})
    assert answer.status == 403
    assert asked.ask("HEAD", "version").status == 200


def test_nothing_is_changed_by_get(asked):
    changing = {"GET"} ^ {m for methods in routes.table(asked.service).values() for m in methods}
    assert changing == {"POST", "PUT", "DELETE"}
    for path in ("check", "import", "runs/x/commands", "runs/x/publish", "runs/x/open"):
        assert asked.get(path).status == 405


# --- bodies


def test_a_kind_with_its_encoding(asked):
    body = b'{"config": {}}'
    assert (
        asked.ask("POST", "check", headers={"content-type": "application/json; charset=utf-8"}, body=body).status == 200
    )


def test_a_body_that_ends_too_early(asked):
    """The caller hangs up: nothing is answered, and nothing breaks."""
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    import asyncio

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": f"{routes.PREFIX}/check", "query_string": b"", "root_path": ""}
    scope |= {"headers": headers, "client": ("::1", 1)}
    asyncio.run(asked.app(scope, receive, send))
    assert sent == []


# --- check


def test_check_fills_in_and_names_every_problem(asked, tmp_path):
    found = asked.post("check", {"config": good(tmp_path)}).json()
    assert found["problems"] == [] and found["plan"]["steps"] == 1200 and found["plan"]["pictures"] == 6
    assert found["filled_in"]["max_train_steps"]["value"] == 1200
    assert found["filled_in"]["report_to"]["value"] == "tensorboard"
    assert found["filled_in"]["report_to"]["reason_code"] == "guide.of_options"
    assert all(warning["message"] for warning in found["warnings"])
    assert found["estimate"].keys() >= {"seconds", "source"}

    unnamed = good(tmp_path, instance_prompt=None)
    for number, path in enumerate(sorted(Path(unnamed["instance_data_dir"]).iterdir())):
        path.rename(path.with_name(f"anna ({number}){path.suffix}"))
    warnings = asked.post("check", {"config": unnamed}).json()["warnings"]
    assert any("'anna'" in warning["message"] and "sksper" in warning["remedy"] for warning in warnings)

    wrong = good(tmp_path, seed="x", resolution=100, name="a b", instance_data_dir=str(tmp_path / "none"), rank=4)
    fields = [problem["field"] for problem in asked.post("check", {"config": wrong}).json()["problems"]]
    assert sorted(fields) == ["instance_data_dir", "name", "rank", "resolution", "seed"]


def test_the_hosts_checkpoint_is_the_base_unless_another_is_named(asked, tmp_path):
    config = good(tmp_path)
    asked.host.base = config.pop("base_model")
    found = asked.post("check", {"config": config}).json()
    assert found["problems"] == [] and found["filled_in"]["base_model"]["value"] == asked.host.base
    made = asked.post("runs", {"config": config}).json()["id"]
    assert asked.get(f"runs/{made}/config").json()["base_model"] == asked.host.base


@pytest.mark.parametrize("ending", ["/x", "../../x", "a/b", "\0", "", "x" * 5000, {"a": 1}, None])
def test_odd_values_are_problems_not_errors(asked, tmp_path, ending):
    config = good(tmp_path, caption_extension=ending, use_captions=True)
    answer = asked.post("check", {"config": config})
    assert answer.status == 200 and answer.json()["problems"][0]["field"] == "caption_extension"


def test_a_home_that_nobody_has_is_a_problem(asked, tmp_path):
    for field in ("base_model", "instance_data_dir"):
        config = good(tmp_path, with_prior_preservation=True, class_prompt="a person")
        config |= {"class_data_dir": "~nobody-here/y", field: "~nobody-here/x"}
        answer = asked.post("check", {"config": config})
        assert answer.status == 200 and field in {problem["field"] for problem in answer.json()["problems"]}, field


def test_the_deep_check(asked, tmp_path, monkeypatch):
    seen = []

    def inspect(config):
        seen.append(config)
        problem = {"field": "base_model", "message": "base.safetensors is a web page.", "remedy": "Fetch it again."}
        poor = Problem("other.as_said", message="Poor.").as_dict()
        return {"plan": {"family": "sd1", "steps": 7, "device": "cpu"}, "problems": [problem], "warnings": [poor]}

    monkeypatch.setattr(asked.service.deep_check, "inspect", inspect)
    found = asked.post("check", {"config": good(tmp_path), "deep": True}).json()
    assert seen[0].max_train_steps == 1200 and Path(seen[0].instance_data_dir).is_absolute()
    assert found["plan"]["family"] == "sd1" and found["problems"][0]["message"].startswith("base.safetensors is")
    assert "Poor." in [warning["message"] for warning in found["warnings"]]
    asked.environment.state = "missing"
    answer = asked.post("check", {"config": good(tmp_path), "deep": True})
    assert answer.status == 200  # as of a moment ago
    asked.service.maintenance._seen = None
    answer = asked.post("check", {"config": good(tmp_path), "deep": True})
    assert answer.status == 503 and "It is not there." in answer.json()["error"]


@pytest.mark.parametrize("depth", [100, 900, 5000])
def test_values_in_values_in_values(asked, tmp_path, depth):
    """Either it is a run or it is none; not half of one."""
    text = json.dumps({"config": good(tmp_path, optimizer_args={"a": 0})}).replace(
        "0}", "[" * depth + "]" * depth + "}"
    )
    answer = asked.ask("POST", "runs", headers={"content-type": "application/json"}, body=text.encode())
    folders = [path for path in asked.host.runs_folder().glob("*") if path.is_dir()]
    assert (answer.status, len(folders)) in ((201, 1), (422, 0), (400, 0))


# --- runs


def test_a_run_is_made_and_shown(asked, tmp_path):
    answer = asked.post(
        "runs", {"config": good(tmp_path), "publish": False, "select": "every", "while_training": "share"}
    )
    assert answer.status == 201
    id = answer.json()["id"]
    known = job_options.read(asked.service.run_index.find(id))
    assert (known.publish, known.select, known.while_training) == (False, "every", "share")
    (listed,) = asked.get("runs").json()["runs"]
    assert (listed["id"], listed["name"], listed["method"], listed["status"]) == (id, "mine", "dreambooth", "queued")
    shown = asked.get(f"runs/{id}").json()
    assert shown["total"] == 1200 and shown["size"] > 0 and shown["wishes"]["select"] == "every"
    assert asked.get(f"runs/{id}/config").json()["max_train_steps"] == 1200
    assert asked.get("queue").json()["queue"] == [id]


def test_wishes_that_are_left_out_follow_the_options(asked, tmp_path):
    asked.host.options.set("select", "never")
    id = asked.post("runs", {"config": good(tmp_path)}).json()["id"]
    known = job_options.read(asked.service.run_index.find(id))
    assert (known.publish, known.select, known.while_training) == (True, "never", "refuse")


def test_a_wrong_config_makes_no_run(asked, tmp_path):
    answer = asked.post("runs", {"config": good(tmp_path, seed="x", resolution=100)})
    assert answer.status == 422
    assert sorted(problem["field"] for problem in answer.json()["problems"]) == ["resolution", "seed"]
    assert all(problem["message"] and problem["remedy"] for problem in answer.json()["problems"])
    folder = asked.host.folders()["checkpoint"]
    folder.mkdir(parents=True)
    (folder / "mine.safetensors").write_bytes(b"somebody's")
    answer = asked.post("runs", {"config": good(tmp_path)})
    assert answer.status == 422 and "not made by this extension" in answer.json()["problems"][0]["message"]
    assert asked.post("runs", {"config": good(tmp_path), "publish": False}).status == 201


def test_no_run_without_an_environment(asked, tmp_path):
    asked.environment.state = "broken"
    answer = asked.post("runs", {"config": good(tmp_path)})
    assert answer.status == 503 and "Repair" in answer.json()["remedy"]


@pytest.mark.parametrize(
    "id", ["none", ".", "..", "../runs", "a\\b", "C:", "a\0b", ".git", "x" * 5000, "ä", "con", "*", "%2e%2e", "a b"]
)  # fmt: skip
def test_ids_that_are_none(asked, id):
    asked.run()
    for path in ("", "/config", "/events", "/log", "/artifacts", "/samples/1/a.png"):
        assert asked.get(f"runs/{id}{path}").status == 404, path
    assert asked.delete(f"runs/{id}").status == 404
    assert asked.post(f"runs/{id}/commands", {"command": "stop"}).status == 404
    assert asked.post(f"runs/{id}/publish", {"artifact": "a"}).status == 404
    assert asked.post(f"runs/{id}/open").status == 404


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_no_run(asked, tmp_path):
    real = run_folder.create(tmp_path / "elsewhere", RunConfig(name="x"))
    asked.host.runs_folder().mkdir(parents=True)
    (asked.host.runs_folder() / "linked").symlink_to(real.path)
    assert asked.get("runs/linked").status == 404 and asked.delete("runs/linked").status == 404
    assert real.path.exists()


def test_damaged_runs_hide_no_others(asked):
    whole, broken, odd = asked.run("whole"), asked.run("broken"), asked.run("odd")
    (broken.path / "config.json").write_text("{")
    (odd.path / "state.json").write_text('{"status": "x"}')
    deep, late = asked.run("deep"), asked.run("late")
    (deep.path / "config.json").write_text("[" * 100_000)
    (late.path / "state.json").write_text('{"status": "training", "step": 1, "heartbeat": "x", "host": "elsewhere"}')
    found = {run["id"]: run for run in asked.get("runs").json()["runs"]}
    assert found[whole.id]["status"] == "done"
    for run in (broken, odd, deep, late):
        assert found[run.id]["status"] == "damaged" and found[run.id]["problem"]["message"]
        assert asked.get(f"runs/{run.id}").status == 200
        assert asked.delete(f"runs/{run.id}").status == 200


def test_events_that_nobody_wrote_are_passed_over(asked):
    run = asked.run()
    artifact(run)
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write('{"n": 9}\n{"n": 10, "type": "artifact"}\n' + "[" * 100_000 + "\n")
    assert [item["name"] for item in asked.get(f"runs/{run.id}/artifacts").json()["artifacts"]] == ["mine"]
    assert asked.get(f"runs/{run.id}/events").status == 200


def test_sizes_are_measured_once(asked, monkeypatch):
    run = asked.run()
    (run.artifacts / "m.safetensors").write_bytes(b"x" * 1000)
    first = asked.get(f"runs/{run.id}").json()
    assert first["sizes"]["artifacts"] == 1000 and first["size"] > 1000
    monkeypatch.setattr("dreambooth_ext.host.runs.run_index.GROWING", 0)
    monkeypatch.setattr("os.walk", lambda *a: pytest.fail("measured again"))
    assert asked.get(f"runs/{run.id}").json()["size"] == first["size"]


def test_commands(asked):
    run = asked.run(status="stopped")

    def give(command, **more):
        return asked.post(f"runs/{run.id}/commands", {"command": command, **more}).status

    for command in ("stop", "stop_and_save", "save", "sample", "kill"):
        assert give(command) == 409
    with Alive(run):
        for command in protocol.COMMANDS:
            assert give(command) == 202
        assert protocol.take_commands(run.commands) == list(protocol.COMMANDS)
        assert give("kill") == 202 and asked.dispatcher.said[-1] == ("kill", run.id)
        assert give("resume") == 409 and give("continue", max_train_steps=99) == 409
        assert asked.delete(f"runs/{run.id}").status == 409
    run.write_state(status="stopped")
    assert give("resume") == 202 and asked.dispatcher.said[-1][:2] == ("resume", run.id)
    assert give("continue", max_train_steps=99) == 202 and asked.dispatcher.said[-1][3] == 99
    for wrong in (None, 4, 0, -1, "99", 1.5, True, 10**30):
        assert give("continue", max_train_steps=wrong) == 422, wrong
    for wrong in ("", "rm", None, 5, ["stop"]):
        assert give(wrong) == 422
    run.write_state(status="done")
    assert give("resume") == 409


def test_a_worker_that_hangs_at_its_start_can_be_ended(asked, monkeypatch):
    run = asked.run(status="queued")  # still, as long as its worker has not taken it
    assert asked.post(f"runs/{run.id}/commands", {"command": "kill"}).status == 202
    assert asked.dispatcher.said[-1] == ("kill", run.id)

    def refuse(run: run_folder.Run) -> None:
        raise UserError("queue.no_worker", "run", run="it")

    monkeypatch.setattr(asked.dispatcher, "kill", refuse)
    answer = asked.post(f"runs/{run.id}/commands", {"command": "kill"})
    assert answer.status == 409 and answer.json()["code"] == "queue.no_worker"


def test_a_waiting_run_is_cancelled_and_deleted(asked, tmp_path):
    ids = [asked.post("runs", {"config": good(tmp_path, name=name)}).json()["id"] for name in "ab"]
    assert asked.post(f"runs/{ids[0]}/commands", {"command": "stop"}).status == 202
    assert asked.get("queue").json()["queue"] == ids[1:]
    assert asked.delete(f"runs/{ids[1]}").status == 200
    assert asked.get("queue").json()["queue"] == [] and asked.get(f"runs/{ids[1]}").status == 404


def test_the_queue(asked, tmp_path):
    ids = [asked.post("runs", {"config": good(tmp_path, name=name)}).json()["id"] for name in "abc"]
    answer = asked.post("queue", {"order": [ids[2], ids[0]]})
    assert answer.status == 200 and answer.json()["queue"] == [ids[2], ids[0], ids[1]]
    for wrong in (None, "x", [1], [None], {}):
        assert asked.post("queue", {"order": wrong}).status == 422
    assert asked.post("queue", {"order": ["none"]}).status == 409
    asked.dispatcher.running = [asked.service.run_index.find(id) for id in ids[:2]]
    asked.dispatcher.troubles = {ids[0]: {"n": 7, "what": "It hangs.", "remedy": "Wait."}}
    shown = asked.get("state").json()
    assert shown["active"]["id"] == ids[1] and shown["active"]["name"] == "b" and shown["active"]["step"] == 0
    assert [run["id"] for run in shown["running"]] == ids[:2] and shown["trouble"] is None
    assert [run["trouble"] and run["trouble"]["what"] for run in shown["running"]] == ["It hangs.", None]
    assert shown["models_away"] == "" and shown["models_loaded"] == 0


def test_the_queue_is_paused_and_goes_on(asked, tmp_path):
    ids = [asked.post("runs", {"config": good(tmp_path, name=name)}).json()["id"] for name in "ab"]
    answer = asked.post("queue", {"paused": True, "order": ids[::-1]})
    assert answer.status == 200 and answer.json()["paused"] is True and answer.json()["queue"] == ids[::-1]
    assert asked.get("state").json()["planned"][ids[0]]["begins"] is None
    assert asked.post("queue", {"paused": False}).json()["paused"] is False
    assert asked.post("queue", {"paused": "yes"}).status == 422


def test_notes_and_stars(asked):
    run, other = asked.run(instance_prompt="a photo of zkz cat", base_model="/models/sd15.ckpt"), asked.run("other")
    before = asked.get("runs").json()
    about = {name: before["runs"][1][name] for name in ("note", "starred", "words", "base", "seconds", "in_host")}
    assert about == {
        "note": "", "starred": False, "words": "a photo of zkz cat", "base": "sd15.ckpt", "seconds": None,
        "in_host": [],
    }  # fmt: skip
    answer = asked.post(f"runs/{run.id}/notes", {"note": "a good one"})
    assert answer.json() == {"note": "a good one", "starred": False}
    assert asked.post(f"runs/{run.id}/notes", {"starred": True}).json() == {"note": "a good one", "starred": True}
    news = asked.get("runs", {"since": before["revision"]}).json()["runs"]
    assert [(one["id"], one["note"], one["starred"]) for one in news] == [(run.id, "a good one", True)]
    found = {
        wanted: [one["id"] for one in asked.get("runs", {"search": wanted}).json()["runs"]]
        for wanted in ("GOOD zkz", "sd15", "other", "nothing", " ")
    }
    assert found == {
        "GOOD zkz": [run.id], "sd15": [run.id], "other": [other.id], "nothing": [], " ": [other.id, run.id],
    }  # fmt: skip
    before = asked.get("runs", {"search": "good"}).json()["revision"]
    asked.post(f"runs/{run.id}/notes", {"note": "a bad one"})
    changed = asked.get("runs", {"search": "good", "since": before}).json()
    assert (changed["runs"], changed["gone"]) == ([], [run.id])
    for wrong in ({"note": 3}, {"starred": "yes"}, {"note": "x" * 20_000}):
        assert asked.post(f"runs/{run.id}/notes", wrong).status == 422
    assert asked.post("runs/none/notes", {"note": "x"}).status == 404


def test_training_states_are_deleted_alone(asked):
    run = asked.run()
    artifact(run)
    (run.checkpoints / "4").mkdir()
    (run.checkpoints / "4" / "weights").write_bytes(bytes(5000))
    with Alive(run):
        answer = asked.delete(f"runs/{run.id}/states")
        assert answer.status == 409 and answer.json()["code"] == "queue.training"
    run.write_state(status="stopped")
    answer = asked.delete(f"runs/{run.id}/states")
    assert answer.status == 200 and answer.json() == {"freed": 5000}
    assert asked.get(f"runs/{run.id}").json()["states_deleted"] is True
    assert [one["file"] for one in asked.get(f"runs/{run.id}/artifacts").json()["artifacts"]] == ["mine.safetensors"]
    for wanted in ({"command": "resume"}, {"command": "continue", "max_train_steps": 50}):
        answer = asked.post(f"runs/{run.id}/commands", wanted)
        assert answer.status == 409 and answer.json()["code"] == "runs.states_deleted"
    assert asked.delete(f"runs/{run.id}/states").json()["code"] == "runs.no_states"


def test_lists_mark_what_is_in_the_host(asked):
    run = asked.run()
    artifact(run)
    told = asked.get("runs").json()
    assert told["runs"][0]["in_host"] == []
    path = asked.post(f"runs/{run.id}/publish", {"artifact": "mine.safetensors"}).json()["path"]
    told = asked.get("runs", {"since": told["revision"]}).json()
    assert told["runs"][0]["in_host"] == ["mine.safetensors"]
    Path(path).unlink()  # by hand
    assert asked.get("runs", {"since": told["revision"]}).json()["runs"][0]["in_host"] == []


def test_artifacts_and_publishing(asked):
    run = asked.run()
    artifact(run)
    (found,) = asked.get(f"runs/{run.id}/artifacts").json()["artifacts"]
    assert found["file"] == "mine.safetensors" and found["published"] is None
    answer = asked.post(f"runs/{run.id}/publish", {"artifact": "mine.safetensors", "select": True})
    assert answer.status == 200 and Path(answer.json()["path"]).read_bytes() == b"weights"
    assert answer.json()["selected"] is True
    asked.dispatcher.selects = False
    answer = asked.post(f"runs/{run.id}/publish", {"artifact": "mine.safetensors", "select": True})
    assert answer.status == 200 and answer.json()["selected"] is False
    for wrong in ("../config.json", "none", "", "/etc/passwd", "mine.safetensors\0"):
        assert asked.post(f"runs/{run.id}/publish", {"artifact": wrong}).status == 404, wrong
    for wrong in (None, 5, []):
        assert asked.post(f"runs/{run.id}/publish", {"artifact": wrong}).status == 422
    assert asked.post(f"runs/{run.id}/publish", {"artifact": "x", "select": "yes"}).status == 422


def test_folders_are_opened_on_this_machine_only(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(Runs, "open_folder", lambda self, id: opened.append(id))
    asked = Asked(tmp_path, passwords={"a": "b"})
    login = {"authorization": "Basic YTpi"}
    assert asked.post("runs/x/open", headers=login, client=FAR).status == 403
    assert asked.post("runs/x/open", headers={**login, "x-forwarded-for": "10.0.0.1"}).status == 403
    assert asked.post("runs/x/open", headers=login).status == 200
    assert Asked(tmp_path, restricted="Shared.").post("runs/x/open").status == 403
    assert opened == ["x"]


# --- events, log, previews


def test_events_by_pages(asked):
    run = asked.run()
    for number in range(9):
        run.events.append("warning", field="", what=str(number), remedy="")
    found = asked.get(f"runs/{run.id}/events", {"after": 4}).json()
    assert [event["n"] for event in found["events"]] == [5, 6, 7, 8, 9, 10]
    assert found["next"] == 10 and found["more"] is False
    assert asked.get(f"runs/{run.id}/events", {"after": 10}).json() == {"events": [], "next": 10, "more": False}
    for wrong in ("x", "-1", "1.5", "9" * 40):
        assert asked.get(f"runs/{run.id}/events", {"after": wrong}).status == 422


def test_numbers_that_are_none_reach_no_browser(asked):
    run = asked.run()
    run.events.append("step", step=1, loss=float("nan"), lr={"unet": float("inf")})
    with (run.path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"n": 3, "type": "step", "loss": 1e999}\n')
        stream.write(b'{"n": 4, "type": "warning", "what": "half a letter \\ud800"}\n')
    events = asked.get(f"runs/{run.id}/events").json()["events"]
    assert events[1]["loss"] is None and events[1]["lr"]["unet"] is None and events[2]["loss"] is None


def write_events(path: Path, numbers: range, mode: str = "ab") -> None:
    with path.open(mode) as stream:
        for n in numbers:
            stream.write(json.dumps({"n": n, "time": 1.5, "type": "step", "step": n, "loss": 0.1}).encode() + b"\n")


def test_a_long_log_is_read_from_where_the_last_answer_ended(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    write_events(path, range(1, 100_001))
    pages, after, found = event_pages.EventPages(), 0, []
    while True:
        events, more = pages.page(path, after)
        found += [event["n"] for event in events]
        if not more:
            break
        after = found[-1]
    assert found == list(range(1, 100_001))
    read = []
    monkeypatch.setattr(event_pages, "parsed", lambda line, real=event_pages.parsed: read.append(1) or real(line))
    assert pages.page(path, 100_000) == ([], False) and len(read) <= 1
    write_events(path, range(100_001, 100_004))
    assert [event["n"] for event in pages.page(path, 100_000)[0]] == [100_001, 100_002, 100_003]
    assert len(read) < 10
    read.clear()
    assert pages.page(path, 77_777, 5)[0][0]["n"] == 77_778 and len(read) < 520  # a place in the middle


def test_logs_that_were_cut_short_or_replaced(tmp_path):
    path = tmp_path / "events.jsonl"
    pages = event_pages.EventPages()
    assert pages.page(path) == ([], False)
    write_events(path, range(1, 1201))
    with path.open("ab") as stream:
        stream.write(b'{"n": 1201, "ty')
    assert pages.page(path)[0][-1]["n"] == 1200
    with path.open("ab") as stream:
        stream.write(b"\n")
    write_events(path, range(1201, 1300))
    assert [e["n"] for e in pages.page(path, 1200)[0]] == list(range(1201, 1300))
    write_events(path, range(1, 4), "wb")  # another run in the place of a deleted one
    assert [e["n"] for e in pages.page(path, 0)[0]] == [1, 2, 3] and pages.page(path, 1299) == ([], False)
    write_events(path, range(1, 3001), "wb")
    assert [e["n"] for e in pages.page(path, 2998)[0]] == [2999, 3000]


def test_the_log(asked):
    run = asked.run()
    assert asked.get(f"runs/{run.id}/log").json() == {"text": "", "next": 0, "size": 0}
    path = run.path / "log.txt"
    path.write_bytes("грусть\n".encode()[:-2])  # a letter is half written
    found = asked.get(f"runs/{run.id}/log").json()
    assert found["text"] == "грус" + "т" and found["next"] == 10
    path.write_bytes("грусть\n".encode() + b"\xff\xfe\n")
    found = asked.get(f"runs/{run.id}/log", {"after": found["next"]}).json()
    assert found["text"] == "ь\n\ufffd\ufffd\n" and found["next"] == found["size"]
    assert asked.get(f"runs/{run.id}/log", {"after": 10**9}).json()["text"] == ""
    path.write_bytes(b"line\n" * 200_000)
    found = asked.get(f"runs/{run.id}/log").json()
    assert found["size"] == 10**6 and found["text"].startswith("line\n") and len(found["text"]) < 70_000
    found = asked.get(f"runs/{run.id}/log", {"after": 0}).json()
    assert len(found["text"]) == event_pages.TEXT_PAGE == found["next"]


def test_the_page_does_not_wait_for_slow_work(asked, tmp_path, monkeypatch):
    """Checks that take minutes: other questions are answered, and so are the host's own, which share its threads."""
    import asyncio

    import anyio

    go = threading.Event()
    monkeypatch.setattr(asked.service.new_runs, "check", lambda values, deep: {"waited": go.wait(30)})
    app, done = asked.app, []

    async def ask(method: str, path: str) -> None:
        async def receive():
            return {"type": "http.request", "body": b'{"config": {}}', "more_body": False}

        async def send(message):
            if message["type"] == "http.response.start":
                done.append((path, message["status"]))

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": method,
            "path": f"{routes.PREFIX}/{path}",
            "query_string": b"",
            "root_path": "",
        }
        await app({**scope, "headers": headers, "client": ("::1", 1)}, receive, send)

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(ask, "POST", "check")
            await asyncio.sleep(0.3)
            await ask("GET", "version")
            await anyio.to_thread.run_sync(time.time)
            assert done == [("version", 200)]
            go.set()

    asyncio.run(all_at_once())
    assert len(done) == 101 and {status for _, status in done} == {200}


def test_previews(asked, tmp_path):
    run = asked.run()
    (run.samples / "4").mkdir()
    Image.new("RGB", (512, 512)).save(run.samples / "4" / "0_7.png")
    (run.samples / "4" / "x.html").write_text("<script>")
    (run.samples / "4" / "x.svg").write_text("<svg/>")
    answer = asked.get(f"runs/{run.id}/samples/4/0_7.png")
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    assert answer.body == (run.samples / "4" / "0_7.png").read_bytes()
    small = asked.get(f"runs/{run.id}/samples/4/0_7.png", {"size": 128})
    assert small.headers["content-type"] == "image/jpeg" and len(small.body) < 5000
    tag = {"if-none-match": answer.headers["etag"]}
    assert asked.get(f"runs/{run.id}/samples/4/0_7.png", headers=tag).status == 304
    none = ["4/x.html", "4/x.svg", "4/none.png", "x/0_7.png", "../samples/4/0_7.png", "4/..", "٤/0_7.png", "4/.png"]
    for path in [*none, "../../config.json", "4/0_7.png\0", "04/../4/0_7.png", "4/" + "x" * 300 + ".png"]:
        assert asked.get(f"runs/{run.id}/samples/{path}").status == 404, path
    if os.name != "nt":
        Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
        (run.samples / "4" / "s.png").symlink_to(tmp_path / "secret.png")
        assert asked.get(f"runs/{run.id}/samples/4/s.png").status == 404
    assert asked.get("runs").json()["runs"][0]["picture"] == "4/0_7.png"


# --- presets, imports, environment, page


def test_presets(asked):
    known = asked.get("presets").json()["presets"]
    assert known and all(preset["built_in"] for preset in known)
    answer = asked.post("presets", {"name": "Meine Öl-Bilder", "settings": {"resolution": 768}})
    assert answer.status == 201
    name = answer.json()["name"]
    assert asked.get(f"presets/{name}").json()["settings"] == {"resolution": 768}
    assert asked.delete(f"presets/{name}").status == 200
    assert asked.get(f"presets/{name}").status == 404 and asked.delete(f"presets/{name}").status == 404
    assert asked.delete(f"presets/{known[0]['name']}").status == 409
    names = ("../x", 5, "", "x\0", ".x", None, "con")
    for wrong in [{}, {"name": "x"}, *({"name": name, "settings": {}} for name in names)]:
        assert asked.post("presets", wrong).status == 422, wrong
    for wrong in ({"name": "x", "settings": []}, {"name": "x", "settings": {"none": 1}}):
        assert asked.post("presets", wrong).status == 422, wrong
    for name in ("..", ".hidden", "a\\b", "none", "x" * 3000):
        assert asked.get(f"presets/{name}").status == 404
        assert asked.delete(f"presets/{name}").status == 404


def test_import(asked):
    found = asked.post("import", {"text": json.dumps({"pretrained_model_name_or_path": "x.safetensors", "seed": 5})})
    assert found.status == 200 and found.json().keys() >= {"settings", "ignored", "source"}
    for wrong in (None, 5, "", "\0", "<html>", "[" * 100_000):
        assert asked.post("import", {"text": wrong}).status == 422, wrong


def test_the_page_does_not_wait_for_hostile_texts(asked):
    """Parsing is Python's own work, which threads share: what takes the square of its size is not begun."""
    texts = [
        ".".join("a" * 50_000) + " = 1",
        "[" + ".".join("a" * 50_000) + "]",
        "".join(f"[a{number}.b.c.d.e.f.g.h]\n" for number in range(9000)),
        json.dumps({"pretrained_model_name_or_path": "a" + " " * 200_000 + "b", "a": [[]] * 20_000}),
        "x = " + "[" * 200_000,
        '"""\n' + '\\"""\n' * 40_000 + "\\",
    ]
    statuses, longest = [], 0.0
    began = time.monotonic()
    for text in texts:
        threading.Thread(target=lambda text=text: statuses.append(asked.post("import", {"text": text}).status)).start()
    while len(statuses) < len(texts):
        asking = time.monotonic()
        assert asked.get("version").status == 200
        longest = max(longest, time.monotonic() - asking)
        assert time.monotonic() - began < 60, statuses
    assert statuses == [422] * len(texts) and longest < 5


def test_the_environment_is_repaired_meanwhile(asked):
    go, trainer = threading.Event(), asked.environment
    trainer.state = "missing"
    build = trainer.build
    trainer.build = lambda progress, *others: (build(progress), go.wait(20))
    assert asked.post("environment", {"action": "repair"}).status == 202
    until(lambda: (asked.get("environment").json()["building"] or {}).get("fraction") == 0.5)
    assert asked.get("state").json()["environment"]["building"]["stage"] == "unpacking"
    assert asked.get("state").json()["environment"]["building"]["stage_code"] == "environment.pip_unpacking"
    for action in ("repair", "verify"):
        assert asked.post("environment", {"action": action}).status == 409
    go.set()
    until(lambda: asked.get("environment").json()["building"] is None)
    assert asked.get("environment").json()["state"] == "ready" and trainer.made == ["build"]
    assert asked.post("environment", {"action": "verify"}).status == 202
    until(lambda: asked.get("environment").json()["building"] is None)
    assert asked.get("environment").json()["verified"] and trainer.made == ["build", "verify"]
    for wrong in ("", "delete", None, 5):
        assert asked.post("environment", {"action": wrong}).status == 422


@pytest.mark.parametrize(
    "error", [UserError("environment.busy", "environment"), RuntimeError("x"), OSError(28, "full")]
)
def test_a_repair_that_fails_says_so_and_can_be_tried_again(asked, error):
    asked.environment.state, asked.environment.error = "broken", error
    for _ in range(2):
        assert asked.post("environment", {"action": "repair"}).status == 202
        until(lambda: asked.get("environment").json()["building"] is None)
        problem = asked.get("environment").json()["problem"]
        assert problem["message"] and problem["remedy"]


def test_no_repair_under_a_training_from_a_terminal(asked):
    asked.environment.used = UserError("environment.in_use", "environment", programs=["cat"])
    answer = asked.post("environment", {"action": "repair"})
    assert answer.status == 409 and "in use: cat" in answer.json()["error"] and answer.json()["remedy"]
    assert asked.environment.made == []
    assert asked.post("environment", {"action": "verify"}).status == 202


def test_no_repair_under_a_run(asked):
    asked.dispatcher.running = [asked.run()]
    assert asked.post("environment", {"action": "repair"}).status == 409
    assert asked.post("environment", {"action": "verify"}).status == 202


def test_the_pages_modules(asked):
    answer = asked.get("page/main.js")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/javascript")
    tag = {"if-none-match": answer.headers["etag"]}
    assert asked.get("page/main.js", headers=tag).status == 304
    assert asked.get("page/main.js", {"version": "1"}, client=FAR).status == 200
    assert asked.get("page/shared/dom.js").headers["content-type"].startswith("text/javascript")
    for path in (
        "none.js",
        "../api.py",
        "..",
        "index.html",
        "main.js.map",
        "main.py",
        ".js",
        "MAIN.js",
        "a\\b.js",
        "shared/a.js",
        "shared/../main.js",
        "shared//dom.js",
        "/shared/dom.js",
        "shared/shared/dom.js",
    ):
        assert asked.get(f"page/{path}").status in (403, 404), path


# --- strangers


def test_no_paths_for_strangers(tmp_path):
    """Under --share and --listen: what the host itself offers, and nothing else of this machine or the internet."""
    asked = Asked(tmp_path, restricted="It is shared.")
    checkpoints = asked.host.folders()["checkpoint"]
    checkpoints.mkdir(parents=True)
    (checkpoints / "own.safetensors").write_bytes(b"x")
    sets = asked.host.data_folder() / "pictures"
    allowed = {"name": "x", "base_model": str(checkpoints / "own.safetensors"), "instance_prompt": "sksper person"}
    allowed |= {"instance_data_dir": pictures(sets / "s")}
    assert asked.post("check", {"config": allowed}).json()["problems"] == []
    assert asked.post("runs", {"config": allowed}).status == 201
    pictures(tmp_path / "mine")
    subset = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = '../../../mine'"
    (sets / "s" / "set.toml").write_text(subset, encoding="utf-8")
    for wrong in (
        {"base_model": "runwayml/stable-diffusion-v1-5"},
        {"base_model": "https://evil.example/x.ckpt"},
        {"base_model": str(tmp_path / "base.safetensors")},
        {"base_model": str(checkpoints / ".." / ".." / ".." / "x.safetensors")},
        {"base_model": "~/x.safetensors"},
        {"base_model": r"\\evil.example\share\x.ckpt"},
        {"instance_data_dir": str(tmp_path / "mine")},
        {"instance_data_dir": str(sets / ".." / ".." / "mine")},
        {"instance_data_dir": str(sets) + "2"},
        {"instance_data_dir": "file:///etc"},
        {"class_data_dir": "/etc"},
        {"method": "textual_inversion", "prompt_template": str(tmp_path / "mine" / "lines.txt")},
        {"method": "textual_inversion", "prompt_template": str(tmp_path / "no such file")},
        {"method": "lora", "network_weights": str(tmp_path / "x.safetensors")},
        {"method": "textual_inversion", "embedding_weights": str(tmp_path / "x.pt")},
        {"method": "hypernetwork", "hypernetwork_weights": str(tmp_path / "x.pt")},
        {"concepts": [{"instance_data_dir": "/etc"}]},
        {"dataset_config": str(tmp_path / "mine" / "set.toml")},
        {"dataset_config": str(sets / "s" / "set.toml"), "instance_data_dir": None},  # in its place, but names others
        {"concepts": [{"instance_data_dir": str(sets / "s"), "class_data_dir": str(tmp_path)}]},
    ):
        for route in ("check", "runs"):
            answer = asked.post(route, {"config": {**allowed, **wrong}})
            assert answer.status == 403, wrong
            told = answer.json()
            assert told["error"].endswith("here. It is shared.") and told["remedy"] and told["field"]
    if os.name != "nt":
        (sets / "linked").symlink_to(tmp_path / "mine")
        linked = {**allowed, "instance_data_dir": str(sets / "linked")}
        assert asked.post("check", {"config": linked}).status == 403


def test_a_link_is_given_anew(tmp_path):
    """With what no run keeps, and only for the base that the run began from; not by strangers."""
    link, bare = "https://user:pw@h/x.ckpt?token=SECRET", "https://h/x.ckpt"
    asked, given = Asked(tmp_path), []
    asked.dispatcher.remember = lambda run, links: given.append((run.id, links))
    run = asked.run(status="stopped", base_model=bare)
    path = f"runs/{run.id}/commands"
    other = asked.post(path, {"command": "resume", "base_model": "https://h/y.ckpt?token=SECRET"})
    assert other.status == 422 and other.json()["field"] == "base_model" and b"SECRET" not in other.body
    assert asked.post(path, {"command": "resume", "base_model": link}).status == 202 and given == [(run.id, [link])]
    asked.host.restriction = "It is shared."
    assert asked.post(path, {"command": "resume", "base_model": link}).status == 403 and len(given) == 1


def test_paths_are_refused_before_they_are_looked_at(tmp_path, monkeypatch):
    asked = Asked(tmp_path, restricted="It is shared.")
    monkeypatch.setattr("dreambooth_ext.core.checks.config_checks.check", lambda config: pytest.fail("looked"))
    monkeypatch.setattr("os.path.realpath", lambda path, **k: pytest.fail("looked") if "secret" in str(path) else path)
    for field in ("base_model", "instance_data_dir", "class_data_dir"):
        assert asked.post("check", {"config": {field: "/secret/x"}}).status == 403


# --- the app around


def test_mounting_again_replaces(asked, tmp_path):
    count = len(asked.app.routes)
    routes.mount(asked.app, asked.service)
    assert len(asked.app.routes) == count
    other = Asked(tmp_path / "other")
    other.run("others")
    routes.mount(asked.app, other.service)
    assert len(asked.app.routes) == count and len(asked.get("runs").json()["runs"]) == 1


def test_before_a_route_that_takes_everything(asked):
    async def catch(scope, receive, send):
        pytest.fail("asked the host")

    from starlette.routing import Mount

    app = Starlette(routes=[Mount("/", catch)])
    routes.mount(app, asked.service)
    assert request(app, "GET", f"{routes.PREFIX}/version").status == 200


def test_unexpected_errors_are_told_in_words(asked, monkeypatch, capsys):
    monkeypatch.setattr(asked.service.run_index, "changed", lambda since: 1 / 0)
    answer = asked.get("runs")
    assert answer.status == 500 and "ZeroDivisionError" in answer.json()["error"]
    assert "'Copy report'" in answer.json()["remedy"]
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(asked.service.run_index, "all", lambda: (_ for _ in ()).throw(OSError(28, "No space")))
    assert asked.get("runs").status == 500


def test_what_has_changed_among_a_runs_pictures(asked, tmp_path):
    config = good(tmp_path, use_captions=True, subject_type="object")
    id = asked.post("runs", {"config": config}).json()["id"]
    folder = Path(config["instance_data_dir"])
    assert asked.get(f"runs/{id}/pictures").json() == {"count": 6, "changes": {}}
    (folder / "sksper (0).txt").write_text("sksper at night", encoding="utf-8")
    (folder / "sksper (1).png").unlink()
    pictures(folder / "more", 1)
    changes = {"added": ["sksper (0).png"], "gone": ["sksper (1).png"], "recaptioned": ["sksper (0).png"]}
    assert asked.get(f"runs/{id}/pictures").json() == {"count": 6, "changes": changes}
    assert asked.post(f"runs/{id}/commands", {"command": "stop"}).status == 202
    again = {"command": "resume", "new_pictures": "yes"}
    assert asked.post(f"runs/{id}/commands", again).json()["field"] == "new_pictures"
    assert asked.post(f"runs/{id}/commands", {**again, "new_pictures": True}).status == 202
    assert asked.get(f"runs/{id}/pictures").json() == {"count": 6, "changes": None}  # noted anew when it starts


def test_the_set_that_a_run_is_queued_with_stays(asked, tmp_path):
    folder = asked.host.data_folder() / "pictures" / "mine"
    config = {**good(tmp_path), "instance_data_dir": pictures(folder)}
    assert asked.get("pictures", {"set": "mine"}).json()["used"] is False
    assert asked.post("runs", {"config": config}).status == 201
    assert asked.get("pictures", {"set": "mine"}).json()["used"] is True


def test_lists_of_runs_tell_only_what_is_new(asked, tmp_path):
    folder = asked.service.runs_dir
    made = [run_folder.create(folder, RunConfig(name=name)) for name in ("one", "two", "three")]
    whole = asked.get("runs").json()
    assert [run["name"] for run in whole["runs"]] == [
        run.config.name for run in sorted(made, key=lambda r: r.id, reverse=True)
    ]
    assert whole["gone"] == [] and all(run["size"] for run in whole["runs"])
    nothing = asked.get("runs", {"since": whole["revision"]}).json()
    assert nothing == {"runs": [], "gone": [], "revision": whole["revision"]}
    made[1].write_state(status="stopped", step=7)
    made[2].delete()
    news = asked.get("runs", {"since": whole["revision"]}).json()
    assert [(run["id"], run["step"]) for run in news["runs"]] == [(made[1].id, 7)] and news["gone"] == [made[2].id]
    assert asked.get("runs", {"since": news["revision"]}).json()["runs"] == []
    for strange in ("", "other-3", "nonsense"):  # of another process, or none: all of them
        assert len(asked.get("runs", {"since": strange}).json()["runs"]) == 2


def test_sizes_that_take_long_come_with_later_looks(asked, monkeypatch):
    folder = asked.service.runs_dir
    for name in ("one", "two"):
        run_folder.create(folder, RunConfig(name=name)).write_state(status="stopped")
    monkeypatch.setattr(run_index, "MEASURING", -1.0)
    first = asked.get("runs").json()
    assert [run["size"] for run in first["runs"]] == [None, None]
    monkeypatch.undo()
    then = asked.get("runs", {"since": first["revision"]}).json()
    assert len(then["runs"]) == 2 and all(run["size"] for run in then["runs"])


def test_curves_are_thinned_and_exact_where_one_looks_closely(asked):
    run = run_folder.create(asked.service.runs_dir, RunConfig(name="long"))
    rows = [
        {"n": n, "time": n, "type": "step", "step": n - 1, "loss": float(n % 7), "lr": {"unet": n / 1e6}}
        for n in range(2, 9002)
    ]
    rows.append({"n": 9002, "time": 9002, "type": "warning", "what": "w"})
    with (run.path / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    whole = asked.get(f"runs/{run.id}/curves").json()
    assert whole["next"] == 9002 and whole["latest"]["step"] == 9000
    assert [event["type"] for event in whole["events"]] == ["status", "warning"]
    assert len(whole["steps"]) == 1800 and whole["steps"][-1] == 9000 and set(whole["spans"]) == {5}
    part = rows[:5]
    assert whole["losses"][0] == pytest.approx(sum(row["loss"] for row in part) / 5)
    assert (whole["low"][0], whole["high"][0]) == (min(r["loss"] for r in part), max(r["loss"] for r in part))
    assert whole["rates"]["unet"][0] == part[-1]["lr"]["unet"]
    near = asked.get(f"runs/{run.id}/curves", {"from": "100", "to": "199"}).json()
    assert near["steps"] == list(range(100, 200)) and set(near["spans"]) == {1}
    assert near["losses"] == near["low"] == near["high"] == [row["loss"] for row in rows[99:199]]
    run.events.append("step", step=8001, loss=1.5, lr=2e-6)  # resumed, and another spelling of the rate
    again = asked.get(f"runs/{run.id}/curves", {"from": "7999"}).json()
    assert again["steps"] == [7999, 8000, 8001] and again["losses"][-1] == 1.5
    assert again["rates"] == {"unet": [0.008, 0.008001, None], "rate": [None, None, 2e-6]}


def test_the_time_of_training_leaves_pauses_out_and_curves_are_a_table(asked):
    run = run_folder.create(asked.service.runs_dir, RunConfig(name="timed"))
    ratios = {"low": 0.5, "high": 0.125}
    measured = {"type": "measurement", "learned": ratios, "held": 0.5, "class": None, "drift": 0.01, "word": None}
    told = [  # (time, event); killed after step 3, of which no state was saved, and resumed a day later from step 2
        (100, {"type": "status", "status": "preparing"}),
        (160, {"type": "status", "status": "training", "step": 0}),
        (170, {"type": "sample", "step": 0}),
        (170, {**measured, "step": 0, "learned": {"low": 1, "high": 1}, "held": 1.0}),
        (172, {"type": "step", "step": 1, "loss": 0.5, "lr": {"unet": 1e-6}}),
        (174, {"type": "step", "step": 2, "loss": 0.25, "lr": {"unet": 2e-6, "text_encoder": 1e-7}}),
        (175, {"type": "validation", "step": 2, "loss": 0.75}),
        (175, {**measured, "step": 2, "good": 2}),
        (176, {"type": "step", "step": 3, "loss": 9.0, "lr": {"unet": 2e-6}}),
        (177, {"type": "validation", "step": 3, "loss": 9.0}),
        (177, {**measured, "step": 3}),
        (90_000, {"type": "status", "status": "queued"}),
        (90_010, {"type": "status", "status": "preparing", "step": 2}),
        (90_050, {"type": "status", "status": "training", "step": 2}),
        (90_053, {"type": "step", "step": 3, "loss": None, "lr": {"unet": 2e-6}}),
        (90_053, {**measured, "step": 3, "good": 2, "overfitting": 3}),
    ]
    rows = [{"n": n, "time": time, **event} for n, (time, event) in enumerate(told, 2)]
    with run.events.path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    whole = asked.get(f"runs/{run.id}/curves").json()
    assert (whole["steps"], whole["seconds"]) == ([1, 2, 3], [12, 14, 17 + 3])
    assert whole["clock"] == {"seconds": 20, "time": 90_053, "trains": True}
    table = asked.get(f"runs/{run.id}/curves/table")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.headers["content-disposition"] == f'attachment; filename="{run.id}.csv"'
    assert table.body.decode().splitlines() == [
        "step,seconds,loss,lr_unet,lr_text_encoder,validation_loss,measured_learned,measured_held,measured_class,"
        "measured_drift,measured_word,region",
        "0,,,,,,1.0,1.0,,0.01,,learning",
        "1,12.0,0.5,1e-06,,,,,,,,learning",
        "2,14.0,0.25,2e-06,1e-07,0.75,0.25,0.5,,0.01,,good",
        "3,20.0,,2e-06,,,0.25,0.5,,0.01,,good",
    ]


# --- the pictures of a run's subject


def test_the_subject_s_pictures_are_shown_small(asked, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(26):
        Image.new("RGB", (320, 200), "teal").save(folder / f"a ({number:02}).png")
    paths = sorted(folder.iterdir())
    run = run_folder.create(asked.service.runs_dir, RunConfig(name="a"))
    assert asked.get(f"runs/{run.id}/subject").json() == {"pictures": [], "count": 0, "sets": []}  # nothing was noted
    picture_list.note(run.path, [Entry(path, "", 0) for path in [paths[0], *paths]], are_class=False)
    found = asked.get(f"runs/{run.id}/subject").json()
    assert found["count"] == 27 and len(found["pictures"]) == 24
    assert found["pictures"][1] == {"number": 1, "name": "a (01).png"}
    shown = asked.get(f"runs/{run.id}/subject/1", {"size": "96"})
    assert shown.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(shown.body)) as picture:
        assert picture.size == (96, 60)
    for number in ("24", "-1", "x", "..", "²", "1" * 5000):  # what is not listed is not shown
        assert asked.get(f"runs/{run.id}/subject/{number}").status == 404
    paths[1].unlink()
    assert asked.get(f"runs/{run.id}/subject/1").status == 404


def test_strangers_see_only_pictures_that_were_uploaded(tmp_path):
    asked = Asked(tmp_path, restricted="It is shared.")
    uploaded = asked.host.data_folder() / "pictures" / "s"
    private = tmp_path / "private"
    for folder in (uploaded, private):
        folder.mkdir(parents=True)
        Image.new("RGB", (64, 64), "teal").save(folder / "a.png")
    run = run_folder.create(asked.service.runs_dir, RunConfig(name="a"))
    if os.name != "nt":
        (uploaded / "b.png").symlink_to(private / "a.png")
    entries = [
        Entry(path, "", 0) for path in (private / "a.png", uploaded / "a.png", uploaded / "b.png") if path.exists()
    ]
    picture_list.note(run.path, entries, are_class=False)
    assert asked.get(f"runs/{run.id}/subject").json()["pictures"] == [{"number": 1, "name": "a.png"}]
    assert [asked.get(f"runs/{run.id}/subject/{number}").status for number in range(3)] == [404, 200, 404]


# --- values of any type


ODD = ([], {}, None, True, -1, 1.5, "", "a\nb", [[]], [1], {"a": 1}, {"a": []}, [{"a": 1}], "~", "[")


def assert_answered(answer: Answer, about: object) -> None:
    assert answer.status in (200, 201, 202, 400, 403, 404, 409, 422), about
    if answer.status >= 400:
        assert {"error", "remedy"} <= answer.json().keys(), about


@pytest.mark.parametrize("name", SETTINGS)
def test_no_type_of_a_setting_is_unexpected(asked, tmp_path, name):
    values = good(tmp_path)
    for odd in ODD:
        answer = asked.post("check", {"config": {**values, name: odd}})
        assert answer.status in (200, 422), (name, odd)


@pytest.mark.parametrize("key", [*CONCEPT_KEYS, "unknown"])
def test_no_type_in_a_concept_is_unexpected(asked, tmp_path, key):
    values = {**good(tmp_path), "instance_data_dir": ""}
    for odd in ODD:
        concept = {"instance_data_dir": str(tmp_path / "mine"), key: odd}
        assert asked.post("check", {"config": {**values, "concepts": [concept]}}).status == 200, odd
        assert_answered(asked.post("runs", {"config": {**values, "concepts": [concept]}}), odd)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_no_type_of_any_body_is_unexpected(asked, tmp_path, odd):
    run, values = asked.run(), good(tmp_path)
    bodies = {
        "check": ({"config": odd}, {"config": values, "deep": odd if odd is not True else "x"}),
        "runs": ({"config": odd}, *({"config": values, name: odd} for name in asked_options.ASKED)),
        "queue": ({"order": odd},),
        "import": ({"text": odd},),
        "presets": ({"name": odd, "settings": odd}, {"name": "n", "settings": odd, "description": odd}),
        f"runs/{run.id}/commands": ({"command": odd}, {"command": "continue", "max_train_steps": odd, "publish": odd}),
        f"runs/{run.id}/publish": ({"artifact": odd}, {"artifact": "x", "select": odd}),
    }
    for path, given in bodies.items():
        for body in given:
            assert_answered(asked.post(path, body), (path, body))


@pytest.mark.parametrize("name", ["a\nb", "a\n", "\n", "a\r\nb", "a\u2028b"])
def test_names_with_line_ends_are_answered_by_us(asked, name):
    paths = [f"runs/{name}", f"runs/{name}/events", f"presets/{name}", f"pictures/{name}", f"pictures/set/{name}.png"]
    for path in [*paths, name, f"version{name}", f"page/{name}"]:
        answer = asked.get(path)
        assert answer.status in (404, 405, 422) and {"error", "remedy"} <= answer.json().keys(), path
