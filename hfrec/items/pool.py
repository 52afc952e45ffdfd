"""Batches of inputs encoded in several processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hfrec.items.towers import Encoded, Tower, TowerSpec, encode_batch, load_tower


class TowerPool:
    """Batches encoded in `processes` spawned processes; with 1, nothing is spawned.

    Several GPUs are shared out by turns. A script that uses more than one process needs
    `if __name__ == "__main__":`, as spawning always does.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> TowerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def run(
        self, tower: Callable[[], Tower], spec: TowerSpec, batches: Iterable[list[Any]], root: Path | None
    ) -> Iterator[Encoded]:
        """What `encode_batch` gives for each of `batches`, in order; two batches a process are under way."""
        if self.processes == 1:
            for batch in batches:
                yield encode_batch(tower, spec.modality, batch, root)
            return
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            threads = max(1, torch.get_num_threads() // self.processes)
            self._executor = ProcessPoolExecutor(
                self.processes, context, _start_worker, (context.Value("i", 0), threads)
            )
        waiting: deque[Future[Encoded]] = deque()
        try:
            for batch in batches:
                waiting.append(self._executor.submit(_work, spec, batch, root))
                if len(waiting) >= 2 * self.processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"A process that encoded {spec.modality} died, as one does that runs out of memory. What was "
                "encoded before is in the cache, if there is one; run again with fewer `processes` or "
                "a smaller `batch_size`."
            ) from error


_loaded: dict[Any, Any] = {}
_number = 0


def _start_worker(counter: Any, threads: int) -> None:
    global _number
    with counter.get_lock():
        _number = counter.value
        counter.value += 1
    torch.set_num_threads(threads)


def _work(spec: TowerSpec, batch: list[Any], root: Path | None) -> Encoded:
    if spec.device == "cuda":
        spec = replace(spec, device=f"cuda:{_number % torch.cuda.device_count()}")
    key = ("tower", spec)
    if key not in _loaded:
        _loaded[key] = load_tower(spec, _loaded)
    return encode_batch(lambda: _loaded[key], spec.modality, batch, root)
