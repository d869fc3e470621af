"""close caption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from close.cli.options import (
    Address,
    BatchSize,
    Beams,
    Device,
    EngineName,
    MovedEncoder,
    Precision,
    Workers,
    pick_engine,
    verb,
)
from close.errors import PartialError
from close.io.files import nan_as_null
from close.io.terminal import field, show

if TYPE_CHECKING:
    from close.io.results import ResultFile
    from close.runs.pipeline import Output

__all__ = ["register"]

JsonLines = Annotated[bool, typer.Option("--json", help="JSON on stdout, a line an item.")]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(verb(caption))


def caption(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    items: Annotated[list[Path], typer.Argument(help="Images or folders of images.")],
    context: Annotated[str, typer.Option(help="Question, hypothesis or article, for tasks that have one.")] = "",
    num_beams: Beams = None,
    sample: Annotated[bool, typer.Option("--sample", help="Sample instead of searching.")] = False,
    top_p: Annotated[float | None, typer.Option(help="With --sample.")] = None,
    temperature: Annotated[float | None, typer.Option(help="With --sample.")] = None,
    seed: Annotated[int, typer.Option(help="With --sample.")] = 0,
    batch_size: BatchSize = 32,
    device: Device = None,
    precision: Precision = "auto",
    encoder: MovedEncoder = None,
    as_json: JsonLines = False,
    out: Annotated[
        Path | None, typer.Option(help="Write to this .jsonl or .parquet; the same command continues a stopped one.")
    ] = None,
    engine: EngineName = "local",
    workers: Workers = 2,
    address: Address = None,
) -> None:
    """Say what the model says of each image; unreadable ones are named, the others still done.

    A line is: item, score, text. The score is how sure the model is, the mean log-probability of the text's tokens: 0 is certain,
    -0.1 is 90 % a token. It ranks what one run says, and is no measure of truth.
    """
    from close.encoders.base import windows
    from close.io.keys import file_key
    from close.io.media import written
    from close.io.results import ResultFile
    from close.runs.folder import RUN_FILE
    from close.runs.pipeline import expand, load

    spread = pick_engine(engine, workers, address)
    model = load(run, device=device, precision=precision, encoder=encoder)
    many, _ = expand(list(items), model.encoder.item_suffixes)
    settings: dict[str, Any] = {"num_beams": num_beams, "top_p": top_p, "temperature": temperature}
    if sample:
        settings |= {"do_sample": True, "num_beams": num_beams or 1, "seed": seed}
    settings = {key: value for key, value in settings.items() if value is not None}

    def say(items: list[Any]) -> Iterator[Output]:
        if engine == "local":
            return model.stream(items, [context] * len(items), batch_size=batch_size, **settings)
        work = partial(model.outputs, context=context, batch_size=batch_size, **settings)
        return chain.from_iterable(spread(work, list(windows(items, batch_size))))

    if out is None:
        errors = _printed(say(many), as_json)
    else:
        names = hashlib.sha256("\n".join(map(written, many)).encode()).hexdigest()
        made_by = {"run": str(run), "run_sha256": hashlib.sha256((run / RUN_FILE).read_bytes()).hexdigest()}
        about = {**made_by, "items": names, "context": context, "batch_size": batch_size, **settings}
        file = ResultFile(out, about, unit=batch_size, keys=[file_key(Path(item)) for item in many])
        with file() as results:
            errors = _written(results, say, many)
            results.finish()
            show(f"{out}: {len(many)} rows")
    if errors:
        raise PartialError(f"{len(errors)} of {len(many)} items could not be read: {'; '.join(errors[:5])}")


def _written(results: ResultFile, say: Callable[[list[Any]], Iterable[Output]], items: list[Any]) -> list[str]:
    """What is said of the items that the file lacks goes into it; errors of all of them."""
    from close.io.progress import progress

    with progress("captioning", "images") as update:
        errors = list(results.failed)
        update(results.done, len(items))
        for done, output in enumerate(say(items[results.done :]), results.done + 1):
            results.write(nan_as_null(output.to_dict()))
            errors += [output.error] if output.error else []
            update(done, len(items))
    return errors


def _printed(outputs: Iterable[Output], as_json: bool) -> list[str]:
    """A line an output; the errors."""
    errors = []
    for output in outputs:
        if output.error:
            errors.append(output.error)
        if as_json:
            show(json.dumps(nan_as_null(output.to_dict()), ensure_ascii=False))
        elif not output.error:
            show(f"{field(output.item)}\t{output.score:.3f}\t{field(output.text)}")
    return errors
