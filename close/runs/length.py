"""How much a run tells: the length penalty with which its texts are as long as those that it learnt from.

Beam search divides a text's log-probability by its length to the power of a penalty. How long texts come out hangs on the
crossing (noise makes them short, what is left of the gap makes them long), on the length of training, on the warm-up; and CIDEr
and recall pay for it. Photos without captions show how long they come out, and that is enough to mend it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from close.data.rows import Row, evenly
from close.data.shards import is_rows, open_rows
from close.encoders import load_encoder
from close.errors import CloseError, DataError, MismatchError, RecipeError, shown
from close.io.files import write_json
from close.io.hub import own_folder
from close.io.jobs import exclusively
from close.io.media import check_photos, media_below
from close.io.parts import file_of
from close.io.plain import read_plain
from close.io.versions import versions
from close.model.sets import Sets
from close.runs.folder import open_run
from close.runs.items import expand, item_files, item_name
from close.runs.pipeline import CloseCaptioner, load
from close.runs.predict import training_file
from close.runs.recipe import Recipe
from close.tasks import Task, get_task

__all__ = ["LENGTH_FILE", "check_match", "match_length", "matched_alike", "mean_length", "outcome"]

LENGTH_FILE = "length.json"
LOWEST, HIGHEST = 0.0, 3.0
"""Below 0 a text gets no shorter: the likeliest of the beams is the shortest already."""
NEAR, TRIES = 0.02, 8
SAMPLE = 100
MOST, TIMES = 90, 2
"""How long texts are is their mean, where none counts as more than so many times what so many in 100 do not exceed."""
_SETTINGS = "generation_config.json"


def match_length(
    run: str | Path | CloseCaptioner,
    photos: str | Path | Sequence[Any],
    *,
    like: str | Path | None = None,
    task: str | None = None,
    sample: int = SAMPLE,
    batch_size: int = 32,
    save: bool = True,
    device: str | None = None,
    precision: str = "auto",
    encoder: str | None = None,
    memory: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Find the length penalty with which a run's texts of photos are as long as its training texts, and save it with the run.

    Lengths are means in which a text counts as no longer than twice what 90 in 100 do not exceed. A penalty above 1 with which
    more texts than with 1, or than one in ten, go on to max_new_tokens is not taken.

    Args:
        run: its folder, or a loaded run, which does so when it is loaded anew. photos: files or folders like those that it will
            be used on, or rows with images (and contexts, for a task that has them); what is true of them is not asked.
        like: rows whose targets are to be matched; without it, those that the run learnt from.
        task: of several, which one's texts are measured; the penalty is one for all.
        sample: photos at most, spread evenly. save: whether the run says so from now on, unless it is told otherwise at use.
        tell: told of every penalty that is tried.
    Returns:
        `length_penalty`; `before`, what the run had; `wanted`, characters of the targets; `found`, with it; `reached`, within
        2 %; what was `tried`, and how many texts were `cut` at `max_new_tokens`; `photos`, how many; sums of their names (`of`),
        `sizes` and `contexts`, where there are any, and what else was asked.
    Raises:
        RecipeError: the task's answers are a closed set, or it asks something of photos that have no contexts; or the run
            searches without beams. DataError: no photo can be read.
        MismatchError: the training file has changed or gone; give `like`.
    """
    place = own_folder(run)
    captioner = load(place, device=device, precision=precision, encoder=encoder, memory=memory)
    kind = _task(captioner, task)
    wanted = _wanted(captioner, kind, like)
    read, about = _read(captioner, kind, photos, sample, batch_size, tell)
    length = _Length(captioner, read, wanted, tell)
    tried = search(length, wanted)  # whatever the run says now: the same photos find the same again
    best = min(tried, key=lambda penalty: (abs(tried[penalty] - wanted), abs(penalty - 1)))
    reached = abs(tried[best] - wanted) <= NEAR * wanted
    before = captioner.model.generation_config.length_penalty
    about |= _asked(captioner, like, sample)
    found: dict[str, Any] = {"format": 1, "task": kind.name, **about, "length_penalty": best, "versions": versions()}
    found |= {"before": 1.0 if before is None else before, "wanted": wanted, "found": tried[best], "reached": reached}
    found |= {"tried": sorted(length.tried, key=lambda one: one["length_penalty"]), "max_new_tokens": length.longest}
    if save:
        with exclusively(place / LENGTH_FILE, "is being written"), exclusively(place / _SETTINGS, "is being written"):
            write_json(place / _SETTINGS, read_plain(place / _SETTINGS) | {"length_penalty": best})
            write_json(place / LENGTH_FILE, found)
    return found


def check_match(recipe: Recipe, photos: str | Path) -> str:
    """What `match_length` would say of a run of this recipe, before it is trained.

    Returns:
        A sum of the photos' names.
    Raises:
        RecipeError: the task's answers are a closed set, or it asks something of photos that have no contexts.
        DataError: no photo is there.
    """
    return _found(recipe, photos)["of"]


