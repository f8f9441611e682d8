"""Runs on shards: to the same bits after an interruption, and with several processes as with one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from dreambooth_ext.core.config import links
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime.seeds import generator
from dreambooth_ext.engine.shards import opening
from dreambooth_ext.engine.shards.windows import Builder, Place
from tests import shards, training
from tests.engine.downloads.servers import Answers, Server, served, silent, status, whole
from tests.engine.runtime.test_distributed import together
from tests.engine.worker.test_kill import processes, survive  # noqa: F401 - a fixture
from tests.engine.worker.test_resume import check
from tests.training import Trainer

SETTINGS = {
    "method": "finetune",
    "instance_prompt": None,
    "instance_data_dir": "",
    "shuffle_buffer": 4,
    "train_batch_size": 2,
    "max_train_steps": 6,
    "random_flip": True,
    "caption_dropout": 0.3,
}
COUNTS = (3, 4, 2)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path, train_shards_path_or_url=shards.write(tmp_path / "shards", COUNTS), **SETTINGS)


@pytest.fixture
def server():
    with served() as made:
        yield made


def offer(server: Server, folder: Path) -> str:
    """The shards of a folder over http; their pattern."""
    shards.write(folder, COUNTS)
    for path in folder.iterdir():
        server.answers[f"/{path.name}"] = whole(path.read_bytes())
    return server.link("/train-{0000..0002}.tar")


def test_goes_on_from_any_step_in_windows_and_epochs_to_the_same_bits(trainer):
    whole = check(trainer, (1, 2, 3, 5))
    epochs = [event["epoch"] for event in training.events(whole, "step")]
    assert epochs == sorted(epochs) and epochs[-1] >= 1
    assert whole.state()["plan"]["pictures"] == 0 and whole.state()["plan"]["encodes"] == "always"


def test_a_resumed_run_reads_nothing_of_what_came_before(trainer, monkeypatch):
    run = trainer.train()
    noted, read, built = training.trainer_state(run)["place"], [], Builder.build
    assert noted["epoch"] >= 1
    monkeypatch.setattr(Builder, "build", lambda self, place, rest: read.append(place) or built(self, place, rest))
    assert training.go_on(run, total=8) == worker.DONE
    assert read[0] == Place(**noted)


def test_a_lora_in_buckets_with_random_crops(tmp_path):
    sizes = ((256, 256), (320, 192), (192, 320))
    where = shards.write(tmp_path / "shards", COUNTS, sizes)
    about = {"method": "lora", "rank": 4, "enable_bucket": True, "resolution": 256, "center_crop": False}
    trainer = Trainer(tmp_path, train_shards_path_or_url=where, **{**SETTINGS, **about, "max_train_steps": 3})
    check(trainer, (2,))


def test_a_picture_that_cannot_be_decoded_is_replaced_by_another(tmp_path):
    """Its header is whole, so it was counted."""
    files = [one for number in range(6) for one in shards.sample(number)]
    name, content = files[4]
    files[4] = name, content[:2000] + bytes(500) + content[2500:]
    (tmp_path / "x.tar").write_bytes(shards.tar(files))
    trainer = Trainer(tmp_path, train_shards_path_or_url=str(tmp_path / "x.tar"), **SETTINGS)
    whole = check(trainer, (2, 4))
    warned = [event["what"] for event in training.events(whole, "warning") if event["code"] == "shards.replaced"]
    assert len(warned) == 2 and all("x.tar/000002.png" in text for text in warned), "in each of two epochs"


def test_nothing_is_trained_where_no_picture_can_be_decoded(tmp_path):
    files = [one for number in range(3) for one in shards.sample(number)]
    broken = [(name, content[:200] + bytes(9000) if name.endswith("png") else content) for name, content in files]
    (tmp_path / "x.tar").write_bytes(shards.tar(broken))
    trainer = Trainer(tmp_path, train_shards_path_or_url=str(tmp_path / "x.tar"), **SETTINGS)
    run = trainer.create()
    assert training.go_on(run) == worker.FAILED
    assert "x.tar" in run.state()["problem"]["message"]


def test_remote_shards_train_as_local_ones_and_leave_nothing(tmp_path, trainer, server):
    local = trainer.train()
    remote = trainer.train(train_shards_path_or_url=offer(server, tmp_path / "shards"))
    assert training.difference(training.weights(local), training.weights(remote)) == ""
    assert [path.name for path in (remote.path / opening.FOLDER).iterdir()] == ["window.lock"]


def test_two_processes_train_as_one_that_accumulates_two_batches(tmp_path, trainer, server):
    """Each picture once for both, also where one reads it for the other; and with another number from there on."""
    settings = {"optimizer": "sgd", "learning_rate": 0.05, "train_shards_path_or_url": offer(server, tmp_path / "s")}
    one = trainer.train(**settings, gradient_accumulation_steps=2)
    two = trainer.create(**settings)
    assert together(two, total=4) == [worker.DONE, worker.DONE], training.log(two)
    asked = len(server.asked)
    assert together(two, total=6) == [worker.DONE, worker.DONE], training.log(two)
    assert len(server.asked) > asked
    expected, found = training.weights(one), training.weights(two)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-6, msg=key)
    assert training.trainer_state(two)["batches"] == 12 and training.trainer_state(two)["place"]["epoch"] >= 1


def test_killed_while_a_window_is_read(tmp_path, trainer, server):
    """A real process, and a server that stops in the middle of a later shard."""
    pattern = offer(server, tmp_path / "shards")
    expected = trainer.train(train_shards_path_or_url=pattern, checkpointing_steps=1)
    run = trainer.create(train_shards_path_or_url=pattern, checkpointing_steps=1)
    answers = dict(server.answers)

    def stops(path: Path):
        def answer(http: Answers) -> None:
            content = path.read_bytes()
            http.start(ETag='"1"', Content_Length=len(content))
            http.wfile.write(content[: len(content) // 2])
            http.wfile.flush()
            http.server.released.wait(60)

        return answer

    process = training.start(run)
    deadline = time.monotonic() + 120
    while not training.events(run, "step") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    server.answers = {name: stops(tmp_path / "shards" / name[1:]) for name in answers}
    time.sleep(0.5)
    process.kill()
    assert process.wait() not in (0, 1, 3), training.log(run)
    server.answers = answers
    assert training.go_on(run) == worker.DONE, training.log(run)
    training.assert_same_run(expected, run)


@pytest.mark.skipif(os.name == "nt", reason="it knows no such signal")
def test_a_stop_while_a_server_is_silent_keeps_what_was_learned(tmp_path, trainer, server):
    run = trainer.create(train_shards_path_or_url=offer(server, tmp_path / "shards"), max_train_steps=40)
    process = training.start(run)
    deadline = time.monotonic() + 120
    while not training.events(run, "step") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    server.answers = dict.fromkeys(server.answers, silent)
    time.sleep(2.0)  # until training waits for pictures
    assert process.poll() is None
    process.terminate()
    assert process.wait(20) == worker.STOPPED, training.log(run)
    steps = training.events(run, "step")[-1]["step"]
    assert run.state()["status"] == "stopped" and training.newest(run).step == steps < 40


def test_a_shard_that_is_cut_is_named_before_anything_is_trained(tmp_path, trainer):
    for index in range(3):
        path = tmp_path / "shards" / f"train-{index:04d}.tar"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        run = trainer.create(max_train_steps=20)
        assert training.go_on(run) == worker.BAD_INPUT
        problem = run.state()["problem"]
        assert path.name in problem["message"] and "ends in the middle" in problem["message"], problem
        path.write_bytes(content)


def test_a_server_that_loses_a_shard_ends_the_run_with_a_state_to_go_on_from(tmp_path, trainer, server):
    pattern = offer(server, tmp_path / "shards")
    expected = trainer.train(train_shards_path_or_url=pattern)
    last = int(torch.randperm(3, generator=generator(trainer.settings["seed"], "shards", 0))[-1])
    lost = server.answers[f"/train-{last:04d}.tar"]
    server.answers[f"/train-{last:04d}.tar"] = status(404)
    run = trainer.create(train_shards_path_or_url=pattern)
    assert training.go_on(run) == worker.FAILED
    problem = run.state()["problem"]
    assert f"train-{last:04d}.tar is not there" in problem["message"] and training.newest(run).step >= 1
    server.answers[f"/train-{last:04d}.tar"] = lost
    assert training.go_on(run) == worker.DONE, training.log(run)
    training.assert_same_run(expected, run)


def test_a_vanished_shard_is_named(tmp_path, trainer):
    run = trainer.create()
    (tmp_path / "shards" / "train-0001.tar").unlink()
    pattern = f"{tmp_path}/shards/train-{{0000..0002}}.tar"
    assert training.go_on(run) == worker.DONE, "of a folder, what is there at the first start is trained on"
    run.path.joinpath("config.json").write_text(
        run.path.joinpath("config.json").read_text().replace(str(tmp_path / "shards") + '"', pattern + '"')
    )
    assert training.go_on(run, total=8) == worker.BAD_INPUT
    assert "train-0001.tar' is not there" in run.state()["problem"]["message"]


@pytest.mark.slow
def test_kills_at_random_instants(tmp_path, trainer, server, processes):  # noqa: F811
    trainer.settings["train_shards_path_or_url"] = offer(server, tmp_path / "shards")
    del trainer.settings["max_train_steps"]
    survive(trainer, processes, kills=6, steps=12, seed=5)


def test_a_links_secret_reaches_its_server_and_no_file(tmp_path, trainer, server, monkeypatch):
    offer(server, tmp_path / "shards")
    open_to_all = dict(server.answers)

    def guarded(answer):
        return lambda http: answer(http) if "token=kept" in http.path else http.start(403, Content_Length=0)

    server.answers = {path: guarded(answer) for path, answer in open_to_all.items()}
    link = server.link("/train-{0000..0002}.tar?token=kept")
    run = trainer.create(train_shards_path_or_url=link)
    monkeypatch.setenv(links.VARIABLE, link)
    assert training.go_on(run) == worker.DONE, training.log(run)
    assert all("token=kept" in path for path, _ in server.asked)
    for path in run.path.rglob("*"):
        assert not path.is_file() or b"token=kept" not in path.read_bytes(), path
    assert training.go_on(run, total=8) == worker.BAD_INPUT, "it has to be given again"
    assert run.state()["problem"]["code"] == "download.login"
