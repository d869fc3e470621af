"""From a recipe to a trained run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    set_seed,
)
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from close.adapters import ADAPTERS, resolve_adapter, row_seeds
from close.adapters.base import names_in
from close.data.rows import RowFile
from close.data.shards import open_rows
from close.encoders import ENCODERS, ContrastiveEncoder, encoder_name, load_encoder, pick_device
from close.errors import MismatchError, OutputExistsError, RecipeError, WeightsError
from close.fast.layers import make_lean
from close.fast.memory import kept_memory
from close.fast.precision import pick_precision
from close.io.files import read_json, write_json, write_text
from close.io.pretrained import load_tokenizer
from close.io.progress import progress
from close.io.versions import versions
from close.model.configuration import CloseConfig
from close.model.modeling import CloseModel
from close.plugins import key_of
from close.runs.examples import Collator, LengthSampler, MixedDataset, TextDataset
from close.runs.folder import CARD, CHECKPOINTS, RECIPE_FILE, RUN_FILE, plugins_of
from close.runs.recipe import LoraSection, Recipe, TrainingSection
from close.tasks import TASKS, get_task
from close.vectors.cache import cached_table
from close.vectors.groups import group_labels
from close.vectors.table import EmbeddingTable

__all__ = ["CloseTrainer", "train"]

NUM_BEAMS = 5
STARTED = f"{CHECKPOINTS}/started.json"
"""Written first, so that a folder is known as a run's from its first moment on."""


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train as the recipe says and save the run.

    Args:
        out: the run's folder. resume: continue a run that was stopped; a finished one is left as it is.
        overwrite: remove what is there. callbacks: of transformers, told of every step.
    Returns:
        The run's folder: weights, configuration, tokenizer, recipe, log, versions, model card.
    Raises:
        OutputExistsError: the folder holds another run, or one that is to be resumed or overwritten.
        CloseError: anything wrong with recipe, data, encoder or weights; before training starts.
    """
    folder = Path(out)
    if _is_finished(folder, recipe, resume=resume, overwrite=overwrite):
        return folder
    has_val = recipe.data.val is not None
    arguments = _arguments(recipe.training, folder / CHECKPOINTS, recipe.seed, recipe.language_model, has_val=has_val)
    if recipe.lora and arguments.fsdp:
        raise RecipeError("lora and training.fsdp do not go together: what LoRA trains is too little to shard")
    parts = recipe.parts()
    tasks = [get_task(part.task) for part in parts]
    files = [open_rows(part.train) for part in parts]
    val_rows = open_rows(recipe.data.val) if recipe.data.val else None
    encoder = cache(lambda: load_encoder(recipe.encoder))
    with arguments.main_process_first(local=False):  # of several processes one embeds, the others read
        tables = [_table(rows, recipe, encoder, part.embeddings) for rows, part in zip(files, parts, strict=True)]
        val_table = _table(val_rows, recipe, encoder) if val_rows else None
    datasets = [
        TextDataset(rows, task, table, part.captions, instruct=len(parts) > 1)
        for rows, task, table, part in zip(files, tasks, tables, parts, strict=True)
    ]
    dataset = datasets[0] if len(parts) == 1 else MixedDataset(datasets, [part.weight for part in parts], recipe.seed)
    val = TextDataset(val_rows, tasks[0], val_table, instruct=len(parts) > 1) if val_rows and val_table else None
    longest = max(task.max_new_tokens for task in tasks)
    set_seed(recipe.seed)
    model = _build_model(recipe, longest, tables[0], files[0])
    tokenizer = load_tokenizer(
        _language_model_place(recipe.language_model), model.get_input_embeddings().num_embeddings
    )
    if arguments.device.type == "cpu":
        make_lean(model)
    learner = _with_lora(model, recipe.lora) if recipe.lora else model
    with arguments.main_process_first(local=False):
        if arguments.should_save:
            _begin(folder, recipe, files, tables[0].fingerprint, resume=resume)
    with _told():
        trainer = CloseTrainer(
            model=learner,
            args=arguments,
            data_collator=Collator(tokenizer, recipe.train_on, longest),
            train_dataset=dataset,
            eval_dataset=val,
            processing_class=tokenizer,
        )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    for callback in (_Epochs(trainer), *callbacks):
        trainer.add_callback(callback)
    last = latest_checkpoint(folder / CHECKPOINTS)
    with _told(), kept_memory(), progress("training", "steps") as update:
        if trainer.is_world_process_zero():
            trainer.add_callback(_ProgressLine(update))
        result = trainer.train(resume_from_checkpoint=last)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None  # all gather
    if recipe.lora:
        model = trainer.model.merge_and_unload()
    if trainer.is_world_process_zero():
        data = [
            {"task": part.task, "rows": len(rows), "sha256": rows.sha256, "examples": len(examples)}
            for part, rows, examples in zip(parts, files, datasets, strict=True)
        ]
        precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
        about = {"tasks": [part.task for part in parts], "train": data, "steps": result.global_step}
        about |= {"plugins": _plugins(recipe, model)}
        about |= {"precision": precision, "device": str(arguments.device), "processes": arguments.world_size}
        _save(folder, model, state, tokenizer, recipe, about, trainer.state.log_history)
    return folder


def _plugins(recipe: Recipe, model: CloseModel) -> list[str]:
    """Those that the recipe names, and those whose parts it uses."""
    parts = plugins_of(
        (TASKS, [part.task for part in recipe.parts()]),
        (ADAPTERS, names_in(model.adapter.spec())),
        (ENCODERS, [recipe.encoder.partition(":")[0]]),
    )
    return list(dict.fromkeys([*map(key_of, recipe.plugins), *parts]))


class CloseTrainer(Seq2SeqTrainer):  # type: ignore[misc,unused-ignore]
    """Seq2SeqTrainer whose noise belongs to (seed, epoch, row), and whose checkpoints say whether they are whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (RuntimeError, ValueError) as error:  # options that do not go together, or lack their package
            raise RecipeError(f"training: {' '.join(str(error).split())}") from error
        if self.args.fsdp and not self.is_fsdp_enabled:
            raise RecipeError(
                "training: fsdp: nothing to shard over; it needs several GPUs, started by torchrun or accelerate"
            )
        self.label_smoother = None  # the model smooths, over all tokens of the step

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Turn row numbers into noise seeds."""
        rows = inputs.pop("rows", None)
        if rows is not None and model.training:
            inputs["seeds"] = row_seeds(self.args.seed, int(self.state.epoch or 0), rows)
        if self.args.label_smoothing_factor:
            inputs["label_smoothing"] = self.args.label_smoothing_factor
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        self.sampler = LengthSampler(
            self.train_dataset, self._step_size(), self.args.seed, fill=self.args.world_size > 1
        )
        return self.sampler

    def _step_size(self) -> int:
        """Examples of one optimizer step, so that the order is the same however the step is cut up."""
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own generators' state
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST}
            write_json(folder / MANIFEST, sizes)


MANIFEST = "manifest.json"


def latest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end and is untouched since, if there is one."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    return next((str(path) for path in found if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    if not (checkpoint / MANIFEST).is_file():
        return False
    sizes = read_json(checkpoint / MANIFEST)
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == sizes[name] for name in sizes)


def _is_finished(folder: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> bool:
    """Make sure that the folder is free, or this run's; True where that is finished already."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    own = folder / RECIPE_FILE
    # not by its recipe: anyone may keep one there
    if not ((folder / RUN_FILE).is_file() or (folder / STARTED).is_file()):
        raise OutputExistsError(f"{folder} exists and is no run; choose another output")
    if overwrite or not own.is_file():
        return False
    if not resume:
        raise OutputExistsError(
            f"{folder} already holds a run: continue it with --resume, or replace it with --overwrite"
        )
    ours, theirs = recipe.dump(), yaml.safe_load(own.read_text(encoding="utf-8"))
    different = [key for key in ours if ours[key] != theirs.get(key)]
    if different:
        raise OutputExistsError(
            f"{folder} holds a run of another recipe ({', '.join(different)} differ): resume with the same one, "
            "or choose another output"
        )
    finished = (folder / RUN_FILE).is_file()
    if finished:  # perhaps killed before it had tidied up
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return finished


