"""Writing that others may do at the same time."""

from __future__ import annotations

import threading

from dreambooth_ext.core.system import files


def test_threads_that_write_one_file_leave_one_of_their_versions(tmp_path):
    path, failures = tmp_path / "state.json", []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                files.write_json(path, {"by": number})
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and files.read_json(path)["by"] in range(4)
    assert [it.name for it in tmp_path.iterdir()] == ["state.json"]
