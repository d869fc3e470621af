"""close caption."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from close.cli.looks import look_at, look_at_items
from close.cli.options import (
    Address,
    BatchSize,
    Beams,
    Device,
    EngineName,
    LengthPenalty,
    Memory,
    MovedEncoder,
    Precision,
    Run,
    Verb,
    Workers,
    check_outputs,
    pick_engine,
    verb,
)
from close.cli.outputs import Told, print_lines, unread, write_lines, write_page
from close.errors import DataError, written

if TYPE_CHECKING:
    from close.io.results import ResultFile
    from close.runs.pipeline import CloseCaptioner, Output
    from close.runs.vector_items import VectorItems

__all__ = ["register"]

SHOWN = 1000
"""Pictures of a page, which holds small copies of them."""
Things = Annotated[
    list[Path] | None, typer.Argument(help="Images, or recordings for an encoder of sound, or folders of these.")
]
Ranking = Annotated[
    Literal["clip"] | None,
    typer.Option(help="clip: say the candidate (of --n, or five) whose text the encoder finds nearest to the image."),
]
Out = Annotated[
    Path | None, typer.Option(help="Write to this .jsonl or .parquet; the same command continues a stopped one.")
]
Candidates = Annotated[
    int | None,
    typer.Option("--n", min=1, max=100, help="Distinct candidates of each, best first: of the beams, or samples."),
]
JsonLines = Annotated[bool, typer.Option("--json", help="JSON on stdout, a line an item.")]
Sure = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Leave out what is less sure, of a run that `close calibrate` has seen."),
]
Vectors = Annotated[
    Path | None, typer.Option(help="In place of images: an embedding table, a .npy file or a folder of these.")
]
Together = Annotated[
    bool,
    typer.Option(
        "--together",
        help="Each folder is one item of several images (views, frames of a film), and the files named are one.",
    ),
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help="What is in boxes: JSON of COCO, a detector or Visual Genome, rows, or \\[left, top, width, height] of one picture."
    ),
]
Tiles = Annotated[
    str | None, typer.Option(metavar="ROWSxCOLUMNS", help="Each picture is an item of itself and its tiles: 2x2.")
]
Frames = Annotated[
    int | None,
    typer.Option(min=1, help="Of each film, or folder of a film's frames, at even distances: one item. 8 of a film."),
]
Page = Annotated[
    Path | None,
    typer.Option("--html", help=f"A page of the pictures with what is said of them, of the first {SHOWN:,} at most."),
]
Side = Annotated[
    Literal["text", "image"] | None,
    typer.Option(help="With --vectors: the side of the adapter; without it, a table's own, image for .npy."),
]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(cls=_OfItems)(verb(caption))


class _OfItems(Verb):
    def instead(self, name: str, value: str) -> str | None:
        """Items have no name."""
        given = name.removesuffix("s") in ("image", "input", "photo", "picture")
        return "pictures are given without a name, after the run" if given else None


def caption(
    run: Run,
    items: Things = None,
    task: Annotated[str | None, typer.Option(help="Of a run that learnt several; its first without it.")] = None,
    context: Annotated[str, typer.Option(help="Question, hypothesis or article, for tasks that have one.")] = "",
    n: Candidates = None,
    rerank: Ranking = None,
    min_confidence: Sure = None,
    together: Together = False,
    boxes: Boxes = None,
    tiles: Tiles = None,
    frames: Frames = None,
    vectors: Vectors = None,
    modality: Side = None,
    num_beams: Beams = None,
    length_penalty: LengthPenalty = None,
    sample: Annotated[bool, typer.Option("--sample", help="Sample instead of searching.")] = False,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="With --sample.")] = None,
    temperature: Annotated[float | None, typer.Option(help="With --sample.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="With --sample; 0 without it.")] = None,
    batch_size: BatchSize = 32,
    device: Device = None,
    precision: Precision = "auto",
    encoder: MovedEncoder = None,
    memory: Memory = None,
    as_json: JsonLines = False,
    out: Out = None,
    html: Page = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Say what the model says of each image, recording or vector; unreadable ones are named, the others still done.

    A line is: item, score, with --rerank the cosine, of a calibrated run the confidence, text; with --n there is a line a
    candidate. The score is how sure the model is, the mean log-probability of the text's tokens: 0 is certain, -0.1 is 90 % a
    token. It ranks what one run says, and is no measure of truth; confidence is one, the share of such outputs that was right.
    """
    parts = {"together": together, "boxes": boxes, "tiles": tiles, "frames": frames, "html": html}
    _check_usage(items, vectors, modality, parts, out if as_json else None)
    found: dict[str, Any] = {"n": n, "rerank": rerank, "min_confidence": min_confidence}
    found |= {"length_penalty": length_penalty, "context": context, "batch_size": batch_size}
    settings = _generation(sample, seed, **found, num_beams=num_beams, top_p=top_p, temperature=temperature)
    spread = pick_engine(engine, workers, address, device)
    check_outputs([out, html], [*(items or []), vectors, boxes, memory])
    run, task = _found(run, task, vectors, [] if out or as_json or any(parts.values()) else items or [])
    model = _loaded(run, task, device=device, precision=precision, encoder=encoder, memory=memory)
    source = _source(vectors, model, modality) if vectors else None
    model.check_parts(boxes=boxes is not None, tiles=tiles is not None, frames=frames is not None)
    many = range(len(source)) if source else _items(items or [], model, boxes, tiles, together=together, frames=frames)
    _check_page(html, many)
    say, told = _sayer(model, spread, many, settings | ({"source": source} if source else {})), Told(bool(html) * SHOWN)
    file = _file(out, model, many, source, settings | model.memory.setting, told) if out else nullcontext()
    with file as results:
        if results is None:
            print_lines(say(0), told, as_json, n)
        else:
            write_lines(results, say, told, len(many), "vectors" if source else model.encoder.items)
        write_page(html, model, many, told.rows)  # while a file is not whole: then the same command is refused
    told.finish(len(many), n, min_confidence, out)


