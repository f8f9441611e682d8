"""Hugging Face, played by this machine: pictures that come from it, and models that go to it."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import RepoUrl, constants, file_download
from huggingface_hub.errors import HfHubHTTPError

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.engine import deep_check, worker
from dreambooth_ext.engine.data import hub_dataset
from dreambooth_ext.engine.downloads import hub_files
from dreambooth_ext.engine.downloads.progress_thread import Fetch, silent
from dreambooth_ext.engine.formats import hub_upload as uploads
from dreambooth_ext.engine.models.base_model import open_base
from tests import tiny, training
from tests.training import Trainer

REVISION = "0123456789012345678901234567890123456789"
OTHERS = "9" * 40


class Server(http.server.ThreadingHTTPServer):
    """The part of the Hub that things are fetched by: `files` are those of its only data set, me/world, and `models`
    those of its only model, me/model."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.models: dict[str, bytes] = {}
        self.refuses = 0  # with this status
        self.slow = ""  # the end of a file's name
        self.released = threading.Event()  # lets go of that
        self.revision = REVISION
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = urllib.parse.unquote(self.path.partition("?")[0])
        if self.server.refuses:
            self.send_error(self.server.refuses)
        elif path == "/api/models/me/model":
            known = [{"rfilename": name, "size": len(data)} for name, data in self.server.models.items()]
            self._answer(json.dumps({"id": "me/model", "sha": REVISION, "siblings": known}).encode())
        elif path.startswith("/me/model/resolve/"):
            self._answer(self.server.models[path.split("/", 5)[5]])
        elif path.startswith("/api/datasets/me/world"):
            known = [{"rfilename": name, "size": len(data)} for name, data in self.server.files.items()]
            said = path.rpartition("/revision/")[2]
            sha = said if len(said) == 40 else self.server.revision
            self._answer(json.dumps({"id": "me/world", "sha": sha, "siblings": known}).encode())
        elif path.startswith("/datasets/me/world/resolve/"):
            _, _, rest = path.partition("/resolve/")
            self._answer(self.server.files[rest.partition("/")[2]], commit=rest.partition("/")[0])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET

    def _answer(self, content: bytes, commit: str = REVISION) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{abs(hash(content))}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET" and self.server.slow and self.path.endswith(self.server.slow):
            self.wfile.write(content[:1])
            self.server.released.wait(60)
        elif self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    made = Server()
    folder = Path(training.pictures(tmp_path / "source"))
    for split in ("train", "test"):
        made.files |= {f"{split}/{path.name}": path.read_bytes() for path in folder.glob("*.png")}
    made.files["README.md"] = b"pictures"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()


TRAINER = training.pixel_settings


FETCHED = {"dataset_name": "me/world", "train_data_dir": ""}


def work(run: run_folder.Run, server: Server, folder: Path, total: int | None = None) -> int:
    """The worker in a process of its own: huggingface_hub reads its address when it is imported."""
    return training.start(run, total, HF_ENDPOINT=server.address, HF_HOME=str(folder / "hf")).wait(timeout=300)


