"""What a run would take, checked as training checks it before it begins: its examples, its steps, what would be embedded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from close.adapters.resolve import check_tables
from close.data.rows import RowFile, named_images, named_sources
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import written
from close.runs.folder import CHECKPOINTS, RUN_FILE, is_finished, started_run
from close.runs.recipe import Recipe
from close.tasks import get_task
from close.training.arguments import training_arguments
from close.training.checks import check_work, given_table
from close.training.examples import MixedDataset, pair_up
from close.training.origin import filled_in, origin_of
from close.vectors.cache import cached_folder

__all__ = ["lines_of", "plan"]


def plan(recipe: Recipe, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Check a recipe, its data and its models as `train` does, and say what training would take; nothing is embedded or written.

    Args:
        out, resume, overwrite: as `train` takes them.
    Returns:
        `folder`, and its `state` (finished, stopped, to be trained); `data`: of each file `file`, `task`, `rows`, `examples`, and
        `vectors`, how many it needs, and whether these are `embedded` already; `examples` an epoch, `batch`, those of a step,
        `steps_per_epoch`, and `steps` in all.
    Raises:
        CloseError: as `train`.
    """
    folder = Path(out)
    recipe = filled_in(recipe, folder, resume=resume)
    if not resume:
        is_finished(folder, recipe, resume=False, overwrite=overwrite)
    kept = resume and not overwrite
    state = "finished" if kept and (folder / RUN_FILE).is_file() else "to be trained"
    started = started_run(folder) if kept else None
    origin = origin_of(recipe, folder, started)
    arguments = training_arguments(recipe, folder / CHECKPOINTS, origin.weights if origin else None)
    encoder = cache(lambda: load_encoder(recipe.encoder))
    parts, columns = recipe.parts(), recipe.data.columns
    files = [open_rows(part.train, columns) for part in parts]
    val = open_rows(recipe.data.val, columns) if recipe.data.val else None
    check_work(recipe, files, val)
    if origin is None:
        check_tables(recipe.adapter, encoder)

    def about(rows: RowFile, name: str, captions: Any, table: Path | None) -> dict[str, Any]:
        named = named_sources if recipe.train_on == "text" else named_images
        place = given_table(recipe, table).path if table else cached_folder(rows, encoder(), recipe.train_on)
        whole = (Path(place) / "table.json").is_file()
        count = sum(len(named(row)) for row in rows)
        examples = len(pair_up(rows, get_task(name), captions)[0])
        found = {"file": str(rows.path), "task": name, "rows": len(rows), "examples": examples}
        return found | {"vectors": count, "embedded": whole}

    data = [about(rows, p.task, p.captions, p.embeddings) for rows, p in zip(files, parts, strict=True)]
    mixed: Any = [range(one["examples"]) for one in data]
    weights = [part.weight for part in parts]
    examples = len(mixed[0] if weights == [1] else MixedDataset(mixed, weights, recipe.seed))
    if val is not None:
        data.append(about(val, parts[0].task, parts[0].captions, None) | {"validation": True})
    return {
        "folder": str(folder),
        "state": "stopped" if started and state != "finished" else state,
        "data": data,
        "encoder": recipe.encoder,
        "examples": examples,
        **_steps(arguments, examples),
    }


def _steps(arguments: Any, examples: int) -> dict[str, int]:
    """As transformers counts them: an epoch's last step may be smaller, and is left out where that is asked for."""
    parts = arguments.gradient_accumulation_steps
    size = arguments.train_batch_size * arguments.world_size
    batches = examples // size if arguments.dataloader_drop_last else ceil(examples / size)
    each = max(ceil(batches / parts), 1)
    steps = arguments.max_steps if arguments.max_steps > 0 else ceil(arguments.num_train_epochs * each)
    return {"batch": size * parts, "steps_per_epoch": each, "steps": steps}


def lines_of(planned: Mapping[str, Any]) -> str:
    """A plan in lines: a line a file, and the steps."""
    lines = []
    for one in planned["data"]:
        use = "examples to watch" if one.get("validation") else "examples"
        to_do = "embedded already" if one["embedded"] else f"to be embedded by {planned['encoder']}"
        about = (
            f"{one['rows']:,} rows for {one['task']}, {one['examples']:,} {use}; {one['vectors']:,} vectors, {to_do}"
        )
        lines.append(f"{one['file']}: {about}")
    lines.append(
        f"{planned['examples']:,} examples an epoch, {planned['batch']:,} a step: {planned['steps_per_epoch']:,} steps an epoch, "
        f"{planned['steps']:,} in all"
    )
    lines.append(f"{planned['folder']}: {planned['state']}")
    return "\n".join(map(written, lines))
