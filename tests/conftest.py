"""What holds for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests import forks
from tests.engine.downloads.servers import Server, served

gc.disable()  # until all tests are found: nothing of theirs goes away
forks.install()

# Files with tests that take half a minute each
LONG = (
    "worker/test_kill.py", "test_kills.py", "browser/test_standin.py", "test_link_secrets.py",
    "test_distributed.py", "test_together.py", "test_torch_build.py", "test_gradios.py", "test_notebook.py",
    "test_machines.py", "test_launchers.py", "test_line.py", "test_exchange.py", "test_streamed_runs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take long come first: at the end no process has one to itself while the others have nothing left."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))  # the order stays otherwise


def pytest_collection_finish() -> None:
    """What was made so far stays, and is looked through no more: with all tests found, each of a worker's own
    collections, two in a run, would take three times as long as a tiny training."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def what_stays_is_looked_through_once() -> Iterator[None]:
    """Libraries that a file's tests have imported, and vocabularies that they have read, stay for good, too."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def real_starts() -> Iterator[None]:
    """Programs are started as users start them: for tests of what happens meanwhile."""
    with forks.real_starts():
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of models that misbehaves as its test wants."""
    with served() as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bytes:
    """The file of a tiny Stable Diffusion 1."""
    from tests import tiny  # needs torch, which the core's tests are run without

    return tiny.single_file(tmp_path_factory.mktemp("model"), sidecar=False).read_bytes()
