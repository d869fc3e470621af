"""close train, close caption, close evaluate, close demo."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from close.cli.tables import Address, EngineName, Workers, pick_engine
from close.errors import PartialError

if TYPE_CHECKING:
    from close.runs.pipeline import Output

__all__ = ["register"]

Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps …; without it, an accelerator if there is one.")]
Precision = Annotated[
    str, typer.Option(help="fp32, bf16, fp16, or auto: bf16 for large models on hardware that has it.")
]
Beams = Annotated[int | None, typer.Option("--num-beams", min=1, help="Beams; without it, as the run says (5).")]
BatchSize = Annotated[int, typer.Option(min=1)]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (train, caption, evaluate, sweep, demo):
        app.command()(verb)


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, e.g. training.epochs=3")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; without it, runs/NAME_OF_RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.")] = False,
) -> None:
    """Train as a recipe says; the whole recipe is checked before work starts."""
    from close.runs.recipe import load_recipe
    from close.runs.train import train as run

    checked = load_recipe(recipe, overrides)
    folder = run(checked, out or Path("runs") / recipe.stem, resume=resume, overwrite=overwrite)
    if os.environ.get("RANK", "0") == "0":  # under torchrun every process is here
        typer.echo(folder)


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
    encoder: Annotated[str | None, typer.Option(help="Where the run's encoder is now, if it has moved.")] = None,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Write to this .jsonl or .parquet; the same command continues a stopped one.")
    ] = None,
    engine: EngineName = "local",
    workers: Workers = 2,
    address: Address = None,
) -> None:
    """Say what the model says of each image; unreadable ones are named, the others still done."""
    from transformers import set_seed

    from close.encoders.base import windows
    from close.io.progress import progress
    from close.io.results import ResultFile
    from close.runs.folder import RUN_FILE
    from close.runs.pipeline import expand, load

    spread = pick_engine(engine, workers, address)
    model = load(run, device=device, precision=precision, encoder=encoder)
    many, _ = expand(list(items), model.encoder.item_suffixes)
    settings: dict[str, Any] = {"num_beams": num_beams, "top_p": top_p, "temperature": temperature}
    if sample:
        set_seed(seed)
        settings |= {"do_sample": True, "num_beams": num_beams or 1}
    settings = {key: value for key, value in settings.items() if value is not None}

    def say(items: list[Any]) -> Iterator[Output]:
        if engine == "local":
            return model.stream(items, [context] * len(items), batch_size=batch_size, **settings)
        work = partial(model.outputs, context=context, batch_size=batch_size, seed=seed, **settings)
        return chain.from_iterable(spread(work, list(windows(items, batch_size))))

    errors = []
    if out is not None:
        names = hashlib.sha256("\n".join(map(str, many)).encode()).hexdigest()
        made_by = {"run": str(run), "run_sha256": hashlib.sha256((run / RUN_FILE).read_bytes()).hexdigest()}
        about = {**made_by, "items": names, "context": context, "batch_size": batch_size, "seed": seed, **settings}
        with ResultFile(out, about, unit=batch_size)() as results, progress("captioning", "images") as update:
            errors += results.failed
            update(results.done, len(many))
            for done, output in enumerate(say(many[results.done :]), results.done + 1):
                results.write(_plain(output.to_dict()))
                errors += [output.error] if output.error else []
                update(done, len(many))
        typer.echo(f"{out}: {len(many)} rows")
    else:
        for output in say(many):
            if output.error:
                errors.append(output.error)
            if as_json:
                typer.echo(json.dumps(_plain(output.to_dict()), ensure_ascii=False))
            elif not output.error:
                typer.echo(f"{output.item}\t{output.score:.3f}\t{output.text}")
    if errors:
        raise PartialError(f"{len(errors)} of {len(many)} items could not be read: {'; '.join(errors[:5])}")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in values.items()}  # NaN is not JSON


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Annotated[Path, typer.Argument(help="Rows to score on.")],
    modality: Annotated[str, typer.Option(help="image, or text to feed the sources' own embeddings.")] = "image",
    task: Annotated[str | None, typer.Option(help="Without it, the run's.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")] = None,
    num_beams: Beams = None,
    batch_size: BatchSize = 64,
    tokenizer: Annotated[str, typer.Option(help="PTB tokenizer of caption scores: auto, java or python.")] = "auto",
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="bleu, rouge_l, cider, meteor, spice, clip_score; again for each."),
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option(help="tree or score: an answer from a closed set (score gives probabilities); free: any text."),
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--length-normalise", help="With --decode score: by the answers' lengths.")
    ] = False,
    answers: Annotated[
        Path | None, typer.Option(help="The closed set: .txt, an answer a line, or rows whose targets are taken.")
    ] = None,
    top_answers: Annotated[
        int | None, typer.Option(min=1, help="Only the commonest; without --answers, of the run's training targets.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows; said in the result.")] = None,
    device: Device = None,
    precision: Precision = "auto",
    encoder: Annotated[str | None, typer.Option(help="Where the run's encoder is now, if it has moved.")] = None,
) -> None:
    """Score a run on a data file; predictions and scores are saved with the run."""
    from close.evaluation.evaluate import METRICS as DEFAULT_METRICS
    from close.evaluation.evaluate import evaluate as score
    from close.io.files import write_json

    settings: dict[str, Any] = {"num_beams": num_beams} if num_beams else {}
    result = score(
        run,
        data,
        modality=cast(Any, modality),
        task=task,
        batch_size=batch_size,
        tokenizer=tokenizer,
        metrics=tuple(metrics or DEFAULT_METRICS),
        decode=cast(Any, decode),
        normalise=normalise,
        answers=answers,
        top_answers=top_answers,
        limit=limit,
        device=device,
        precision=precision,
        encoder=encoder,
        **settings,
    )
    if as_json is not None:
        write_json(as_json, result)
    for name, value in result["scores"].items():
        if isinstance(value, (int, float)):
            low, high = result["scores"].get("ci", {}).get(name, (None, None))
            typer.echo(f"{name:<22}{value:8.2f}" + (f"   [{low:.2f}, {high:.2f}]" if low is not None else ""))
    typer.echo(f"saved in {result['folder']}")


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file: what all runs share.")],
    test: Annotated[
        Path | None, typer.Option("--test", help="Rows to score on; each has an image and a source.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="Adapter spec, again for each; none: noise alone.")] = None,
    noise: Annotated[
        list[float] | None, typer.Option(help="Cosine that the noise leaves, again for each; 1: none.")
    ] = None,
    epochs: Annotated[list[float] | None, typer.Option(help="Length of training, again for each.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    select: Annotated[
        Path | None,
        typer.Option(help="Choose the best run without images: rows with references, or captions in groups."),
    ] = None,
    select_image: Annotated[
        Path | None, typer.Option(help="With --select: a table of unpaired images, to select by texts made like them.")
    ] = None,
    image: Annotated[bool, typer.Option(help="Include the image-supervised ceiling.")] = True,
    out: Annotated[Path, typer.Option("--out", help="Folder of the sweep.")] = Path("sweep"),
) -> None:
    """Train adapters × noise × epochs × seeds; one table and one plot with intervals. A stopped sweep continues."""
    from close.runs.recipe import load_recipe
    from close.study.sweep import arms_of, parse_spec, table_of
    from close.study.sweep import sweep as run

    base = load_recipe(recipe, overrides)
    arms = arms_of(
        [parse_spec(spec) for spec in adapter or ["none"]],
        noise or [1.0],
        epochs=epochs or [],
        image=image and test is not None,
    )
    first = list(range(base.seed, base.seed + seeds))
    summary = run(
        base,
        arms,
        first,
        test,
        out,
        select=select,
        select_images=select_image,
        tell=lambda line: typer.echo(line, err=True),
    )
    typer.echo(table_of(summary))


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("demo"),
    seed: int = 0,
) -> None:
    """The main job on the embedded mini world: train on text, caption pictures, compare; writes report.html."""
    from close.demo import run_demo

    typer.echo(run_demo(out, seed=seed))