def _found(recipe: Recipe, photos: str | Path) -> dict[str, str]:
    """What `_photos_sums` says of what a run of this recipe would be matched on."""
    task = get_task(recipe.parts()[0].task)
    _open_ended(task, "the recipe")
    return _photos_sums(*_items(photos, task, load_encoder(recipe.encoder).item_suffixes))


def matched_alike(known: Mapping[str, Any], recipe: Recipe, photos: str | Path) -> bool:
    """Whether a run's length was matched as `match_length` does with nothing but these photos.

    Args:
        known: what the run's `length.json` says; what an older one does not say is not another.
    Raises:
        RecipeError, DataError: as `check_match`.
    """
    asked = {"task": recipe.parts()[0].task, "sample": SAMPLE, "precision": "auto", "like": None, "memory": None}
    return all(known.get(key, value) == value for key, value in (_found(recipe, photos) | asked).items())


def _asked(captioner: CloseCaptioner, like: str | Path | None, sample: int) -> dict[str, Any]:
    """What decides the penalty besides run, task and photos."""
    memory = captioner.memory.setting.get("memory") if captioner.memory.given else None
    wanted = None if like is None else open_rows(like).sha256
    return {"sample": sample, "precision": captioner.precision, "like": wanted, "memory": memory}


def _photos_sums(items: Sequence[Any], contexts: Sequence[str]) -> dict[str, str]:
    """Sums of the names of photos, wherever they lie, of their sizes (times are others wherever they are copied to), and of
    what is asked of them, where it is.
    """
    files = [file for item in items for file in item_files(item)]
    known = [file_of(file) if isinstance(file, (str, os.PathLike)) else None for file in files]
    sizes = (file.stat().st_size if file and file.is_file() else -1 for file in known)
    names = (Path(str(item_name(item))).name for item in items)
    told: dict[str, Iterable[str]] = {"of": names, "sizes": map(str, sizes)}
    told |= {"contexts": map(repr, contexts)} if any(contexts) else {}
    return {key: hashlib.sha256("\n".join(value).encode()).hexdigest()[:16] for key, value in told.items()}


def outcome(found: Mapping[str, Any]) -> str:
    """What came of a match, in one line or two."""
    line = (
        f"length penalty {found['length_penalty']:g}: texts of {found['photos']} photos have {found['found']:.1f} characters, "
        f"{found['wanted']:.1f} wanted"
    )
    if found["reached"]:
        return line
    wanted, best = found["wanted"], found["length_penalty"]
    if found["found"] < wanted and any(one.get("cut") for one in found["tried"] if one["length_penalty"] >= best):
        return (
            f"{line}\nwith a higher penalty texts go on to max_new_tokens, {found['max_new_tokens']}, in loops or because they "
            "are longer; a longer training ends them, and max_new_tokens in the recipe makes room"
        )
    below = [one for one in found["tried"] if one["characters"] < wanted]
    above = [one for one in found["tried"] if one["characters"] > wanted]
    if below and above:
        low, high = (f"{one['characters']:.1f} (at {one['length_penalty']:g})" for one in (below[-1], above[0]))
        return f"{line}\nthe length jumps from {low} to {high}, and the nearer is taken; more photos make it finer"
    if above:
        way = "short: the run tells more than its texts do; more noise or a shorter training tells less"
    else:
        way = "long: the run tells less than its texts do; less noise or a longer training tells more"
    return f"{line}\nno penalty makes them as {way}"


def _task(captioner: CloseCaptioner, name: str | None) -> Task:
    """The task, of which the captioner now says texts without confidence."""
    kind = captioner.use_task(name or captioner.tasks[0]).task
    _open_ended(kind, captioner.name)
    if captioner.model.generation_config.do_sample or captioner.model.generation_config.num_beams in (None, 1):
        raise RecipeError(f"{captioner.name} searches without beams, where a length penalty changes nothing")
    captioner.without_confidence()
    return kind


def _open_ended(task: Task, where: str) -> None:
    if task.labels:
        raise RecipeError(f"{where}: answers of {task.name!r} are a closed set, whose length says nothing")


def search(length: Callable[[float], float], wanted: float) -> dict[float, float]:
    """Penalties and the lengths that they make, until one is near what is wanted, or none can be.

    Args:
        length: of a penalty; the higher, the longer. First 1 is tried, then the end on the side of what is wanted, then halves.
    """
    tried = {1.0: length(1.0)}

    def near() -> bool:
        return any(abs(one - wanted) <= NEAR * wanted for one in tried.values())

    if near():
        return tried
    end = HIGHEST if tried[1.0] < wanted else LOWEST
    tried[end] = length(end)
    low, high = sorted((1.0, end))
    while not near() and tried[low] < wanted < tried[high] and len(tried) < TRIES:
        middle = (low + high) / 2
        tried[middle] = length(middle)
        low, high = (middle, high) if tried[middle] < wanted else (low, middle)
    return tried


