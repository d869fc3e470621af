"""What a run learns from: whether that is still what lies there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any

from close.data.shards import is_rows, open_rows
from close.io.files import files_below
from close.io.keys import file_key
from close.io.parts import file_of
from close.io.places import moved_reference
from close.plugins import changed_plugins
from close.runs.recipe import Recipe
from close.vectors.table import EmbeddingTable

__all__ = ["changed_source", "sum_of", "sums_beside", "weights_sum"]

_OF_MODELS = (".bin", ".json", ".model", ".pt", ".pth", ".py", ".safetensors", ".txt")
"""Endings of a model's files that decide what it does; a page about it does not."""
_WEIGHTS = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "consolidated*.safetensors")
"""Other forms of weights, which are not loaded where `.safetensors` lie beside them."""
_NEVER_LOADED = (
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "training_args.bin",
    "trainer_state.json",
    "*_results.json",
    "LICENSE*",
)
_NOT_OF_MODELS = ("checkpoint-*", "runs", "original", "onnx", "openvino")
"""Folders in a model's, of its training or of others' forms of it."""


def sums_beside(recipe: Recipe) -> dict[str, str]:
    """What a recipe names beside its rows to learn from: by path in full, a SHA-256 of its content, "" of what is no file.

    That is embedding tables, what adapters are fitted on or loaded from, the memory and its words, models in directories, files
    of settings, and where they choose the weights, validation rows; and sizes of the pictures that are embedded.
    """
    return {name: made() for name, made in _beside(recipe).items()}


def changed_source(recipe: Recipe, info: Mapping[str, Any]) -> Path | str | None:
    """The first of what a run was trained on, or with the code of, that is there, and is another one now.

    Args:
        recipe: its own. info: what its `run.json` says: `train`, `init_from`, `beside`, the sums of `sums_beside` where it has
            them, and what is kept of its plug-ins (`plugins_said`), under `best` of that which chose its weights.
    """
    parts, beside = (found if isinstance(found := info.get(key), list) else [] for key in ("train", "beside"))
    for part, about in zip(recipe.parts(), parts, strict=False):
        known = about.get("sha256") if isinstance(about, dict) else None
        if known and part.train.exists() and known != sum_of(part.train, recipe.data.columns):
            return part.train
    for (name, made), known in zip(_beside(recipe).items(), beside, strict=False):  # of before, fewer
        if known and (now := made()) and known != now:
            return name
    origin, run = info.get("init_from"), recipe.init_from
    known = origin.get("sha256") if isinstance(origin, dict) else None
    if run and known and (run / "config.json").is_file() and known != weights_sum(run):
        return run
    best = found if isinstance(found := info.get("best"), dict) else {}
    return next(iter([*changed_plugins(info), *changed_plugins(best)]), None)


def _beside(recipe: Recipe) -> dict[str, Callable[[], str]]:
    """By path in full, what tells its sum; what came later stands last, for runs of before say theirs in this order.

    However a file is spelled it is one: sums are compared by their place here.
    """
    from close.adapters.resolve import files_in  # torch, which who only opens a run's folder need not wait for
    from close.retrieval.memory import memory_place

    retrieve, places = recipe.retrieve, [*map(Path, files_in(recipe.adapter))]
    places += [part.embeddings for part in recipe.parts() if part.embeddings]
    if retrieve and (memory := retrieve.memory):
        places += [memory_place(memory) if memory.exists() else memory]
    places += [retrieve.texts] if retrieve and retrieve.texts else []
    found: list[tuple[str, Callable[[], str]]]
    found = [(_full(place), partial(_sum_there, place, recipe.columns_of(place))) for place in places]
    more: list[tuple[str, Callable[[], str]]] = [(_full(one), partial(_sum_there, one)) for one in _settings(recipe)]
    more += [(moved_reference(one, _full), partial(_model_sum, one)) for one in _models(recipe)]
    val, images = recipe.data.val, recipe.data.val_images
    if val and _chooses(recipe):
        more.append((_full(val), partial(_sum_there, val, recipe.data.columns)))
        more += [(_full(images), partial(_sum_there, images))] if images else []
    more += [(f"{_full(one)} (pictures)", partial(_sizes, one, recipe.data.columns)) for one in _pictured(recipe)]
    each = dict[str, tuple[str, Callable[[], str]]]()
    for name, made in [*found, *more]:
        each.setdefault(os.path.realpath(name) if os.path.isabs(name) else name, (name, made))
    return dict(each.values())


def _full(place: str | Path) -> str:
    return os.path.abspath(place)


