"""close embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from close.cli.looks import look_at
from close.cli.options import (
    Address,
    Columns,
    Device,
    Encoder,
    EngineName,
    Json,
    Precision,
    Workers,
    check_outputs,
    pick_engine,
    print_json,
    verb,
)
from close.errors import MissingError, PartialError
from close.io.terminal import show

__all__ = ["register"]

Out = Annotated[Path, typer.Option("--out", help="Folder of the table.")]
Export = Annotated[Path | None, typer.Option(help="Also write the rows as a plain .npy, or .parquet.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    group = typer.Typer(
        no_args_is_help=True, help="Make an embedding table of texts, images, or vectors made elsewhere."
    )
    group.command("text")(verb(embed_text))
    group.command("images")(verb(embed_images))
    group.command("vectors")(verb(embed_vectors))
    app.add_typer(group, name="embed")


def embed_text(
    path: Annotated[Path, typer.Argument(help="Rows: .jsonl, .txt, .csv or .parquet, or a folder of these.")],
    out: Out,
    encoder: Encoder = "mini",
    device: Device = None,
    precision: Precision = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    export: Export = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    columns: Columns = "",
    as_json: Json = False,
) -> None:
    """Embed the source texts of a data file; a stopped run continues."""
    look_at(rows=path)
    from close.data.columns import parse_columns
    from close.data.shards import open_rows
    from close.encoders import load_encoder
    from close.io.progress import progress
    from close.vectors.build import embed_texts

    check_outputs([export], [path])
    spread = pick_engine(engine, workers, address, "cpu" if precision == "int8" else device)
    rows = open_rows(path, parse_columns(columns) or None)
    model = load_encoder(encoder, device=device, precision=precision)
    with progress(f"embedding {path.name}", "texts") as update:
        table = embed_texts(rows, model, out, batch_size=batch_size, progress=update, engine=spread)
    _finish(table, export, as_json)


def embed_images(
    path: Annotated[Path, typer.Argument(help="A folder of images (or recordings), or rows with one each.")],
    out: Out,
    encoder: Encoder = "mini",
    device: Device = None,
    precision: Precision = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    export: Export = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    columns: Columns = "",
    as_json: Json = False,
) -> None:
    """Embed images, or whatever the encoder's second tower takes, such as recordings; unreadable ones are named at the end."""
    if not path.exists():
        raise MissingError(f"{path}: no such file or folder")
    from close.data.columns import parse_columns
    from close.encoders import load_encoder
    from close.io.progress import progress
    from close.vectors.build import embed_images as embed
    from close.vectors.build import find_images

    check_outputs([export], [path])
    spread = pick_engine(engine, workers, address, "cpu" if precision == "int8" else device)
    given = parse_columns(columns) or None
    model = load_encoder(encoder, device=device, precision=precision)
    images = find_images(path, model.item_suffixes, given)
    with progress(f"embedding {path.name}", model.items) as update:
        table = embed(images, model, out, batch_size=batch_size, progress=update, engine=spread)
    _finish(table, export, as_json)
    if failed := table.failures:
        named = "; ".join(failure["reason"] for failure in failed[:3])
        more = "; … (all in failures.jsonl)" if len(failed) > 3 else ""
        raise PartialError(f"{len(failed)} {model.items} could not be read and are left out: {named}{more}")


def embed_vectors(
    path: Annotated[Path, typer.Argument(help="A .npy of (N, D) vectors, or a folder of such parts.")],
    rows: Annotated[Path, typer.Argument(help="What they are of, in their order: rows with a source, or images.")],
    encoder: Annotated[str, typer.Option(help="What recipes will call the encoder; it need not be here.")],
    out: Out,
    modality: Annotated[
        Literal["text", "image"], typer.Option(help="image: a vector for each image of the rows, or for each row.")
    ] = "text",
    fingerprint: Annotated[
        str | None, typer.Option(help="Of the encoder's weights, as its other tables say; without it, by its name.")
    ] = None,
    columns: Columns = "",
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Make a table of vectors of your own encoder, so that training and evaluation find them by the rows' texts and ids."""
    look_at(rows=rows, vectors=path)
    from close.data.columns import parse_columns
    from close.data.shards import open_rows
    from close.vectors.given import table_of_vectors

    check_outputs([export], [path, rows])
    about: dict[str, Any] = {"encoder": encoder, "modality": modality, "fingerprint": fingerprint}
    opened = open_rows(rows, parse_columns(columns) or None)
    _finish(table_of_vectors(path, opened, out, **about), export, as_json)


def _finish(table: Any, export: Path | None, as_json: bool) -> None:
    """Export what was made, and say what it is."""
    if export is not None:
        table.export(export)
    about = table.info
    if as_json:
        print_json({"table": str(table.path)} | about)
        return
    show(
        f"{table.path}: {about['rows']} rows, {about['vectors']} distinct {about['modality']} vectors × {about['dim']}, "
        f"encoder {about['encoder']}"
    )
