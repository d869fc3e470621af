"""Work spread over a Ray cluster by Ray Data: a pool of actors that hold the models; a killed actor's work is done again."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from close.errors import RecipeError, reason

__all__ = ["RayEngine", "share_of_gpu"]

_log = logging.getLogger(__name__)
Part = TypeVar("Part")
Result = TypeVar("Result")


class RayEngine:
    """Maps a function over parts on Ray actors; results come in the order of the parts.

    The function is pickled once an actor; what it holds (an encoder, a captioner) says by itself how it is loaded there. Data and
    weights are read by path, so every machine of a cluster must see the same files. Where there are GPUs, each worker gets one,
    or an equal share of one.

    Args:
        workers: actors. gpus: False where the work is on CPUs alone. address: of a running cluster (`auto`, `host:6379`,
            `ray://host:10001`); without it, one is started on this machine for as long as the work takes.
    Raises:
        RecipeError: Ray is not installed, or the cluster has too few CPUs to finish.
    """

    def __init__(self, workers: int = 2, address: str | None = None, *, gpus: bool = True) -> None:
        try:
            import ray.data  # noqa: F401
        except ImportError:
            raise RecipeError("engine ray needs Ray: pip install 'close-toolkit[ray]'") from None
        self.workers, self.address, self.gpus = workers, address, gpus

    def __call__(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """`map(work, parts)`."""
        if not parts:
            return
        import ray

        started = not ray.is_initialized()
        if started:
            self._start(ray)
        try:
            self._check(ray)
            yield from self._run(ray, work, parts)
        finally:
            if started:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        # an actor keeps its CPU to itself; those that read and hand on need others, or nothing ever moves
        own = {"num_cpus": max(os.cpu_count() or 1, self.workers + 2), "include_dashboard": False}
        try:
            ray.init(**({"address": self.address} if self.address else own), logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RecipeError(f"no Ray cluster at {self.address!r}: {reason(error, whole=False)}") from None

    def _check(self, ray: Any) -> None:
        found = ray.cluster_resources().get("CPU", 0)
        if found < self.workers + 2:
            raise RecipeError(
                f"the Ray cluster has {found:g} logical CPUs; {self.workers} workers need {self.workers + 2} "
                "(two read and hand on), else they would wait for ever: ask for fewer workers, or start it with more CPUs"
            )

    def _share(self, ray: Any) -> float:
        """What each worker asks for of a GPU; those that others hold are waited for, which is told."""
        if not self.gpus:
            return 0
        share = share_of_gpu(self.workers, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        free, wanted = ray.available_resources().get("GPU", 0), self.workers * share
        if free < wanted:
            _log.warning(
                "%d workers ask the Ray cluster for %g GPUs, of which %g are free: the others are waited for; "
                "--device cpu asks for none",
                *(self.workers, wanted, free),
            )
        return share

    def _run(self, ray: Any, work: Any, parts: Sequence[Any]) -> Iterator[Any]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows = ray.data.from_items([{"part": pickle.dumps(part)} for part in parts], override_num_blocks=len(parts))
        held = ray.put(work)  # for actors that start again
        share = self._share(ray)
        done = rows.map_batches(
            _Worker,
            fn_constructor_args=(held, os.getcwd()),
            concurrency=self.workers,
            batch_size=1,
            batch_format="numpy",
            **({"num_gpus": share} if share else {}),
        )
        for row in done.iter_rows():
            yield pickle.loads(row["result"])


def share_of_gpu(workers: int, machines: Sequence[Mapping[str, float]]) -> float:
    """What each worker asks for of a GPU, so that all work at once: 1, 0.5, 0.3333, …; 0 where that is impossible.

    Without asking, all workers of a machine would share its first GPU. 0 where machines with GPUs lack the CPUs for all workers:
    those that wait for one would do nothing, while other machines have some.

    Args:
        machines: the logical "CPU" and "GPU" of each.
    """
    count = sum(int(machine.get("GPU", 0)) for machine in machines)
    if not count:
        return 0
    each = -(-workers // count)
    room = sum(min(each * int(machine.get("GPU", 0)), int(machine.get("CPU", 0))) for machine in machines)
    return int(10_000 / each) / 10_000 if room >= workers else 0  # Ray counts in ten-thousandths


class _Worker:
    def __init__(self, held: Any, folder: str) -> None:
        import ray

        if os.path.isdir(folder):
            os.chdir(folder)  # paths are relative to where the command was given
        self.work = ray.get(held)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"result": [pickle.dumps(self.work(pickle.loads(part))) for part in batch["part"]]}