@pytest.fixture
def here(server, tmp_path, monkeypatch) -> Server:
    """The same for this process, with the same cache."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.address)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    return server


@pytest.fixture
def hub(here, tmp_path) -> Server:
    """With a model."""
    server = here
    folder = tiny.diffusers_folder(tmp_path)
    server.models = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    server.models |= {"unet/diffusion_pytorch_model.non_ema.safetensors": b"x", "model.safetensors": b"x"}
    return server


def test_a_model_is_fetched_with_progress(hub):
    told = []
    base = open_base("me/model", fetch=Fetch(lambda *stage: told.append(stage)))
    assert base.family.name == "sd1" and base.unet() is not None
    total = told[-1][2]
    assert told[-1] == ("downloading the model, in MB", total, total) and base.path.name == REVISION
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert not [path for path in fetched if "non_ema" in path or path.endswith(f"{REVISION}/model.safetensors")]
    hub.asked.clear()
    assert open_base("https://huggingface.co/me/model").path == base.path
    assert not [path for path in hub.asked if REVISION in path]  # it is here
    hub.refuses = 503
    assert open_base("me/model").path == base.path  # also while the Hub is away


def test_a_models_pickles_are_fetched_for_want_of_others(hub):
    name = "unet/diffusion_pytorch_model"
    hub.models[f"{name}.fp16.safetensors"] = hub.models.pop(f"{name}.safetensors")
    assert set(hub_files.model_files(dict.fromkeys(hub.models, 1))) >= {f"{name}.fp16.safetensors"}
    assert open_base("me/model").family.name == "sd1"


def test_a_stop_is_heard_while_a_model_is_fetched(hub):
    """In the midst of a file that does not come; what is there already stays."""
    hub.slow = "unet/diffusion_pytorch_model.safetensors"

    class Enough(Exception):
        pass

    def stage(label: str, done: int, of: int) -> None:
        if any(path.endswith(hub.slow) for path in hub.asked):
            raise Enough

    began = time.monotonic()
    with pytest.raises(Enough):
        open_base("me/model", fetch=Fetch(stage))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("name", "refuses", "words"),
    [
        ("me/other", 0, "neither a file or folder here nor a public model"),
        ("me/model", 403, "without a login"),
        ("me/model", 500, "cannot be downloaded"),
    ],
)
def test_a_model_that_cannot_be_fetched_is_told(hub, name, refuses, words):
    hub.refuses = refuses
    with pytest.raises(UserError) as caught:
        open_base(name)
    assert caught.value.problem.field == "base_model" and words in str(caught.value) and caught.value.problem.remedy


def test_a_repository_without_a_model(hub):
    hub.models.pop("model_index.json")
    with pytest.raises(UserError, match="not a diffusers model"):
        open_base("me/model")


def test_a_model_that_the_disk_does_not_hold(hub, monkeypatch):
    monkeypatch.setattr(hub_files, "free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match="of disk space, and 1000 B are free"):
        open_base("me/model")


def test_a_data_set_is_fetched_and_trained_on(trainer, server, tmp_path):
    run = trainer.create(**FETCHED)
    assert work(run, server, tmp_path) == worker.DONE, training.log(run)
    assert run.state()["plan"]["pictures"] == 3  # those of the split "train"
    fetched = [path for path in server.asked if "/resolve/" in path]
    assert fetched and all("/train/" in path for path in fetched)
    local = trainer.train()
    assert training.difference(training.weights(local), training.weights(run)) == ""  # the same pictures
    assert run.config.name == "taught" and run.config.dataset_name == "me/world"


def test_a_run_goes_on_with_the_pictures_that_it_began_with(trainer, here, server, tmp_path):
    run = trainer.create(**FETCHED, max_train_steps=2)
    assert work(run, server, tmp_path) == worker.DONE, training.log(run)
    server.revision = OTHERS
    assert training.go_on(run, 3) == worker.DONE, training.log(run)
    assert run.state()["dataset_revision"] == REVISION
    server.shutdown()
    server.server_close()
    assert training.go_on(run, 4) == worker.DONE, training.log(run)  # without the network, too
    longer = trainer.train(max_train_steps=4)
    assert training.difference(training.weights(longer), training.weights(run)) == ""


@pytest.mark.parametrize(
    "files, words",
    [
        ({"a.txt": b"x"}, "neither pictures nor Parquet"),
        ({"data/train-0.parquet": b"PAR1"}, "pyarrow"),
        (None, "no public"),
    ],
)
def test_what_cannot_be_fetched_is_told(trainer, here, files, words):
    try:
        import pyarrow  # noqa: F401

        if words == "pyarrow":
            pytest.skip("it is installed here")
    except ImportError:
        pass
    here.files = files or {}
    run = trainer.create(dataset_name="me/world" if files else "me/other", train_data_dir="")
    assert training.go_on(run) == worker.BAD_INPUT
    (error,) = training.events(run, "error")
    assert error["field"] == "dataset_name" and words in error["what"] and error["remedy"]


def test_a_hub_that_is_away_is_told(trainer, monkeypatch):
    monkeypatch.setattr(hub_dataset.HfApi, "dataset_info", refuse)
    monkeypatch.setattr(hub_dataset, "snapshot_download", refuse)
    with pytest.raises(UserError) as error:
        hub_dataset.fetch("me/world", None, silent)
    assert error.value.problem.field == "dataset_name" and "train_data_dir" in error.value.problem.remedy
    config = trainer.config(dataset_name="me/world", train_data_dir="")
    (problem,) = deep_check.inspect(config.as_dict(), trainer.folder / "runs")["problems"]
    assert problem["field"] == "dataset_name" and "no route" in problem["message"]


def test_the_check_counts_what_is_still_there(trainer, monkeypatch):
    def listed(api, name, **options):
        files = [f"train/{number}.png" for number in range(7)] + ["test/a.png", "README.md"]
        siblings = [SimpleNamespace(rfilename=file, size=100) for file in files]
        return SimpleNamespace(siblings=siblings, sha=REVISION)

    monkeypatch.setattr(hub_dataset.HfApi, "dataset_info", listed)
    config = trainer.config(dataset_name="me/world", train_data_dir="", max_train_steps=None, num_train_epochs=2)
    answer = deep_check.inspect(config.as_dict(), trainer.folder / "runs")
    assert answer["problems"] == [] and answer["plan"]["pictures"] == 7 and answer["plan"]["steps"] == 14


def refuse(*arguments, **options):
    raise ConnectionError("no route")


def test_parquet_is_written_out_as_it_is(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    sources = [path.read_bytes() for path in sorted(Path(training.pictures(tmp_path / "p")).glob("*.png"))]
    rows = [{"bytes": content, "path": None} for content in sources]
    table = arrow.table({"label": [1, 2, 3], "thumb": [b"x"] * 3, "image": rows})
    parquet.write_table(table, tmp_path / "train-0.parquet")
    hub_dataset.write_out([tmp_path / "train-0.parquet"], tmp_path / "out", lambda done, of: None)
    assert [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())] == sources


# --- models that go there


class Hub:
    """Notes what is uploaded. broken: fails as a Hub does that refuses the token."""

    def __init__(self, broken: bool = False):
        self.broken, self.made, self.files = broken, [], {}

    def __call__(self, **about) -> Hub:
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> RepoUrl:
        if self.broken:
            raise HfHubHTTPError("403 Forbidden: this token may not write")
        assert exist_ok
        self.made.append((name, private))
        return RepoUrl(f"https://huggingface.co/{name if '/' in name else 'me/' + name}")

    def upload_file(self, *, path_or_fileobj, path_in_repo: str, repo_id: str) -> None:
        content = path_or_fileobj if isinstance(path_or_fileobj, bytes) else Path(path_or_fileobj).read_bytes()
        self.files[f"{repo_id}/{path_in_repo}"] = content

    def upload_folder(self, *, folder_path, repo_id: str, commit_message: str) -> None:
        for path in Path(folder_path).rglob("*"):
            if path.is_file():
                self.files[f"{repo_id}/{path.relative_to(folder_path).as_posix()}"] = path.read_bytes()


@pytest.fixture
def there(monkeypatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(uploads, "HfApi", made)
    monkeypatch.setattr(uploads, "get_token", lambda: "hf_secret")
    return made


PREVIEWS = {"validation_prompts": ["a photo of sksper person"], "validation_steps": 4}


def test_a_checkpoint_is_uploaded_with_its_page(tmp_path, there):
    run = Trainer(tmp_path).train(push_to_hub=True, hub_model_id="me/mine", hub_private_repo=True, **PREVIEWS)
    assert there.made == [("me/mine", True)]
    assert there.files["me/mine/taught.safetensors"] == (run.artifacts / "taught.safetensors").read_bytes()
    assert {"me/mine/taught.json", "me/mine/README.md", "me/mine/samples/4-0_0.png"} <= there.files.keys()
    page = there.files["me/mine/README.md"].decode()
    assert page.startswith("---\ntags:\n- text-to-image\n") and "`a photo of sksper person`" in page
    assert "(samples/4-0_0.png)" in page and "`tiny-sd1`" in page and '"learning_rate": 0.001' in page
    assert str(tmp_path) not in page
    (event,) = training.events(run, "uploaded")
    assert event["address"] == "https://huggingface.co/me/mine"
    everything = "".join(path.read_text(errors="ignore") for path in run.path.rglob("*.json*"))
    assert "hf_secret" not in everything and not any(b"hf_secret" in content for content in there.files.values())


def test_a_pipeline_is_uploaded_as_a_repository_that_diffusers_loads(trainer, there):
    run = trainer.train(push_to_hub=True, validation_steps=4)
    folder = run.artifacts / "taught"
    inner = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert there.made == [("taught", False)]
    expected = {f"me/taught/{name}" for name in (*inner, "README.md", "samples/4-0_0.png")}
    assert there.files.keys() == expected
    page = there.files["me/taught/README.md"].decode()
    assert (
        "library_name: diffusers" in page and "- unconditional-image-generation" in page and "trained from" not in page
    )


def test_a_failed_upload_is_a_warning_and_loses_nothing(trainer, there):
    there.broken = True
    run = trainer.train(push_to_hub=True)
    (warning,) = training.events(run, "warning")
    assert warning["field"] == "push_to_hub" and "403" in warning["what"] and "hf upload" in warning["remedy"]
    assert training.artifact(run) and run.state()["status"] == "done"


def test_without_a_login_nothing_is_trained(trainer, there, monkeypatch, tmp_path):
    monkeypatch.setattr(uploads, "get_token", lambda: None)
    run = trainer.create(push_to_hub=True)
    assert training.go_on(run) == worker.BAD_INPUT
    (error,) = training.events(run, "error")
    assert error["field"] == "push_to_hub" and "HF_TOKEN" in error["remedy"]
    answer = deep_check.inspect(run.config.as_dict(), tmp_path / "runs")
    assert [problem["field"] for problem in answer["problems"]] == ["push_to_hub"]


def test_intermediate_models_stay_here(trainer, there):
    trainer.train(push_to_hub=True, checkpointing_steps=1, max_train_steps=3)
    assert there.made == [("taught", False)]
