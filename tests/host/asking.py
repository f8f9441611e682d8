"""For tests of the API: a service over a plain folder and a dispatcher that only takes notes, asked without a socket.

asked = Asked(tmp_path)
answer = asked.get("runs")                        # as a page of this machine asks
answer.status, answer.json(), answer.headers
"""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from starlette.applications import Starlette

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.core.runs import job_options, run_folder, training_states
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.host.environment.environment import Status
from dreambooth_ext.host.environment.interpreter import REPOSITORY, clean_variables
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.hosts.folder_host import FolderHost
from dreambooth_ext.host.jobs.loans import Loan, Loans
from dreambooth_ext.host.publishing import model_files, unpublish
from dreambooth_ext.host.service.service import Service
from dreambooth_ext.host.web import routes

LOCAL = ("127.0.0.1", 50000)
FAR = ("203.0.113.9", 50000)


class Place(FolderHost):
    """A plain folder whose locks can be set."""

    login = False
    base = ""

    def has_login(self) -> bool:
        return self.login

    def current_base(self) -> str:
        return self.base


class Notes:
    """A dispatcher that trains nothing."""

    def __init__(self, runs_dir: Path, host: Place):
        self.runs_dir, self.host = runs_dir, host
        self.revision, self.published, self.waiting = 0, [], ""
        self.troubles: dict[str, dict] = {}
        self.selects = True  # whether the host can load what it is to select
        self.running: list[Run] = []
        self.ids: list[str] = []
        self.by_run: dict[str, tuple[str, ...]] = {}  # the devices that it has or waits for
        self.is_paused = False
        self.loans = Loans()
        self.said: list[tuple] = []

    def start(self) -> None:
        self.said.append(("start",))

    def close(self) -> None:
        self.said.append(("close",))

    def queue(self) -> list[str]:
        return list(self.ids)

    @property
    def active(self) -> Run | None:
        return (self.running or [None])[-1]

    def trouble(self, run: Run) -> dict | None:
        return self.troubles.get(run.id)

    def left(self, run: Run) -> float | None:
        return None

    def devices(self, run: Run) -> tuple[str, ...]:
        return self.by_run.get(run.id, ("cuda:0",))

    def waiting_since(self) -> dict[str, float]:
        return dict.fromkeys(self.ids, 1.4e9)

    leads = True

    def device_called(self, wanted: str) -> str:
        return "cuda:0" if wanted == "auto" else wanted

    def lend(self, loan: Loan) -> None:
        if self.running:
            raise Refusal(409, "drawing.run_trains", "device", run=self.running[-1].id)
        self.loans.take(loan)

    def give_back(self, loan: Loan) -> None:
        self.loans.give_back(loan)

    def pause(self, paused: bool) -> None:
        self.is_paused = paused

    def delete_states(self, run: Run) -> int:
        return training_states.delete(run)

    def since(self, run: Run) -> float | None:
        return 1.5e9

    def submit(self, config: RunConfig, chosen: job_options.JobOptions) -> Run:
        run = run_folder.create(self.runs_dir, config)
        chosen.write(run)
        self.ids.append(run.id)
        return run

    def resume(self, run: Run, chosen: job_options.JobOptions | None = None, total: int | None = None) -> None:
        self.said.append(("resume", run.id, chosen, total))

    def order(self, ids: list[str]) -> None:
        self.ids = ids + [id for id in self.ids if id not in ids]

    def cancel(self, run: Run) -> None:
        self.ids.remove(run.id)
        run.write_state(status="stopped")

    def command(self, run: Run, command: str) -> None:
        run.command(command)

    def kill(self, run: Run) -> None:
        self.said.append(("kill", run.id))

    def delete(self, run: Run) -> None:
        run.delete()

    def publish(self, run: Run, file: str, select: bool) -> Path:
        self.revision += 1
        folder = self.host.folders()["checkpoint"]
        path = model_files.publish(run.artifacts / file, folder, run=run.id, name=run.config.name)
        self.published.append({"n": self.revision, "path": str(path), "selected": select and self.selects})
        return path

    def unpublish(self, run: Run, file: str, path: Path) -> list[str]:
        self.revision += 1
        return unpublish.take_out(run.artifacts / file, path, run.id)


