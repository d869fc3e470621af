"""close serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from close.cli.options import BatchSize, Device, Memory, MovedEncoder, Precision, verb
from close.errors import written
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(verb(serve))


def serve(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    batch_size: BatchSize = 32,
    queue: Annotated[
        int, typer.Option(min=1, help="Pictures that may wait; who comes then is told to come back.")
    ] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds for an answer.")] = 60,
    max_mb: Annotated[float, typer.Option(min=0.001, max=1e6, help="Megabytes of a request.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of a picture.")] = 50_000_000,
    device: Device = None,
    precision: Precision = "auto",
    encoder: MovedEncoder = None,
    memory: Memory = None,
) -> None:
    """Serve runs over HTTP, and a page to try them on, until Ctrl-C; on this machine alone, unless --host says otherwise.

    POST /v1/caption takes pictures as files of a form, or as base64 in JSON; /openapi.json says what else there is. With a key in
    the environment's CLOSE_SERVE_KEY, requests have to bring it: Authorization: Bearer KEY.
    """
    from close.serve import Limits
    from close.serve import serve as listen

    size = int(max_mb * 1e6)
    limits = Limits(
        batch_size=batch_size,
        queue=queue,
        seconds=timeout,
        bytes=size,
        held=max(Limits.held, 2 * size),
        pixels=max_pixels,
        items=min(64, queue),
    )

    def ready(url: str, served: list[dict[str, Any]]) -> None:
        show(f"listens at {written(url)}")
        for run in served:
            tasks = ", ".join(task["name"] for task in run["tasks"])
            show(f"  {written(run['name'])}: {tasks}, encoder {written(run['encoder'])}")
        show(
            f"  at most {limits.items} pictures or texts, {max_mb:g} MB and {timeout:g} s a request; see /openapi.json"
        )

    loading = {"device": device, "precision": precision, "encoder": encoder, "memory": memory}
    listen(runs, host=host, port=port, limits=limits, ready=ready, **loading)