def _generation(sample: bool, seed: int | None, **given: Any) -> dict[str, Any]:
    """What was given of generation's settings."""
    if seed is not None and not sample:
        raise typer.BadParameter("it goes with --sample", param_hint="--seed")
    if sample:
        given |= {"do_sample": True, "num_beams": given["num_beams"] or 1, "seed": seed or 0}
    return {key: value for key, value in given.items() if value is not None}


def _check_usage(
    items: list[Path] | None,
    vectors: Path | None,
    modality: str | None,
    parts: Mapping[str, Any],
    lines: Path | None,
) -> None:
    """Refuse options that do not go together.

    Args:
        parts: together, boxes, tiles, frames, html: what is about pictures. lines: the file, where lines are asked for too.
    """
    from close.data.shards import is_rows

    boxes, tiles = parts["boxes"], parts["tiles"]
    for item in items or ():
        if not item.is_dir() and is_rows(item):
            raise typer.BadParameter(
                f"{item} holds rows: close evaluate says what the run says of theirs", param_hint="ITEMS"
            )
    if bool(items) == bool(vectors) and not (boxes and not items):
        raise typer.BadParameter("give images or vectors (--vectors), one of the two", param_hint="ITEMS")
    for name, given in parts.items():
        if given and vectors:
            raise typer.BadParameter("it is about pictures; a table knows its items", param_hint=f"--{name}")
    if boxes and parts["together"]:
        raise typer.BadParameter(
            "each box is an item of its own, and --together makes one of all", param_hint="--boxes"
        )
    if boxes and len(items or ()) > 1:
        raise typer.BadParameter(
            "give one picture, or the folder that the boxes' pictures are in", param_hint="--boxes"
        )
    if tiles and not re.fullmatch(r"\d{1,3}[xX]\d{1,3}", tiles):
        raise typer.BadParameter(f"rows and columns as 2x2, not {tiles!r}", param_hint="--tiles")
    if modality and not vectors:
        raise typer.BadParameter("it goes with --vectors; images pass the image side", param_hint="--modality")
    if lines:
        raise typer.BadParameter(f"{lines} takes the lines: leave one of the two out", param_hint="--json")


def _check_page(html: Path | None, items: Sequence[Any]) -> None:
    """Refuse a page in the place of a picture, which may lie in a folder that is captioned."""
    if html is not None and html.exists():
        from close.io.parts import file_of
        from close.runs.items import item_files

        files = {file_of(file) for item in items for file in item_files(item)}
        check_outputs([html], (file for file in files if file.suffix == html.suffix))


def _found(run: Path, task: str | None, vectors: Path | None, items: Sequence[Path]) -> tuple[Path, str]:
    """The run's folder, and one of its tasks, before all is loaded.

    Args:
        items: of which lines are wanted, and nothing else: where none is there, no more is to be told.
    Raises:
        MissingError: there is no run, or no table. UnknownNameError: the run has not learnt the task. PartialError: of the items.
    """
    from close.io.hub import run_folder
    from close.runs.folder import open_run, task_among

    run = run_folder(run)
    about = open_run(run)
    task = task_among(about["tasks"], task)
    look_at(vectors=vectors)
    if not about.get("plugins") and (gone := look_at_items(items)):  # an encoder of one's own may open what is no file
        raise unread(gone, len(items))
    return run, task


