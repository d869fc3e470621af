"""What a folder or a reference is, and whether it is whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from close.errors import MissingError
from close.io.hub import hub_run_of, run_folder
from close.io.plain import read_plain
from close.io.versions import versions
from close.plugins import loaded
from close.runs.folder import RUN_FILE

__all__ = ["describe", "describe_installation"]


def describe_installation() -> dict[str, Any]:
    """Versions, loaded plug-ins, and which fast paths this machine and these versions allow (`CLOSE_FAST=0`: none)."""
    from close.fast.probe import fast_report

    return {"kind": "installation", "versions": versions(), "plugins": loaded(), "fast": fast_report()}


def describe(thing: str, *, verify: bool = False) -> dict[str, Any]:
    """What a run, table, adapter or encoder says of itself; loading it is the proof that it is whole.

    Args:
        thing: its folder; of a run, also ORG/NAME[@REVISION] of the hub; of an encoder, its reference.
        verify: read a table's vectors too, which are else verified when they are first used.
    Raises:
        MissingError: no such thing.
        DataError, WeightsError: it is damaged.
    """
    place = _place(thing)
    if (place / "table.json").is_file():
        return _table(place, verify)
    if (place / "adapter.json").is_file():
        return _adapter(place)
    if (place / RUN_FILE).is_file():
        return _run(place)
    if (place / "recipe.yaml").is_file():
        names = (path.name.partition("-")[2] for path in place.glob("checkpoints/checkpoint-*"))
        steps = sorted(int(name) for name in names if name.isdecimal())
        return {
            "kind": "run",
            "whole": False,
            "checkpoints": steps,
            "next": "continue it with `close train … --resume`",
        }
    partial = Path(f"{os.path.abspath(place)}.partial.json")
    if partial.is_file():
        state = read_plain(partial)
        return {
            "kind": "embedding table",
            "whole": False,
            "vectors done": state.get("done"),
            "next": "run the same `close embed` again",
        }
    if place.is_file():
        raise MissingError(
            f"{thing} is a file; expected the folder of a run, table or adapter, or an encoder's reference"
        )
    return _encoder(thing)


def _place(thing: str) -> Path:
    """Its folder: a run may be one of the hub's."""
    try:
        return run_folder(thing)
    except MissingError as error:
        raise MissingError(f"{error} (an encoder of the hub is hf:{thing})") from None


def _adapter(place: Path) -> dict[str, Any]:
    from close.adapters.storage import load_adapter, read_adapter_info

    load_adapter(place)
    return {"kind": "adapter", "whole": True, **read_adapter_info(place)}


def _table(place: Path, verify: bool) -> dict[str, Any]:
    from close.vectors.table import EmbeddingTable

    table = EmbeddingTable(place)
    if verify:
        table.verify()
    known = "every file" if "checksums" in table.info else "lengths only, since the table has no checksums"
    verified = (
        known if verify or "checksums" not in table.info else "every file but the vectors; --verify reads them too"
    )
    return {"kind": "embedding table", "whole": True, "verified": verified, **table.info}


def _run(place: Path) -> dict[str, Any]:
    from close.model.modeling import CloseModel
    from close.runs.folder import open_run
    from close.runs.searching import describe_memory

    about = open_run(place)
    model = CloseModel.from_pretrained(place)
    config = model.config
    return {
        "kind": "run",
        "whole": True,
        **({"hub": found._asdict()} if (found := hub_run_of(place)) else {}),
        **about,
        **_calibrated(place, about["tasks"]),
        **_length(place),
        "embed_dim": config.embed_dim,
        "prefix": config.prefix,
        "several": config.several,
        "adapter": config.adapter,
        **describe_memory(config, place),
        "language_model": config.language_model.model_type,
        "language_model_is": "in this folder" if config.base is None else {"by": "reference"} | config.base,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _calibrated(place: Path, tasks: list[str]) -> dict[str, Any]:
    """By task, what its confidence is made of, and on what it was measured."""
    from close.runs.confidence import Confidence

    found = {task: known.about for task in tasks if (known := Confidence.load(place, task))}
    keys = ("by", "right", "data", "rows", "ece", "settings")
    return {"calibrated": {task: {key: known.get(key) for key in keys} for task, known in found.items()} or "not yet"}


def _length(place: Path) -> dict[str, Any]:
    """The length penalty, where it was matched to texts."""
    from close.runs.length import LENGTH_FILE

    known = read_plain(place / LENGTH_FILE) if (place / LENGTH_FILE).is_file() else {}
    keys = ("length_penalty", "wanted", "found", "reached", "photos")
    return {"length": {key: known.get(key) for key in keys}} if known else {}


def _encoder(reference: str) -> dict[str, Any]:
    from close.encoders import load_encoder

    encoder = load_encoder(reference, device="cpu")
    return {
        "kind": "encoder",
        "whole": True,
        "name": encoder.name,
        "embed_dim": encoder.embed_dim,
        "fingerprint": encoder.fingerprint,
        "family": type(encoder).__name__,
        "parameters": encoder.weights,
    }
