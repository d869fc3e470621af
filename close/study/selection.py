"""Choosing among runs (adapter, noise, epochs) without a single image.

A run is shown what stands in for images (`close.runs.stand_ins`), through the same door, and what it says is scored against the
image's captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from close.data.shards import open_rows
from close.evaluation.images import select_rows
from close.evaluation.metrics import METRICS
from close.evaluation.scores import score_rows
from close.io.files import write_json
from close.io.keys import file_key
from close.io.record import code_sums
from close.io.versions import versions
from close.plugins import plugin_code
from close.runs.evaluate import code_behind, plain_search, searched_alike
from close.runs.evaluations import is_fed, kept_scores, table_sum
from close.runs.folder import open_run
from close.runs.pipeline import CloseCaptioner, load
from close.runs.predict import by_length, doing, named_task
from close.runs.row_vectors import given_table
from close.runs.stand_ins import STAND_INS, stand_ins, unpaired_images
from close.tasks import get_task
from close.vectors.table import EmbeddingTable

__all__ = ["best", "saved_selection", "selection_score"]


def selection_score(
    run: str | Path | CloseCaptioner,
    data: str | Path,
    *,
    image: str | Path | None = None,
    vectors: str | Path | EmbeddingTable | None = None,
    seed: int = 0,
    batch_size: int = 64,
    **generation: Any,
) -> dict[str, Any]:
    """Score a run on texts that stand in for images.

    Args:
        run: a run's folder, or a loaded one; of several tasks it does the one that the rows name.
        data: validation rows (see `select_rows`), best with several captions an image.
        image: a table (or `.npy`) of images that nothing is known of; without it, no image is needed.
        vectors: a table that holds the vectors of all captions, in place of what the encoder makes of them.
        seed: of the directions of the gap, where images don't tell it.
    Returns:
        `scores` as `evaluate` gives them, beside data, hash, number of rows, `image`, what tells its state (`image_key`), and
            what the stand-ins are (`stand_in`).
    Raises:
        DataError: rows that tell nothing of an image but their source, or a caption that is not among the vectors.
        MismatchError: the images, or the vectors, are of another encoder.
        RecipeError: the run learnt several tasks, and the rows do not all name one.
    """
    captioner = run if isinstance(run, CloseCaptioner) else load(run)
    generation = plain_search(captioner, generation)
    rows = open_rows(data)
    own = named_task(rows, captioner.tasks, captioner.name) if captioner.instructs else captioner.task.name
    with doing(captioner, own) as task:
        told = select_rows(rows, task)
        config = captioner.model.config
        given = None if vectors is None else given_table(vectors, "text", config, rows)
        theirs = SimpleNamespace(name=config.encoder, fingerprint=config.encoder_fingerprint)
        images = unpaired_images(Path(image), theirs) if image is not None else None
        found = stand_ins(
            told, task, captioner.encoder if given is None else given, images, several=config.several, seed=seed
        )
        shown, search = torch.from_numpy(found.vectors), None
        if other := captioner.memory.search:  # its memory lies in another encoder's space, where no images are known
            search = torch.from_numpy(stand_ins(told, task, other(), seed=seed).vectors)
        said = _said(captioner, [task.context(row) for row in told], shown, search, batch_size, generation)
        scores, _ = score_rows(task, told, said, tokenizer="python")
        return {
            "data": str(data),
            "data_sha256": rows.sha256,
            "rows": len(told),
            "task": task.name,
            "image": None if image is None else str(image),
            "image_key": _key(image),
            **({} if given is None else {"vectors": {"table": str(given.path), "sum": table_sum(given)}}),
            "seed": seed,
            "stand_in": found.made_of,
            "generation": captioner.model.generation_config.to_diff_dict() | generation,
            **code_behind(captioner.folder, task),
            "primary": METRICS.primary(task.metric),
            "scores": scores,
        }


def _said(
    captioner: CloseCaptioner,
    contexts: Sequence[str],
    shown: Tensor,
    search: Tensor | None,
    batch_size: int,
    generation: Mapping[str, Any],
) -> list[str]:
    """One text of each of (N, D) vectors that are shown, with its context, and what its memory is searched with, if another."""
    said: dict[int, str] = {}
    for batch in by_length(contexts, batch_size):
        asked, wanted = [contexts[i] for i in batch], None if search is None else search[batch]
        outputs = captioner.generate(shown[batch], asked, search=wanted, **generation)
        said |= {i: text for i, (text, _) in zip(batch, outputs, strict=True)}
    return [said[i] for i in range(len(contexts))]


def _key(image: str | Path | None) -> str | None:
    """What tells whether a table is still what it was."""
    return None if image is None else f"{file_key(Path(image)):016x}"


def saved_selection(
    run: Path, data: Path, *, image: Path | None = None, vectors: EmbeddingTable | None = None
) -> dict[str, Any]:
    """`selection_score` of a run's folder, kept in it, and made only once for the same rows, images, vectors and generation."""
    kind = "unpaired" if image else "text"
    place = run / "evaluations" / f"{data.stem}-{kind}-selection" / "scores.json"
    found = kept_scores(place)
    rows, tasks = open_rows(data), open_run(run)["tasks"]
    if found and len(tasks) == 1:  # of which older ones did not say it
        found.setdefault("task", tasks[0])
    wanted: dict[str, Any] = {"data_sha256": rows.sha256, "task": named_task(rows, tasks, str(run))}
    wanted["image_key"] = _key(image)
    made_of = {STAND_INS["text"], STAND_INS[kind]}  # the rows say which
    kept = {key: found.get(key) for key in wanted} == wanted and found.get("stand_in") in made_of
    kept = kept and is_fed(found, vectors)
    kept = kept and plugin_code(code_behind(run, get_task(wanted["task"]))) <= plugin_code(found)
    if kept and searched_alike(found.get("generation"), run):
        return found
    found = selection_score(run, data, image=image, vectors=vectors) | {"versions": versions(), "code": code_sums()}
    write_json(place, found)
    return found


def best(scores: Mapping[str, Sequence[float]], *, higher_is_better: bool = True) -> str:
    """The name whose mean over seeds is best; the first of equals."""
    choose = max if higher_is_better else min
    return choose(scores, key=lambda name: sum(scores[name]) / len(scores[name]))
