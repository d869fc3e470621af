"""What a run would take, checked as training checks it before it begins: its examples, its steps, what would be embedded."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from close.data.rows import Modality, RowFile
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import written
from close.io.jobs import is_under_way
from close.io.keys import file_key, text_key
from close.retrieval.memory import Memory, memory_place, memory_rows
from close.retrieval.settings import Retrieval
from close.runs.recipe import Recipe
from close.runs.row_vectors import embeddings_of
from close.training.beginning import Beginning, Part, begun
from close.training.processes import ended_together, is_first
from close.vectors.build import images_of
from close.vectors.cache import cached_folder
from close.vectors.table import FAILURES

__all__ = ["lines_of", "plan"]


@ended_together()
def plan(
    recipe: Recipe, out: str | Path, *, resume: bool = False, overwrite: bool = False, embed_memory: bool = False
) -> dict[str, Any]:
    """Check a recipe, its data and its models as `train` does, and say what training would take.

    Nothing is embedded, and nothing written but for the rows of Parquet, which the cache keeps as they are read. No picture is
    opened, and no memory is searched.

    Args:
        out, resume, overwrite, embed_memory: as `train` takes them.
    Returns:
        `folder`, and its `state` (finished, stopped, to be trained, or being trained by another process); if it is not finished,
        `data`: of each file `file`, `task`, `rows`, `examples`, `vectors`, how many distinct ones it needs, and whether these are
        `embedded` already; `beside`: the same of what else is embedded, and `use`, what for; `examples` an epoch, `batch`, those
        of a step, `steps_per_epoch`, and `steps` in all.
    Raises:
        CloseError: as `train`, before it embeds.
    """
    folder = Path(out)
    work = begun(recipe, folder, resume=resume, overwrite=overwrite, embed_memory=embed_memory)
    if work is None:
        return {"folder": str(folder), "state": "finished"}
    state = "stopped" if work.started else "to be trained"
    state = "being trained" if is_first() and is_under_way(folder) else state
    data = [_about(part, work) for part in work.parts]
    data += [_about(work.val, work) | {"validation": True}] if work.val else []
    return {
        "folder": str(folder),
        "state": state,
        "data": data,
        "beside": _beside(work),
        "encoder": work.recipe.encoder,
        "examples": work.examples,
        **_steps(work),
    }


def _about(part: Part, work: Beginning) -> dict[str, Any]:
    rows, recipe = part.rows, work.recipe
    about = {"file": str(rows.path), "task": part.section.task, "rows": len(rows), "examples": len(part.pairs[0])}
    if part.given is None:
        return about | _vectors(rows, work.encoder(), recipe.train_on)
    known = embeddings_of(rows, part.task, part.given, recipe.several)
    return about | {"vectors": len(np.unique(known.vectors)), "embedded": True}


def _vectors(rows: RowFile, encoder: ContrastiveEncoder, modality: Modality) -> dict[str, Any]:
    """How many distinct vectors rows need, and whether all are there; what could not be read is tried again."""
    if modality == "text":
        keys = {text_key(text) for row in rows for text in row.source}
    else:
        keys = {file_key(path) for _, path in images_of(rows)}
    place = cached_folder(rows, encoder, modality)
    whole = (place / "table.json").is_file() and not (place / FAILURES).is_file()
    return {"vectors": len(keys), "embedded": whole}


def _beside(work: Beginning) -> list[dict[str, Any]]:
    """What is embedded beside the rows: those of the memory, and in the encoder that it is searched in both."""
    recipe, section = work.recipe, work.recipe.retrieve
    if section is None:
        return []
    given, own = work.parts[0].given, section.memory is None and section.encoder is None
    if own and recipe.train_on == "text" and (given is None or Memory.may_be(given)):
        return []  # the rows' own table, for which no encoder need be here
    encoders = {recipe.encoder: work.encoder()}
    wanted: list[tuple[str, RowFile, str, Modality]] = []
    memory: RowFile | None = work.parts[0].rows
    if section.memory is not None:
        memory = memory_rows(memory_place(section.memory), recipe.columns_of(section.memory))
    if section.encoder is not None:
        encoders[section.encoder] = load_encoder(section.encoder)
        if Retrieval.of(recipe.retrieval or {}).searches:
            wanted = [("to search with", part.rows, section.encoder, recipe.train_on) for part in work.every]
    if memory is not None:
        wanted = [("memory", memory, name, "text") for name in encoders] + wanted
    told = {cached_folder(part.rows, work.encoder(), recipe.train_on) for part in work.every if part.given is None}
    found = []
    for use, rows, name, modality in wanted:
        if (place := cached_folder(rows, encoders[name], modality)) not in told:
            about = {"file": str(rows.path), "use": use, "rows": len(rows), "encoder": name}
            found.append(about | _vectors(rows, encoders[name], modality))
            told.add(place)
    return found


def _steps(work: Beginning) -> dict[str, int]:
    """As transformers counts them: an epoch's last step may be smaller, and is left out where one process is asked to."""
    arguments, examples = work.arguments, work.examples
    parts, size = arguments.gradient_accumulation_steps, arguments.train_batch_size * arguments.world_size
    if arguments.dataloader_drop_last and arguments.world_size == 1:  # several processes fill their last step
        examples -= examples % size
    each = ceil(examples / (size * parts))
    steps = arguments.max_steps if arguments.max_steps > 0 else ceil(arguments.num_train_epochs * each)
    return {"batch": size * parts, "steps_per_epoch": each, "steps": steps}


def lines_of(planned: Mapping[str, Any]) -> str:
    """A plan in lines: a line a file, and the steps."""
    lines = []
    for one in [*planned.get("data", ()), *planned.get("beside", ())]:
        use = f"rows, {one['use']}" if "use" in one else f"rows for {one['task']}, {one['examples']:,} examples"
        use += " to watch" if one.get("validation") else ""
        to_do = "embedded already" if one["embedded"] else f"to be embedded by {one.get('encoder', planned['encoder'])}"
        lines.append(f"{one['file']}: {one['rows']:,} {use}; {one['vectors']:,} vectors, {to_do}")
    if "steps" in planned:
        lines.append(
            f"{planned['examples']:,} examples an epoch, {planned['batch']:,} a step: {planned['steps_per_epoch']:,} steps an "
            f"epoch, {planned['steps']:,} in all"
        )
    lines.append(f"{planned['folder']}: {planned['state']}")
    return "\n".join(map(written, lines))