def _models(recipe: Recipe) -> Iterator[str]:
    """References of the models that it learns with; the language model of a run that begins from another is that one's."""
    yield recipe.encoder
    if recipe.init_from is None:
        yield recipe.language_model
    if recipe.retrieve and recipe.retrieve.encoder:
        yield recipe.retrieve.encoder


def _settings(recipe: Recipe) -> Iterator[Path]:
    """Files of settings that it names."""
    more = recipe.training.model_extra or {}
    named = [more.get(key) for key in ("deepspeed", "fsdp_config", "accelerator_config")]
    named += [recipe.retrieve.language if recipe.retrieve else None]
    yield from (Path(name) for name in named if isinstance(name, str) and name.endswith((".json", ".toml")))


def _chooses(recipe: Recipe) -> bool:
    """Whether validation rows decide weights, and are not only watched."""
    section, more = recipe.training, recipe.training.model_extra or {}
    if section.metric_for_best is not None or more.get("load_best_model_at_end"):
        return True
    return more.get("lr_scheduler_type") == "reduce_lr_on_plateau"


def _pictured(recipe: Recipe) -> Iterator[Path]:
    """Rows whose pictures are embedded, and decide weights."""
    on_images = recipe.train_on == "image"
    yield from (part.train for part in recipe.parts() if on_images and not part.embeddings)
    if recipe.data.val and _chooses(recipe) and (on_images or recipe.training.metric_for_best not in (None, "loss")):
        yield recipe.data.val


def _sizes(place: Path, columns: Mapping[str, str | int] | None) -> str:
    """A SHA-256 of the pictures' sizes: times are others wherever data are copied to; "" where one is not there."""
    if not os.path.exists(place):
        return ""
    files = dict.fromkeys(file_of(path) for row in open_rows(place, columns) for path in row.images)
    try:
        sizes = [os.stat(file).st_size for file in files]
    except OSError:
        return ""
    return hashlib.sha256(str(sizes).encode()).hexdigest()


def _model_sum(reference: str) -> str:
    """A SHA-256 of what a reference names on disk; "" of what lies elsewhere."""
    named = list[str]()

    def keep(place: str) -> str:
        named.append(place)
        return place

    moved_reference(reference, keep)
    place = Path(named[0]) if named else None
    return _contents(_loaded(place)) if place and os.path.exists(place) else ""


def _loaded(place: Path) -> list[Path]:
    """A model's files, without what is never loaded and weights in a second form."""
    if not place.is_dir():
        return [place]
    found = dict[Path, list[Path]]()
    for file in files_below(place):
        inner = file.relative_to(place).parts
        apart = any(name.startswith(".") for name in inner) or any(_is_one(name, _NOT_OF_MODELS) for name in inner[:-1])
        if file.suffix in _OF_MODELS and not apart and not _is_one(file.name, _NEVER_LOADED):
            found.setdefault(file.parent, []).append(file)
    kept = list[Path]()
    for files in found.values():
        first = [file for file in files if not _is_one(file.name, _WEIGHTS)]
        whole = any(file.suffix == ".safetensors" and not file.name.startswith("adapter_") for file in first)
        kept += first if whole else files
    return kept


def _is_one(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def weights_sum(run: Path) -> str:
    """A SHA-256 of a run's configuration and weights."""
    return _contents([run / "config.json", *run.glob("*.safetensors")])


def _contents(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(_digest(file, file_key(file)) for file in sorted(files))).hexdigest()


@cache
def _digest(file: Path, key: int) -> bytes:
    """Read once as long as it is the same: weights are long."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _sum_there(place: Path, columns: Mapping[str, str | int] | None = None) -> str:
    return sum_of(place, columns) if os.path.exists(place) else ""


def sum_of(place: Path, columns: Mapping[str, str | int] | None = None) -> str:
    """A SHA-256 of rows, of a table, or of all files of something else; read once as long as it is the same."""
    return _sum(place, file_key(place), tuple((columns or {}).items()))


@cache
def _sum(place: Path, key: int, columns: tuple[tuple[str, str | int], ...]) -> str:
    if is_rows(place):
        return open_rows(place, dict(columns) or None).sha256
    if (place / "table.json").is_file():
        return str(EmbeddingTable(place).info.get("plan"))  # of what it was made: the same vectors, wherever made
    found = hashlib.sha256()
    for file in files_below(place) if place.is_dir() else [place]:
        found.update(f"{file.relative_to(place)}\0".encode("utf-8", "surrogateescape"))
        found.update(_digest(file, file_key(file)))
    return found.hexdigest()