def _begin(folder: Path, recipe: Recipe, files: list[RowFile], fingerprint: str, *, resume: bool) -> None:
    """Mark the folder as this run's; what it was before goes, unless the run is resumed."""
    facts = {"encoder": fingerprint} | {str(rows.path): rows.sha256 for rows in files}
    started = folder / STARTED
    if resume and started.is_file():
        before = read_json(started)
        for name in [name for name in facts if facts[name] != before.get(name)][:1]:
            raise OutputExistsError(f"{folder}: {name} has changed since the run began; start anew with --overwrite")
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(started, facts)
    write_text(folder / RECIPE_FILE, yaml.safe_dump(recipe.dump(), sort_keys=False))


@contextmanager
def _told() -> Iterator[None]:
    """Packages that options of training need, and transformers asks for late."""
    try:
        yield
    except ImportError as error:
        raise RecipeError(f"training: {' '.join(str(error).split())}") from error


def _table(
    rows: RowFile, recipe: Recipe, encoder: Callable[[], ContrastiveEncoder], given: Path | None = None
) -> EmbeddingTable:
    if given is not None:
        table = EmbeddingTable(given)
        if table.encoder != encoder_name(recipe.encoder):
            raise MismatchError(
                f"{table.path} was made with encoder {table.encoder!r}, the recipe says {recipe.encoder!r}"
            )
        if table.modality != recipe.train_on:
            raise MismatchError(
                f"{table.path} holds {table.modality} embeddings, the recipe trains on {recipe.train_on}"
            )
        return table
    with progress(f"embedding {rows.path.name}") as update:
        return cached_table(rows, encoder(), recipe.train_on, progress=update)


