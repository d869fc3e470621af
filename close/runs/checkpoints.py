"""Checkpoints of a run under way: which are whole, and which one to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from close.errors import DataError
from close.io.files import read_json, write_json

__all__ = ["Manifests", "latest_checkpoint"]

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
"""What transformers writes last into a checkpoint."""


class Manifests(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Writes into every checkpoint that is whole the sizes of its files."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written."""
        PartialState().wait_for_everyone()  # each process writes its own generators' state
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if args.should_save and (folder / STATE).is_file():
            sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST}
            write_json(folder / MANIFEST, sizes)


def latest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end and is untouched since; None where none was.

    Raises:
        DataError: none is known to be whole, though one was written to its end: going on from nothing would throw it away.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    whole = next((str(path) for path in found if _is_whole(path)), None)
    unmarked = [path for path in found if (path / STATE).is_file() and not (path / MANIFEST).is_file()]
    if whole is None and unmarked:
        raise DataError(
            f"{unmarked[0]} has no {MANIFEST}, so nobody knows whether it is whole (it was stopped at its last moment, or "
            "this version of transformers does not say when a checkpoint is written): remove it, or --overwrite the run"
        )
    return whole


def _is_whole(checkpoint: Path) -> bool:
    if not (checkpoint / MANIFEST).is_file():
        return False
    sizes = read_json(checkpoint / MANIFEST)
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == sizes[name] for name in sizes)
