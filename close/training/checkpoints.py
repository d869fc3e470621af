"""Checkpoints of a run under way: which are whole, and which one to go on from."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from close.errors import DataError
from close.io.files import read_json, write_json

__all__ = ["KeptLosses", "Manifests", "drop_broken", "latest_checkpoint"]

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
"""What transformers writes last into a checkpoint."""
LOSSES = "losses.json"
_log = logging.getLogger(__name__)


class KeptLosses(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Writes into every checkpoint what losses have come to by then, so that those of a run that goes on are the whole run's.

    transformers has that in memory alone: the sum since a loss was logged, process by process, and that of all steps.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written; its manifest is not yet."""
        trainer = self.trainer
        since = trainer.accelerator.gather(trainer._tr_loss.reshape(1)).tolist()
        file = _losses_of(args, state)
        if args.should_save and file.parent.is_dir():
            write_json(
                file, {"since": since, "logged": trainer._globalstep_last_logged, "all": trainer._total_loss_scalar}
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Training begins, or goes on."""
        file, trainer = _losses_of(args, state), self.trainer
        if file.is_file():
            found = read_json(file)
            since = found["since"][args.process_index]
            trainer._tr_loss = torch.tensor(since, dtype=trainer._tr_loss.dtype, device=trainer._tr_loss.device)
            trainer._globalstep_last_logged, trainer._total_loss_scalar = found["logged"], found["all"]
        elif state.global_step:  # a checkpoint of before
            trainer.first_step = state.global_step
            if state.is_world_process_zero:
                _log.warning(
                    "training: the checkpoint of step %d does not keep the losses before it: the next loss in the log, and "
                    "train_loss, are of the steps from there on",
                    state.global_step,
                )


def _losses_of(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / LOSSES


class Manifests(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Writes into every checkpoint that is whole the sizes of its files, and removes older ones then, and not before.

    Args:
        limit: checkpoints that are kept, as `save_total_limit` of transformers; the best and the newest always are.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written."""
        PartialState().wait_for_everyone()  # each process writes its own generators' state
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if args.should_save and (folder / STATE).is_file():
            sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST}
            write_json(folder / MANIFEST, sizes)
            rotate_checkpoints(args.output_dir, self.limit, state.best_model_checkpoint, use_mtime=True)


def latest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end and is untouched since; None where none was.

    One without a manifest was being written when the process was killed. Where the best one is to be the run's in the end, it is
    whole too.

    Raises:
        DataError: several were written to their end and none is known to be whole: going on from nothing would throw them away;
            or it holds no state of the optimizer.
    """
    found = _checkpoints(folder)
    whole = next((str(path) for path in found if _is_whole(path) and _is_whole(_best_of(path))), None)
    unmarked = [path for path in found if (path / STATE).is_file() and not (path / MANIFEST).is_file()]
    if whole is None and len(unmarked) > 1:
        raise DataError(
            f"{unmarked[0]} has no {MANIFEST}, nor has any other checkpoint, so nobody knows whether they are whole (this "
            "version of transformers does not say when a checkpoint is written): remove them, or the run's folder, to start anew"
        )
    if whole is not None and not any(_is_of_optimizer(path.name) for path in Path(whole).iterdir()):
        raise DataError(
            f"{whole} holds the model alone (training.save_only_model), and a run can't go on from it as if it had not been "
            "stopped: remove the run's folder to start anew"
        )
    return whole


def _is_of_optimizer(name: str) -> bool:
    return "optim" in name or name.startswith("global_step")  # of DeepSpeed


def drop_broken(folder: Path) -> None:
    """Remove the checkpoints that can't be gone on from.

    Raises:
        DataError: as in `latest_checkpoint`; nothing is removed then.
    """
    latest_checkpoint(folder)
    for path in _checkpoints(folder):
        if not _is_whole(path):
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first; a folder of another name is somebody's own."""
    steps = {path: path.name.partition("-")[2] for path in folder.glob("checkpoint-*")}
    return sorted((path for path in steps if steps[path].isdecimal()), key=lambda path: int(steps[path]), reverse=True)


def _best_of(checkpoint: Path) -> Path:
    """The best checkpoint by the time that one was written; that itself where nobody asks."""
    best = read_json(checkpoint / STATE).get("best_model_checkpoint")
    return checkpoint.with_name(Path(best).name) if best else checkpoint


def _is_whole(checkpoint: Path) -> bool:
    if not (checkpoint / MANIFEST).is_file():
        return False
    sizes = read_json(checkpoint / MANIFEST)
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == sizes[name] for name in sizes)
