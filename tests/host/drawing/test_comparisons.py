"""Comparisons: asked for over the API, drawn by a `compare` that only pretends, kept, voted on and deleted."""

from __future__ import annotations

import json

import pytest

from tests.waiting import until

pytest.importorskip("starlette")
pytest.importorskip("PIL.Image")

from tests.host.asking import FAR, Asked
from tests.host.drawing.pretended import pretending, trained, without_job


@pytest.fixture
def asked(tmp_path) -> Asked:
    return pretending(tmp_path)


def wanted(run, **changes):
    models = [{"run": run.id, "artifact": "anna_300.safetensors"}, {"run": run.id, "artifact": "anna.safetensors"}]
    return {"models": [*models, {**models[1], "weight": 0.5}], "prompts": ["a red hat"], "num_images": 2, **changes}


def start(asked, run, **changes) -> dict:
    answer = asked.post("comparisons", wanted(run, **changes))
    assert answer.status == 202, answer.json()
    return answer.json()


def ended(asked, id) -> dict:
    until(lambda: asked.get(f"comparisons/{id}").json()["state"] != "running" and not asked.get("job").json()["job"])
    return asked.get(f"comparisons/{id}").json()


def test_it_is_drawn_kept_and_deleted(asked):
    run = trained(asked, clip_skip=2)
    (asked.environment.folder / "wait").touch()
    made = start(asked, run, subject_type="person", word="zkz", seed=7, name=" mine ")
    assert made["name"] == "mine" and made["prompts"][-1] == "a red hat" and made["prompts"][0].startswith("zkz person")
    assert [model["name"] for model in made["models"]] == ["base", "anna_300", "anna", "anna-0.5"]
    assert made["models"][0]["file"] == "sd15.safetensors" and made["total"] == 4 * 6 * 2
    first = until(lambda: asked.get(f"comparisons/{made['id']}").json()["pictures"][1:])
    assert first[0] == {"model": "base", "prompt": 0, "seed": 8, "file": "base_0_8.png"}
    job = asked.get("state").json()["job"]
    assert (job["kind"], job["of"], job["done"], job["total"]) == ("compare", made["id"], 2, 48)
    assert asked.delete(f"comparisons/{made['id']}").status == 409
    assert asked.delete(f"runs/{run.id}").status == 409  # its models are being read
    assert asked.post("comparisons", wanted(run)).json()["code"] == "drawing.busy"
    (asked.environment.folder / "wait").unlink()
    found = ended(asked, made["id"])
    assert found["state"] == "done" and found["done"] == 48 and found["sheet"] and found["problem"] == ""
    words = json.loads((asked.service.comparisons.folder / made["id"] / "compare.json").read_text())["words"]
    assert "--clip-skip=2" in words and "--subject-type=person" in words and "--seed=7" in words
    assert f"--model={run.artifacts / 'anna.safetensors'}:0.5" in words

    listed = asked.get("comparisons").json()["comparisons"]
    assert [one["id"] for one in listed] == [made["id"]] and "pictures" not in listed[0]
    for file in ("anna-0.5_0_7.png", "sheet.png"):
        whole = asked.get(f"comparisons/{made['id']}/pictures/{file}")
        assert whole.status == 200 and whole.headers["content-type"] == "image/png"
    small = asked.get(f"comparisons/{made['id']}/pictures/sheet.png", {"size": 160})
    assert small.headers["content-type"] == "image/jpeg"
    for file in ("comparison.json", "none.png", ".."):
        assert asked.get(f"comparisons/{made['id']}/pictures/{file}").status == 404
    assert asked.get("comparisons/..").status == 404 and asked.get("comparisons/none").status == 404
    assert asked.delete(f"comparisons/{made['id']}").status == 200
    assert asked.get("comparisons").json() == {"comparisons": []}
    assert asked.get("runs").json()["runs"][0]["id"] == run.id and len(asked.get("runs").json()["runs"]) == 1


def test_votes_are_counted_by_model_and_shown_with_the_run(asked):
    run = trained(asked)
    id = start(asked, run)["id"]
    ended(asked, id)

    def vote(**changes):
        given = {"prompt": 0, "seed": 1, "models": ["anna_300", "anna"], "better": "anna", **changes}
        return asked.post(f"comparisons/{id}/votes", given)

    assert vote().json()["votes"] == {"anna_300": {"shown": 1, "better": 0}, "anna": {"shown": 1, "better": 1}}
    assert vote(better=None).status == 200  # no difference
    assert vote(models=["anna", "anna-0.5"], better="anna-0.5").status == 200
    for wrong in ({"seed": 2}, {"models": ["anna"]}, {"models": ["anna", "anna"]}, {"better": "base"}, {"prompt": "0"}):
        assert vote(**wrong).status == 422, wrong
    models = {model["name"]: model["votes"] for model in asked.get(f"comparisons/{id}").json()["models"]}
    assert models["anna"] == {"shown": 3, "better": 1} and models["base"] is None
    votes = asked.get(f"runs/{run.id}/verdict").json()["votes"]
    assert votes == {
        "anna_300.safetensors": {"shown": 2, "better": 0},
        "anna.safetensors": {"shown": 4, "better": 2},  # at both weights
    }


