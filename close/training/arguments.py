"""A recipe's training section as transformers takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, get_scheduler
from transformers.integrations import (
    get_reporting_integration_callbacks,
    is_deepspeed_zero3_enabled,
    unset_hf_deepspeed_config,
)

from close.encoders import pick_device
from close.errors import RecipeError, reason
from close.fast.precision import pick_precision
from close.model.language_models.loading import count_weights
from close.runs.recipe import Recipe
from close.training.validation import LOSS, best_score

__all__ = ["training_arguments"]

LOGGED = 50
"""Steps from one line of the log to the next."""


def training_arguments(recipe: Recipe, folder: Path, weights: int | None = None) -> Seq2SeqTrainingArguments:
    """The arguments of a run whose checkpoints go to `folder`.

    Args:
        weights: how many the model has, where it does not begin with the recipe's language model.

    Raises:
        RecipeError: options that are wrong, do not go together, or lack their package.
    """
    section = recipe.training
    given = section.model_extra or {}
    precision: str = section.precision
    if precision == "auto":
        known = count_weights(recipe.language_model) if weights is None else weights
        on_cpu = given.get("use_cpu") or parse_flag_from_env("ACCELERATE_USE_CPU")
        precision = pick_precision(precision, pick_device("cpu" if on_cpu else None), known)
    try:
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(folder),
            num_train_epochs=section.epochs,
            per_device_train_batch_size=section.batch_size,
            learning_rate=section.learning_rate,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            report_to=section.report_to,
            seed=recipe.seed,
            data_seed=recipe.seed,
            **(_defaults(recipe) | _renamed(given) | _best(recipe)),
        )
        for reporter in get_reporting_integration_callbacks(arguments.report_to):  # now, and not when work has begun
            reporter()
        _try(arguments, recipe)
    except (ValueError, TypeError, ImportError, RuntimeError, OSError) as error:
        unset_hf_deepspeed_config()  # half made, it would be asked by every model that is loaded while the error lives
        raise RecipeError(f"training: {reason(error)}") from None
    if recipe.tune != "full" and arguments.fsdp:
        raise RecipeError(
            f"tune: {recipe.tune} and training.fsdp do not go together: what is trained is too little to shard"
        )
    # of several, transformers makes DataParallel, and as many times the batch
    arguments._n_gpu = min(arguments.n_gpu, 1)
    if section.metric_for_best and (arguments.fsdp or arguments.deepspeed):
        raise RecipeError("training.metric_for_best does not go with fsdp or deepspeed: no process holds a whole model")
    return arguments


def _try(arguments: Seq2SeqTrainingArguments, recipe: Recipe) -> None:
    """What transformers would find out when training begins, and what was there has been removed."""
    if is_deepspeed_zero3_enabled():
        raise ValueError(
            "deepspeed: stage 3 leaves each process a part of the weights, which are not gathered here before they are saved; "
            "take stage 2, or fsdp"
        )
    if arguments.eval_on_start and recipe.data.val is None:
        raise ValueError("eval_on_start looks at data.val, and there is none")
    looked, saved = arguments.eval_steps, arguments.save_steps
    if arguments.load_best_model_at_end and arguments.save_strategy == "steps" and looked != saved:
        raise ValueError(
            f"eval_steps {looked:g} and save_steps {saved:g}: the best checkpoint is one that was looked at and saved, so give "
            "both the same"
        )
    if arguments.dataloader_persistent_workers and not arguments.dataloader_num_workers:
        raise ValueError("dataloader_persistent_workers are kept where there are some, and dataloader_num_workers is 0")
    if not any(kind in arguments.optim for kind in ("galore", "apollo", "lomo")):  # which ask for the model
        Seq2SeqTrainer.get_optimizer_cls_and_kwargs(arguments)
    get_scheduler(
        arguments.lr_scheduler_type,
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate),
        num_warmup_steps=0,
        num_training_steps=1,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """What transformers calls otherwise by now, and would warn of."""
    return {key.replace("gradient_checkpointing", "activation_checkpointing"): value for key, value in given.items()}


def _best(recipe: Recipe) -> dict[str, Any]:
    """What makes a run hold the checkpoint that `training.metric_for_best` names; a score for every checkpoint."""
    if recipe.training.metric_for_best is None:
        return {}
    given, found = recipe.training.model_extra or {}, best_score(recipe)
    steps = given.get("save_steps") or given.get("eval_steps")
    strategy = given.get("save_strategy") or given.get("eval_strategy") or ("steps" if steps else "epoch")
    if strategy == "steps":
        steps = steps or given.get("logging_steps") or LOGGED
    if strategy == "no" or given.get("eval_strategy") == "no":
        raise RecipeError(
            "training.metric_for_best: with save_strategy or eval_strategy 'no' there is nothing to choose from"
        )
    same = {"save_strategy": strategy} if strategy == "best" else {"save_strategy": strategy, "eval_strategy": strategy}
    return {
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{found[1].key if found else LOSS}",
        "greater_is_better": found is not None and found[1].higher_is_better,
        **{key: value for key, value in same.items() if key not in given},
        **({key: steps for key in ("save_steps", "eval_steps") if key not in given} if steps else {}),
    }


def _defaults(recipe: Recipe) -> dict[str, Any]:
    given = recipe.training.model_extra or {}
    return {
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "save_strategy": "steps" if "save_steps" in given else "epoch",
        "save_total_limit": 2,
        "eval_strategy": "no" if recipe.data.val is None else "steps" if "eval_steps" in given else "epoch",
        "logging_steps": LOGGED,
        "logging_nan_inf_filter": False,  # it would hide what `FiniteLosses` stops the run for
        "per_device_eval_batch_size": recipe.training.batch_size,
        "disable_tqdm": True,
        "log_level": "error",
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,  # an adapter's are the same everywhere, and may be a whole memory
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.accelerator.is_available(),
    }
