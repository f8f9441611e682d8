"""Read the next batches in threads while a step trains.

A batch depends only on its place, so reading ahead does not change the training. Threads are used because Windows has
no fork, and Pillow releases the GIL while decoding.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from .batch import Batch
from .dataset import Dataset
from .parallel import workers

WINDOW = 4  # batches read ahead; one of 4 pictures at 1024 pixels takes 50 MB


class ReadAhead:
    """Serves a dataset's batches up to step `total`, requested in training order from any starting point.

    While pictures are still being encoded, nothing is read ahead.
    """

    def __init__(self, dataset: Dataset, micros: int, total: int):
        self.dataset, self.micros, self.total = dataset, micros, total
        self._pool = ThreadPoolExecutor(min(WINDOW, workers()), thread_name_prefix="reader")
        self._pending: dict[tuple[int, int], Future[list[Batch]]] = {}

    def batches(self, step: int, micro: int, rank: int, world: int) -> list[Batch]:
        """Return `Dataset.batches` of this place, and raise its errors."""
        if self.dataset.is_filling:
            return self.dataset.batches(step, micro, rank, world)
        place = step * self.micros + micro
        for number in range(place, min(place + 1 + WINDOW, self.total * self.micros)):
            key = divmod(number, self.micros)
            if key not in self._pending:
                self._pending[key] = self._pool.submit(self.dataset.batches, *key, rank, world)
        for key in [key for key in self._pending if key < (step, micro)]:  # skipped
            self._pending.pop(key).cancel()
        return self._pending.pop((step, micro)).result()

    def close(self) -> None:
        self.dataset.close()  # a thread may wait for pictures of a server that is silent
        self._pool.shutdown(wait=True, cancel_futures=True)