class Trainer:
    """An environment that is ready, or is what it is told to be: that of the tests themselves."""

    def __init__(self, folder: Path):
        self.folder, self.tree, self.log = folder, folder / "venv", folder / "install.log"
        self.state, self.error, self.made, self.used = "ready", None, [], None

    def status(self) -> Status:
        return Status(self.state, "" if self.state == "ready" else "It is not there.", str(self.folder))

    def command(self, argv: list[str]) -> list[str]:
        return [sys.executable, *argv]

    def variables(self, changes: dict[str, str] | None = None) -> dict[str, str]:
        return clean_variables(PYTHONPATH=str(REPOSITORY), **(changes or {}))

    def check_unused(self) -> None:
        if self.used:
            raise self.used

    def build(self, progress, *others) -> None:
        progress(0.5, Message("environment.pip_unpacking"))
        self.made.append("build")
        if self.error:
            raise self.error
        self.state = "ready"

    def repair(self, progress, *others) -> None:
        self.made.append("repair")

    def verify(self) -> None:
        self.made.append("verify")


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        def refuse(constant: str) -> None:
            raise AssertionError(f"browsers cannot read {constant}")

        return json_module.loads(self.body, parse_constant=refuse)


def request(
    app: Any,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    client: tuple[str, int] | None = LOCAL,
    chunk: int = 65536,
) -> Answer:
    """One request to an ASGI app, as a server would pass it on. `path`: as in a URL, after decoding."""
    path, _, query = path.partition("?")
    named = {"host": "127.0.0.1:7860", **{name.lower(): value for name, value in (headers or {}).items()}}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items() if value is not None]
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": quote(path).encode(), "root_path": "", "query_string": query.encode(),
        "headers": raw, "client": client, "server": ("127.0.0.1", 7860),
    }  # fmt: skip
    parts = [body[i : i + chunk] for i in range(0, len(body), chunk)] or [b""]
    answer = Answer()

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    return answer


class Asked:
    """A service in `folder` with its app; `get`, `post` ... ask it as a page of this machine does."""

    def __init__(self, folder: Path, **about: Any):
        self.host = Place(folder / "home", **about)
        self.environment = Trainer(folder / "environment")
        self.dispatcher = Notes(self.host.runs_folder(), self.host)
        self.service = Service(self.host, self.environment, self.dispatcher)
        self.app = Starlette()
        routes.mount(self.app, self.service)

    def ask(self, method: str, path: str, query: dict[str, Any] | None = None, **about: Any) -> Answer:
        path = f"{routes.PREFIX}/{path}" + (f"?{urlencode(query)}" if query else "")
        return request(self.app, method, path, **about)

    def get(self, path: str, query: dict[str, Any] | None = None, **about: Any) -> Answer:
        return self.ask("GET", path, query, **about)

    def post(self, path: str, values: Any = None, **about: Any) -> Answer:
        headers = {"content-type": "application/json", **about.pop("headers", {})}
        body = json_module.dumps({} if values is None else values).encode()
        return self.ask("POST", path, headers=headers, body=body, **about)

    def put(self, path: str, body: bytes, kind: str, **about: Any) -> Answer:
        return self.ask("PUT", path, headers={"content-type": kind, **about.pop("headers", {})}, body=body, **about)

    def delete(self, path: str, **about: Any) -> Answer:
        return self.ask("DELETE", path, **about)

    def run(self, name: str = "mine", status: str = "done", **settings: Any) -> Run:
        """A run's folder as a worker left it."""
        run = run_folder.create(self.host.runs_folder(), RunConfig(name=name, max_train_steps=10, **settings))
        run.write_state(status=status, step=4)
        return run