def _read(
    captioner: CloseCaptioner, task: Task, photos: Any, sample: int, batch_size: int, tell: Callable[[str], None]
) -> tuple[list[tuple[Sets, list[str], Tensor | None]], dict[str, Any]]:
    """Vectors, contexts and what a memory is searched with, by batch; and which photos these are.

    Raises:
        DataError: none can be read; the first is named.
    """
    items, contexts = _items(photos, task, captioner.encoder.item_suffixes)
    chosen = evenly(len(items), sample)
    found, wrong = [], list[CloseError]()
    for batch in captioner.read([items[place] for place in chosen], batch_size):
        wrong += batch.errors.values()
        if batch.good:
            asked = [contexts[chosen[batch.start + place]] for place in batch.good]
            found.append((batch.sets, asked, batch.search))
    first = f", the first: {wrong[0]}" if wrong else ""
    if not found:
        raise DataError(f"{photos}: no photo could be read{first}")
    if wrong:
        tell(f"{len(wrong)} of {len(chosen)} photos could not be read{first}")
    return found, {"photos": len(chosen) - len(wrong), **_photos_sums(items, contexts)}


def _items(photos: str | Path | Sequence[Any], task: Task, suffixes: Sequence[str]) -> tuple[list[Any], list[str]]:
    """What is to be read, and a context of each.

    Raises:
        DataError: rows without images; a file or folder that is not there, or holds none.
    """
    if isinstance(photos, (str, Path)):
        check_photos(photos)
    if not isinstance(photos, (str, Path)) or not _are_rows(Path(photos), task, suffixes):
        items = expand(photos, suffixes)[0]
        if task.asks:
            raise RecipeError(
                f"task {task.name!r} asks something of each photo: give rows with images and contexts, not {shown(str(photos))}"
            )
        return items, [""] * len(items)
    rows = [row for row in open_rows(photos) if row.image is not None]
    if not rows:
        raise DataError(f"{photos}: no photo is there, and no row has an image")
    return [row.images if len(row.images) > 1 else row.image for row in rows], [task.context(row) for row in rows]


def _are_rows(place: Path, task: Task, suffixes: Sequence[str]) -> bool:
    """Whether it is rows; a folder with photos is none, whatever text lies there, where the task wants nothing but photos."""
    plain = not task.asks and task.views == 1 and place.is_dir()
    return is_rows(place) and not (plain and media_below(place, suffixes, quiet=True))


def mean_length(rows: Sequence[Row], task: Task, sample: int = 1000) -> float:
    """Mean characters of the targets of rows, of at most `sample` that are spread over them; few long ones count as shorter."""
    return _typical(len(text) for place in evenly(len(rows), sample) for text in task.targets(rows[place]))


def _typical(lengths: Iterable[int]) -> float:
    """Their mean, none counted as longer than `TIMES` what `MOST` in 100 do not exceed."""
    every = np.array(list(lengths))
    return float(np.minimum(every, TIMES * np.percentile(every, MOST, method="lower")).mean())


class _Length:
    """How long a run's texts are with a penalty, for `search`: without end where the penalty is not to be taken.

    Attributes:
        tried: what was found of each. longest: tokens of a text at most.
    """

    def __init__(
        self, captioner: CloseCaptioner, read: Sequence[Any], wanted: float, tell: Callable[[str], None]
    ) -> None:
        self.captioner, self.read, self.wanted, self.tell = captioner, read, wanted, tell
        self.longest: int | None = captioner.model.generation_config.max_new_tokens
        self.tried: list[dict[str, Any]] = []

    def __call__(self, penalty: float) -> float:
        said = [
            answer.text
            for sets, contexts, search in self.read
            for answer in self.captioner.answer(sets, contexts, search=search, length_penalty=penalty)
        ]
        length, cut = _typical(map(len, said)), sum(map(self._is_cut, said))
        self.tried.append({"length_penalty": penalty, "characters": length, "cut": cut})
        ends = f"; {cut} of {len(said)} go on to max_new_tokens, {self.longest}" if cut else ""
        self.tell(f"length penalty {penalty:g}: {length:.1f} characters, {self.wanted:.1f} wanted{ends}")
        first = self.tried[0]["cut"]  # of penalty 1
        return math.inf if penalty > 1 and cut > min(first, len(said) // 10) else length

    def _is_cut(self, text: str) -> bool:
        """Whether it is as long as texts can be, as far as its tokens can be told from it: within a twentieth."""
        tokens = self.captioner.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.longest is not None and len(tokens) + 1 >= 0.95 * self.longest


def _wanted(captioner: CloseCaptioner, task: Task, like: str | Path | None) -> float:
    """What the targets of `like` have, or of what the run learnt from."""
    if like is not None:
        return mean_length(open_rows(like), task)
    parts = open_run(captioner.name)["train"]
    kept: dict[str, Any] = next((part for part in parts if part["task"] == task.name), {})
    if "length" in kept:
        return float(kept["length"])
    try:
        found = training_file(captioner.name, task, "--like ROWS")
    except MismatchError:
        if "characters" in kept:  # of an older run: a plain mean
            return float(kept["characters"])
        raise
    if found is None:
        raise RecipeError(f"{captioner.name} was not trained on {task.name!r}; say whose length to match (--like ROWS)")
    return mean_length(open_rows(*found), task)
