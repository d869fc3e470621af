"""transformers' Trainer, for vectors whose noise belongs to their rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, DynamoBackend
from transformers import Seq2SeqTrainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from close.adapters import row_seeds
from close.errors import RecipeError, reason
from close.fast.memory import is_out_of_memory, kept_memory
from close.fast.search import forget
from close.io.progress import progress
from close.model.frozen import hold_in_bf16
from close.training.checkpoints import KeptLosses, Manifests
from close.training.examples import LengthSampler
from close.training.validation import Validation

__all__ = ["CloseTrainer", "ShortRun"]

PLAIN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""Ways to train in which each process holds a whole model, as it was given."""
FEW = 100
"""Steps below which a run says that it is short."""
ANEW = "close train with --overwrite; a sweep does so by itself"
"""How a run is started anew with another recipe: a sweep names runs by theirs."""
_log = logging.getLogger(__name__)


class CloseTrainer(Seq2SeqTrainer):  # type: ignore[misc,unused-ignore]
    """Seq2SeqTrainer whose noise belongs to (seed, epoch, row), and whose checkpoints say whether they are whole.

    Args:
        callbacks: of transformers, told of every step. validation: a score that is made wherever the loss of `eval_dataset` is.
        prefix_rate: the prefix's own learning rate, at its highest. Others: as Seq2SeqTrainer takes them.
    Raises:
        RecipeError: options that do not go together, or lack their package.
    """

    def __init__(
        self,
        *,
        callbacks: Sequence[TrainerCallback] = (),
        validation: Validation | None = None,
        prefix_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.prefix_rate = prefix_rate
        try:
            with _packages_asked_for():
                super().__init__(**kwargs)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError(f"training: {reason(error)}") from error
        if self.args.fsdp and not self.is_fsdp_enabled:
            raise RecipeError(
                "training: fsdp: nothing to shard over; it needs several GPUs, started by torchrun or accelerate"
            )
        self.label_smoother = None  # the model smooths, over all tokens of the step
        for printer in (PrinterCallback, ProgressCallback):
            self.remove_callback(printer)
        self.losses, self.validation = FiniteLosses(), validation
        self.first_step = 0  # behind which its losses are known
        manifests = Manifests(self.args.save_total_limit)
        self.args.save_total_limit = (
            None  # transformers would remove what is whole before it is known that the new one is
        )
        for callback in (EpochCallback(self), self.losses, KeptLosses(self), manifests, BestCheckpoint(), *callbacks):
            self.add_callback(callback)

    def create_accelerator_and_postprocess(self) -> None:
        """transformers' own; then it is known who converts weights, and the model has not gone to its device yet.

        FSDP, DeepSpeed and a compiler convert for themselves. A language model that the run saves is saved as it was read.
        """
        super().create_accelerator_and_postprocess()
        known, model = self.accelerator, _close_model(self.model)
        is_plain = known.distributed_type in PLAIN and known.state.dynamo_plugin.backend == DynamoBackend.NO
        is_autocast = known.native_amp and known.mixed_precision == "bf16" and known.device.type in ("cpu", "cuda")
        if is_plain and is_autocast and model.config.base is not None:
            hold_in_bf16(model.language_model)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' own, in which the prefix may have a rate of its own."""
        made = super().create_optimizer(*args, **kwargs)
        if self.prefix_rate is not None:
            own = {id(weight) for name, weight in self.model.named_parameters() if "prefix" in name.split(".")}
            for group in [*made.param_groups]:
                of_prefix = [weight for weight in group["params"] if id(weight) in own]
                group["params"] = [weight for weight in group["params"] if id(weight) not in own]
                made.add_param_group({**group, "params": of_prefix, "lr": self.prefix_rate})
            made.param_groups = [group for group in made.param_groups if group["params"]]
        return made

    def run(self, checkpoint: str | None) -> int:
        """Train to the end, from a checkpoint if there is one, with a line of progress; returns the steps done."""
        with _packages_asked_for(), _memory_enough(self.args), kept_memory(), progress("training", "steps") as update:
            if self.is_world_process_zero():
                if self.validation:
                    self.validation.tell()
                self.add_callback(ProgressLine(update))
            return int(self.train(resume_from_checkpoint=checkpoint).global_step)

    def gathered_state(self) -> dict[str, Any] | None:
        """The weights, from all processes that hold a part of them; None where each holds all. Every process must call it."""
        return self.accelerator.get_state_dict(self.model_wrapped) if self.is_fsdp_enabled else None

    @property
    def best(self) -> dict[str, Any]:
        """What `run.json` says of the checkpoint that the run holds, and of those that it was chosen from."""
        if not self.args.load_best_model_at_end:
            return {}
        if self.state.best_model_checkpoint is None:
            _log.warning(
                "training: no checkpoint was both looked at and saved before the end, so the run holds its last weights and not "
                "the best: look earlier (eval_steps, eval_delay), or train for longer"
            )
            return {}
        key = f"eval_{self.args.metric_for_best_model.removeprefix('eval_')}"
        history = [{"step": one["step"], key: one[key]} for one in self.state.log_history if key in one]
        about = self.validation.about if self.validation else {"metric": key.removeprefix("eval_")}
        found = {"step": self.state.best_global_step, "score": self.state.best_metric, "history": history}
        return {"best": about | found}

    def get_train_dataloader(self) -> Any:
        """transformers' own; workers that stay have a generator of their own: a resume would draw from torch's once more."""
        loader = super().get_train_dataloader()
        if self.args.dataloader_persistent_workers:
            getattr(loader, "base_dataloader", loader).generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """What `evaluation_loop` makes; it draws nothing from what training draws from (dropout): looking changes nothing."""
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """The loss, and the score of what the model says."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.validation:
            model = _close_model(self.accelerator.unwrap_model(self.model))
            # fused optimizers change weights untold, and what is packed of them would be that of before
            torch.autograd.graph.increment_version(list(model.parameters()))
            group = self.args.process_index, self.args.world_size
            found = self.validation(model, self.processing_class, *group, autocast=self.accelerator.autocast)
            forget(model.language_model)  # its packed copies are of weights that the next step changes
            output.metrics[f"{metric_key_prefix}_{self.validation.rows.score.key}"] = found
        return output

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Turn row numbers into noise seeds."""
        rows = inputs.pop("rows", None)
        if rows is not None and model.training:
            inputs["seeds"] = row_seeds(self.args.seed, int(self.state.epoch or 0), rows)
        if self.args.label_smoothing_factor:
            inputs["label_smoothing"] = self.args.label_smoothing_factor
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            self.losses.add(loss)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """transformers' own; but `train_loss` is the mean over processes and all steps of the run, not since it was resumed."""
        if "train_loss" in logs:
            del logs["train_loss"]
            if steps := self.state.global_step - self.first_step:
                own = self._tr_loss  # since a loss was logged: transformers has added that of this process alone
                others = self.accelerator.gather(own.reshape(1)).mean().item() - own.item()
                logs["train_loss"] = (self._total_loss_scalar + others) / steps
        super().log(logs, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # transformers' own hook for another order; where it is not called, `EpochCallback` finds no sampler and says so
        self.sampler = LengthSampler(
            self.train_dataset, self._step_size(), self.args.seed, fill=self.args.world_size > 1
        )
        return self.sampler

    def _step_size(self) -> int:
        """Examples of one optimizer step, so that the order is the same however the step is cut up."""
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)


def _close_model(model: Any) -> Any:
    """Also where peft has wrapped it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class EpochCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Tells sampler and dataset which epoch begins, also after a resume (loaders count from where they were made)."""

    def __init__(self, trainer: CloseTrainer) -> None:
        self.trainer = trainer
        self.done = False

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch begins."""
        epoch = int(state.epoch or 0)
        self.done = state.global_step >= state.max_steps  # killed after its last step: transformers would do one more
        self.trainer.sampler.pin(epoch, done=self.done)
        control.should_training_stop |= self.done
        self.trainer.train_dataset.set_epoch(epoch)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch ends; what was done at its end before the kill is not done again."""
        if self.done:
            logged = {key for entry in state.log_history if entry.get("step") == state.global_step for key in entry}
            control.should_save = False
            control.should_evaluate &= "eval_loss" not in logged
            control.should_log &= "loss" not in logged


class FiniteLosses(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Stops a run whose loss is NaN or infinite: before the next checkpoint, and on an accelerator without waiting for each step.

    Raises:
        RecipeError: a loss is not finite, or a gradient is (not with fp16, which passes over such steps); says what to do.
    """

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def add(self, loss: Any) -> None:
        """The loss of one batch of the step under way."""
        self.waiting.append(loss.detach().mean())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done: its loss may still be computed, those before are there."""
        last = 0 if control.should_save or control.should_training_stop else args.gradient_accumulation_steps
        ready = self.waiting[: max(len(self.waiting) - last, 0)]
        del self.waiting[: len(ready)]
        for loss in ready:
            _refuse_not_finite("loss", float(loss), args, state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch is done; a checkpoint may follow."""
        self.on_step_end(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """What was measured."""
        for name, value in (logs or {}).items():
            if name.endswith("loss") or (name == "grad_norm" and not args.fp16):
                _refuse_not_finite(name, float(value), args, state)


def _refuse_not_finite(name: str, value: float, args: Any, state: Any) -> None:
    if math.isfinite(value):
        return
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else None
    advice = f"lower training.learning_rate ({args.learning_rate:g} now)"
    advice += f", or train with training.precision=fp32 ({precision} now)" if precision else ""
    raise RecipeError(f"training: the {name} is {value} by step {state.global_step}; {advice}, and start anew ({ANEW})")


class BestCheckpoint(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Finds the best checkpoint of a run that goes on, wherever its folder lies by now (transformers keeps the place)."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Training begins, or goes on."""
        if state.best_global_step:
            place = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(place) if place.is_dir() else None


class ShortRun(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Says before it begins that a run is too short to judge anything by."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Training begins, or goes on."""
        if state.is_world_process_zero and state.max_steps < FEW:
            _log.warning(
                "training: %s in all, which is short: the prefix starts at random, and says little before some %d steps; "
                "train for more epochs, on more rows, or in smaller batches",
                "1 step" if state.max_steps == 1 else f"{state.max_steps} steps",
                FEW,
            )


class ProgressLine(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Steps, rate, time left and the loss."""

    def __init__(self, update: Callable[..., None]) -> None:
        self.update = update
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Training begins, or goes on."""
        self.update(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """There is a new loss."""
        if logs and "loss" in logs:
            self.note = f"loss {float(logs['loss']):.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done."""
        self.update(state.global_step, state.max_steps, self.note)


@contextmanager
def _packages_asked_for() -> Iterator[None]:
    """Packages that options of training need, and transformers asks for late."""
    try:
        yield
    except ImportError as error:
        raise RecipeError(f"training: {reason(error)}") from error


@contextmanager
def _memory_enough(args: Any) -> Iterator[None]:
    """What takes less of it is told where there is too little."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size, parts = args.train_batch_size, args.gradient_accumulation_steps
        raise RecipeError(
            f"training: no memory left ({reason(error, whole=False)}); lower training.batch_size ({size} now) and raise "
            f"training.gradient_accumulation_steps ({parts} now) as much, which learns the same, or set "
            f"training.gradient_checkpointing=true, and start anew ({ANEW})"
        ) from error
