"""close embed, close info, close mini."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from close.errors import MissingError, PartialError
from close.registry import unknown_name

__all__ = ["register"]

embed_app = typer.Typer(no_args_is_help=True, help="Make an embedding table of texts or images.")
mini_app = typer.Typer(no_args_is_help=True, help="The mini world that the package ships.")

Encoder = Annotated[
    str, typer.Option("--encoder", help="mini, open_clip:NAME/TAG, open_clip:NAME@FILE, hf:ID or a folder.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the table.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps …; without it, an accelerator if there is one.")]
Precision = Annotated[
    str, typer.Option(help="fp32, bf16, fp16, or auto: bf16 for large models on hardware that has it.")
]
EngineName = Annotated[str, typer.Option("--engine", help="local, or ray: spread over a Ray cluster.")]
Workers = Annotated[int, typer.Option(min=1, help="With --engine ray: how many.")]
Address = Annotated[
    str | None, typer.Option(help="With --engine ray: of a running cluster; without it, one is started here.")
]


def pick_engine(name: str, workers: int, address: str | None) -> Any:
    """What runs the parts of a job: `map`, or a Ray cluster."""
    if name == "local":
        return map
    if name != "ray":
        raise unknown_name("engine", name, ["local", "ray"])
    from close.io.cluster import RayEngine

    return RayEngine(workers, address)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(embed_app, name="embed")
    app.add_typer(mini_app, name="mini")
    app.command()(info)


@embed_app.command("text")
def embed_text(
    path: Annotated[Path, typer.Argument(help="Rows: .jsonl, .txt, .csv or .parquet, or a folder of these.")],
    out: Out,
    encoder: Encoder = "mini",
    device: Device = None,
    precision: Precision = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    export: Annotated[Path | None, typer.Option(help="Also write the rows as a plain .npy, or .parquet.")] = None,
    engine: EngineName = "local",
    workers: Workers = 2,
    address: Address = None,
) -> None:
    """Embed the source texts of a data file; a stopped run continues."""
    from close.data.shards import open_rows
    from close.encoders import load_encoder
    from close.io.progress import progress
    from close.vectors.table import embed_texts

    spread = pick_engine(engine, workers, address)
    rows = open_rows(path)
    model = load_encoder(encoder, device=device, precision=precision)
    with progress(f"embedding {path.name}", "texts") as update:
        table = embed_texts(rows, model, out, batch_size=batch_size, progress=update, engine=spread)
    _report(table, export)


@embed_app.command("images")
def embed_images(
    path: Annotated[Path, typer.Argument(help="A folder of images, or rows with an image each.")],
    out: Out,
    encoder: Encoder = "mini",
    device: Device = None,
    precision: Precision = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    export: Annotated[Path | None, typer.Option(help="Also write the rows as a plain .npy, or .parquet.")] = None,
    engine: EngineName = "local",
    workers: Workers = 2,
    address: Address = None,
) -> None:
    """Embed images (or what the encoder's second tower takes); unreadable ones are named at the end."""
    from close.encoders import load_encoder
    from close.io.progress import progress
    from close.vectors.table import embed_images as embed
    from close.vectors.table import find_images

    if not path.exists():
        raise MissingError(f"{path}: no such file or folder")
    spread = pick_engine(engine, workers, address)
    model = load_encoder(encoder, device=device, precision=precision)
    images = find_images(path, model.item_suffixes)
    with progress(f"embedding {path.name}", "images") as update:
        table = embed(images, model, out, batch_size=batch_size, progress=update, engine=spread)
    _report(table, export)
    if failed := table.failures:
        named = "; ".join(failure["reason"] for failure in failed[:3])
        more = "; … (all in failures.jsonl)" if len(failed) > 3 else ""
        raise PartialError(f"{len(failed)} images could not be read and are left out: {named}{more}")


def _report(table: Any, export: Path | None) -> None:
    if export is not None:
        table.export(export)
    about = table.info
    typer.echo(
        f"{table.path}: {about['rows']} rows, {about['vectors']} distinct {about['modality']} vectors × {about['dim']}, "
        f"encoder {about['encoder']}"
    )


@mini_app.command("export")
def mini_export(
    out: Annotated[Path, typer.Option("--out", help="New folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 1000,
    seed: int = 0,
) -> None:
    """Write scenes as files: images/*.png, captions.jsonl, eval.jsonl, vqa.jsonl, entailment.jsonl."""
    from close.mini import export

    counts = export(out, split, count, seed)
    typer.echo(f"{out}: " + ", ".join(f"{number} {name}" for name, number in counts.items()))


def info(
    thing: Annotated[str, typer.Argument(help="A run, an embedding table, an encoder or an adapter.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Say what a thing is, and whether it is whole."""
    from close.runs.inspection import describe

    about = describe(thing)
    if as_json:
        typer.echo(json.dumps(about, indent=2, ensure_ascii=False))
        return
    width = max(map(len, about))
    for key, value in about.items():
        typer.echo(f"{key:<{width}}  {value if not isinstance(value, (dict, list)) else json.dumps(value)}")