def _language_model_place(reference: str) -> str:
    if reference != "mini":
        return reference
    from close.mini import LANGUAGE_MODEL_DIR

    return str(LANGUAGE_MODEL_DIR)


def _build_model(recipe: Recipe, max_new_tokens: int, table: EmbeddingTable, rows: RowFile) -> CloseModel:
    language_model = _language_model(recipe.language_model)
    text = table if recipe.train_on == "text" else None
    adapter = resolve_adapter(
        recipe.adapter,
        table.dim,
        table.fingerprint,
        text=text,
        groups=lambda: group_labels(rows, table),
    )
    config = CloseConfig(
        encoder=table.encoder,
        encoder_fingerprint=table.fingerprint,
        embed_dim=table.dim,
        prefix_length=recipe.prefix_length,
        adapter=adapter.spec(),
        language_model=language_model.config,
    )
    model = CloseModel(config, language_model)
    model.adapter = adapter
    model.generation_config = GenerationConfig.from_model_config(language_model.config)
    model.generation_config.update(num_beams=NUM_BEAMS, max_new_tokens=max_new_tokens, max_length=None)
    return model


def _language_model(reference: str) -> Any:
    """`mini` starts from random weights; everything else from its own, which must be whole."""
    place = _language_model_place(reference)
    if reference == "mini":
        return AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(place))
    try:
        model, report = AutoModelForSeq2SeqLM.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"language model {reference!r} can't be loaded (an encoder–decoder one is needed): {line}"
        ) from None
    for key in sorted(report["missing_keys"])[:1]:
        raise WeightsError(
            f"language model {reference!r}: {len(report['missing_keys'])} weights are missing, {key!r} first"
        )
    return model


def _with_lora(model: CloseModel, lora: LoraSection) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        modules_to_save=["prefix"],
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise RecipeError(f"lora.target_modules {lora.target_modules!r}: {error}") from error


def _weights(reference: str) -> int:
    """How many weights a language model has; 0 where its configuration can't be read, which loading it will tell."""
    try:
        with torch.device("meta"):
            return AutoModelForSeq2SeqLM.from_config(
                AutoConfig.from_pretrained(_language_model_place(reference))
            ).num_parameters()
    except (OSError, ValueError, KeyError):
        return 0


def _arguments(
    section: TrainingSection, folder: Path, seed: int, language_model: str, *, has_val: bool
) -> Seq2SeqTrainingArguments:
    defaults = {
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "eval_strategy": "epoch" if has_val else "no",
        "logging_steps": 50,
        "per_device_eval_batch_size": section.batch_size,
        "disable_tqdm": True,
        "log_level": "error",
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.accelerator.is_available(),
    }
    precision: str = section.precision
    if precision == "auto":
        precision = pick_precision(precision, pick_device(None), _weights(language_model))
    try:
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(folder),
            num_train_epochs=section.epochs,
            per_device_train_batch_size=section.batch_size,
            learning_rate=section.learning_rate,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            report_to=section.report_to,
            seed=seed,
            data_seed=seed,
            **(defaults | (section.model_extra or {})),
        )
        for reporter in get_reporting_integration_callbacks(arguments.report_to):  # now, and not when work has begun
            reporter()
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise RecipeError(f"training: {' '.join(str(error).split())}") from None
    return arguments


class _Epochs(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Tells sampler and dataset which epoch begins, also after a resume (loaders count from where they were made)."""

    def __init__(self, trainer: CloseTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = int(state.epoch or 0)
        self.trainer.sampler.pin(epoch)
        if isinstance(self.trainer.train_dataset, MixedDataset):
            self.trainer.train_dataset.set_epoch(epoch)


class _ProgressLine(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Steps, rate, time left and the loss."""

    def __init__(self, update: Callable[..., None]) -> None:
        self.update = update
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.update(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.note = f"loss {float(logs['loss']):.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.update(state.global_step, state.max_steps, self.note)


def _save(
    folder: Path,
    model: CloseModel,
    state: dict[str, Any] | None,
    tokenizer: Any,
    recipe: Recipe,
    about: dict[str, Any],
    log: list[dict[str, Any]],
) -> None:
    """Everything that the run needs; `run.json` last, so that it says that the run is whole."""
    logs = folder / CHECKPOINTS / "runs"  # where tensorboard writes
    if logs.is_dir():
        shutil.copytree(logs, folder / "runs", dirs_exist_ok=True)
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
    write_text(
        folder / "README.md", CARD.format(recipe=yaml.safe_dump(recipe.dump(), sort_keys=False), **_card(recipe))
    )
    config = model.config
    write_json(
        folder / RUN_FILE,
        {
            "format": 1,
            "encoder": config.encoder,
            "fingerprint": config.encoder_fingerprint,
            "seed": recipe.seed,
            **about,
            "versions": versions(),
        },
    )
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _card(recipe: Recipe) -> dict[str, Any]:
    return {
        "task": recipe.task,
        "encoder": recipe.encoder,
        "train_on": recipe.train_on,
        "language_model": recipe.language_model,
    }
