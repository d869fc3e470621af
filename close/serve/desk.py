"""Where a request becomes work: its pictures are opened, its items join a batch, its answer is put together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from close.errors import CloseError
from close.io.files import nan_as_null
from close.registry import unknown_name
from close.serve.asked import Caption, Embed
from close.serve.batches import Batches
from close.serve.limits import Limits, RefusedError
from close.serve.served import Served, Work
from close.tasks import get_task

__all__ = ["Desk"]

OPENERS = 4
"""Threads that open pictures while the models work; only so many are there decoded at once."""


class Desk:
    """Answers requests to some runs.

    Args:
        runs: by name; the first is meant where none is named.
    """

    def __init__(self, runs: Mapping[str, Served], limits: Limits) -> None:
        self.runs, self.limits = runs, limits
        self._openers = ThreadPoolExecutor(OPENERS, "opens")
        self.batches = Batches(lambda what, items: runs[what.run].work(what, items, limits.batch_size), limits)

    def close(self) -> None:
        """Return when what was begun is done."""
        self._openers.shutdown()
        self.batches.close()

    def listed(self) -> list[dict[str, Any]]:
        """What each run says of itself."""
        return [run.about for run in self.runs.values()]

    async def caption(self, asked: Caption) -> dict[str, Any]:
        """What a run says of each item.

        Raises:
            RefusedError: there is no room. CloseError: the settings are no good, or a single item can't be read.
        """
        run = self._run(asked.run)
        task = run.task(asked.task)
        views = len(asked.images) + len(asked.texts) if asked.together else 1
        get_task(task).check_views(views, "texts" if asked.texts else "images")
        what = Work.of(run.name, "text" if asked.texts else "image", task, asked.settings, views)
        results = await self._results(run, what, asked, asked.contexts)
        empty = {"text": "", "score": None}
        outputs = [empty | {"error": None} | result | {"item": name} for name, result in results]
        return {"run": run.name, "task": task, "outputs": nan_as_null(outputs)}

    async def embed(self, asked: Embed) -> dict[str, Any]:
        """The encoder's unit vector of each item.

        Raises:
            As of `caption`.
        """
        run = self._run(asked.run)
        what = Work(run.name, "text" if asked.texts else "image")
        results = await self._results(run, what, asked, [""] * (len(asked.images) + len(asked.texts)))
        outputs = [{"embed": None, "error": None} | result | {"item": name} for name, result in results]
        about = {key: run.about[key] for key in ("encoder", "encoder_fingerprint", "embed_dim")}
        return {"run": run.name, "modality": what.modality, **about, "outputs": outputs}

    def _run(self, name: str | None) -> Served:
        if name is not None and name not in self.runs:
            raise RefusedError(404, str(unknown_name("run", name, self.runs)))
        return next(iter(self.runs.values())) if name is None else self.runs[name]

    async def _results(
        self, run: Served, what: Work, asked: Embed, contexts: Sequence[str]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Each item's name and result; of several items, those that can't be read have an error."""
        names = [*asked.texts] or [picture.name for picture in asked.images]
        with self.batches.places(len(names)):
            files = asked.texts or [picture.file() for picture in asked.images]
            opened = await asyncio.gather(*(self._opened(run, file) for file in files))
            if what.views > 1:
                wrong = next((one for one in opened if isinstance(one, CloseError)), None)
                names, opened = [" + ".join(names)], [wrong or tuple(opened)]
            good = [index for index, item in enumerate(opened) if not isinstance(item, CloseError)]
            if not good and len(opened) == 1:
                raise opened[0]
            items = [(opened[index], contexts[index]) for index in good]
            found = await asyncio.wrap_future(self.batches.put(what, items)) if items else []
        told = dict(zip(good, found, strict=True))
        return [
            (name, told[index] if index in told else {"error": str(opened[index])}) for index, name in enumerate(names)
        ]

    async def _opened(self, run: Served, file: Any) -> Any:
        if isinstance(file, str):
            return file
        return await asyncio.get_running_loop().run_in_executor(self._openers, run.opened, file)
