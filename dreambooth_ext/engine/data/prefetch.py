"""The next batches, read in threads while a step trains. What they hold follows from their place alone, so reading
ahead changes no bit; threads, because Windows has no fork, and Pillow decodes without Python's lock."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from .batch import Batch
from .dataset import Dataset
from .parallel import workers

WINDOW = 4  # batches; at 1024 pixels one of 4 pictures takes 50 MB


class ReadAhead:
    """A dataset's batches up to the step `total`, asked for in the order of training; from anywhere."""

    def __init__(self, dataset: Dataset, micros: int, total: int):
        self.dataset, self.micros, self.total = dataset, micros, total
        self._pool = ThreadPoolExecutor(min(WINDOW, workers()), thread_name_prefix="reader")
        self._pending: dict[tuple[int, int], Future[list[Batch]]] = {}

    def batches(self, step: int, micro: int, rank: int, world: int) -> list[Batch]:
        """As `Dataset.batches`, with its errors."""
        place = step * self.micros + micro
        for number in range(place, min(place + 1 + WINDOW, self.total * self.micros)):
            key = divmod(number, self.micros)
            if key not in self._pending:
                self._pending[key] = self._pool.submit(self.dataset.batches, *key, rank, world)
        for key in [key for key in self._pending if key < (step, micro)]:  # passed over
            self._pending.pop(key).cancel()
        return self._pending.pop((step, micro)).result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