def _loaded(run: Path, task: str, **settings: Any) -> CloseCaptioner:
    from close.runs.pipeline import load

    return load(run, **settings).use_task(task)


def _source(vectors: Path, model: CloseCaptioner, modality: Any) -> VectorItems:
    """The vectors that are given in place of pictures.

    Raises:
        DataError: there are none.
    """
    from close.runs.vector_items import VectorItems

    source = VectorItems(vectors, model.model.config, model.name, modality)
    if not len(source):
        raise DataError(f"{vectors}: there are no vectors in it")
    return source


def _items(
    items: list[Path], model: CloseCaptioner, boxes: Path | None, tiles: str | None, **how: Any
) -> Sequence[Any]:
    """What is to be captioned: pictures, films, boxes or tiles."""
    from close.data.readers import named_boxes
    from close.runs.items import expand, tiled

    if boxes:
        many: Sequence[Any] = named_boxes(boxes, items[0] if items else None)
    else:
        many = expand(items, model.encoder.item_suffixes, **how)[0]
    if not tiles:
        return many
    return [tiled(item, tiles) for item in many]


def _sayer(
    model: CloseCaptioner, spread: Any, many: Sequence[Any], settings: dict[str, Any]
) -> Callable[[int], Iterator[Output]]:
    """What says something of items from one on, here or `spread` over the processes of a cluster."""
    from close.runs.candidates import check_candidates, check_search
    from close.runs.items import draw_seeds, item_name

    candidates = check_candidates(settings.get("n"), settings.get("rerank"), {}) or 1
    check_search(model.model.generation_config, settings, candidates)  # before a file is begun
    others = {key: value for key, value in settings.items() if key not in ("context", "seed")}
    context, seed, size = settings["context"], settings.get("seed"), settings["batch_size"]
    name = settings["source"].name if "source" in settings else item_name

    def say(start: int) -> Iterator[Output]:
        from close.encoders.base import windows

        # of all items, those that were said before too: one that is listed twice is drawn twice
        seeds = None if seed is None else draw_seeds(seed, map(name, many), repeat(context))[start:]
        items = many[start:]
        if spread is map:
            return model.stream(items, [context] * len(items), seed=seeds, **others)
        own = repeat(None) if seeds is None else windows(seeds, size)
        parts = list(zip(windows(items, size), own, strict=False))
        return chain.from_iterable(spread(partial(_part, model, {"context": context, **others}), parts))

    return say


def _part(model: CloseCaptioner, settings: dict[str, Any], part: tuple[list[Any], list[int] | None]) -> list[Output]:
    """What one process says of its items, whose draws start from these seeds."""
    items, seeds = part
    return model.outputs(items, seed=seeds, **settings)


def _file(
    out: Path,
    model: CloseCaptioner,
    items: Sequence[Any],
    source: VectorItems | None,
    settings: dict[str, Any],
    told: Told,
) -> AbstractContextManager[ResultFile]:
    """The file of results, open for what it lacks; what it has is told too."""
    from close.io.keys import file_key, files_key
    from close.io.results import ResultFile
    from close.runs.confidence import calibration_sums
    from close.runs.items import item_files, item_name

    given = [written(source.rows.path), source.modality, *map(str, items)] if source else list(map(item_name, items))
    names = hashlib.sha256("\n".join(given).encode()).hexdigest()
    about = {**_made_by(model, source), "items": names, **settings, **calibration_sums(model.folder)}
    about |= {"draws": 2} if "seed" in settings else {}  # of a seed: once, they were others
    keys = (
        [file_key(source.rows.path)] * len(items)
        if source
        else [files_key([Path(file) for file in item_files(item)]) for item in items]
    )
    return ResultFile(out, about, unit=int(settings["batch_size"]), keys=keys, kept=told.note)()


def _made_by(model: CloseCaptioner, source: VectorItems | None) -> dict[str, Any]:
    """What decides a text beside its item and what is asked: the run, its task, how it searches, what numbers are computed in."""
    from close.plugins import plugin_code
    from close.runs.folder import RUN_FILE, code_of

    run, numbers = Path(model.name), [model.precision, str(model.model.prefix.weight.dtype)]
    numbers += [] if source else [model.encoder.precision]
    files = (run / name for name in (RUN_FILE, "generation_config.json"))
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
    other = {} if model.task.name == model.tasks[0] else {"task": model.task.name}
    code = sorted(plugin_code(code_of(run)))
    return {"run": str(run), "precision": numbers, **sums, **other, **({"code": code} if code else {})}