def test_it_is_stopped_and_says_what_went_wrong(asked):
    run = trained(asked)
    (asked.environment.folder / "wait").touch()
    id = start(asked, run)["id"]
    until(lambda: asked.get(f"comparisons/{id}").json()["done"] == 2)
    assert asked.delete("job").status == 200
    found = ended(asked, id)
    assert found["state"] == "stopped" and found["done"] == 2 and not found["sheet"]
    assert asked.delete("job").status == 409
    (asked.environment.folder / "broken").touch()
    failed = ended(asked, start(asked, run)["id"])
    assert failed["state"] == "failed" and failed["problem"] == "model: it is damaged."


def test_one_that_was_going_on_when_the_program_ended_is_stopped(asked, tmp_path):
    run = trained(asked)
    (asked.environment.folder / "wait").touch()
    id = start(asked, run)["id"]
    until(lambda: asked.get("job").json()["job"]["done"] == 2)
    again = pretending(tmp_path)
    assert again.get(f"comparisons/{id}").json()["state"] == "stopped"
    asked.service.drawing.close()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"models": []}, "models"),
        ({"models": [{"path": "/nowhere/a.safetensors"}], "base": "me/base"}, "model"),
        ({"models": [{"run": "none", "artifact": "x"}]}, "run"),
        ({"models": ["x"]}, "models"),
        ({"prompts": []}, "prompt"),
        ({"prompts": ["x" * 3000]}, "prompts"),
        ({"subject_type": "person"}, "word"),
        ({"subject_type": "car", "word": "zkz"}, "subject_type"),
        ({"sampler": "best"}, "sampler"),
        ({"num_images": 0}, "num_images"),
        ({"num_images": 2.5}, "num_images"),
        ({"num_images": 999}, "models"),
        ({"width": 65}, "width"),
        ({"name": 3}, "name"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(asked, changes, field):
    answer = asked.post("comparisons", wanted(trained(asked), **changes))
    assert answer.status in (404, 422) and answer.json()["field"] == field and answer.json()["remedy"]
    assert not asked.service.comparisons.folder.exists()


def test_the_device_is_a_trainings(asked):
    run = trained(asked)
    asked.dispatcher.running = [run]
    answer = asked.post("comparisons", wanted(run))
    assert answer.status == 409 and answer.json()["code"] == "drawing.run_trains"
    assert not asked.service.comparisons.folder.exists()


def test_strangers_name_no_paths(asked, monkeypatch):
    run = trained(asked)
    own = asked.host.folders()["checkpoint"] / "sd15.safetensors"
    monkeypatch.setattr(asked.host, "restricted", lambda: "It is shared.")
    assert asked.post("comparisons", wanted(run, models=[{"path": "/etc/passwd"}])).status == 403
    assert asked.post("comparisons", wanted(run, base="/etc/passwd")).status == 403
    assert asked.post("comparisons", wanted(run), client=FAR).status in (401, 403)
    assert asked.post("comparisons", wanted(run, base=str(own), models=[{"path": str(own)}])).status == 202
    without_job(asked)


def test_a_model_is_deleted_with_what_belongs_to_it(asked):
    run = trained(asked)
    (run.artifacts / "anna_300.json").write_text("{}")
    assert asked.delete(f"runs/{run.id}/artifacts/anna_300.safetensors").json() == {"freed": 100}
    assert sorted(path.name for path in run.artifacts.iterdir()) == ["anna.safetensors", "anna_600.safetensors"]
    files = [one["file"] for one in asked.get(f"runs/{run.id}/artifacts").json()["artifacts"]]
    assert files == ["anna_600.safetensors", "anna.safetensors"]
    assert asked.delete(f"runs/{run.id}/artifacts/anna_300.safetensors").status == 404
    assert asked.delete(f"runs/{run.id}/artifacts/..").status == 404
    asked.dispatcher.ids = [run.id]
    assert asked.delete(f"runs/{run.id}/artifacts/anna.safetensors").status == 409
