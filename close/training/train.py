"""From a recipe to a trained run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import GenerationConfig, Seq2SeqTrainingArguments, TrainerCallback, set_seed
from transformers.pytorch_utils import Conv1D

from close.adapters import ADAPTERS, resolve_adapter
from close.adapters.base import names_in
from close.adapters.resolve import takes_training_text
from close.data.rows import RowFile, evenly
from close.data.shards import open_rows
from close.encoders import ENCODERS, ContrastiveEncoder, load_encoder
from close.errors import RecipeError
from close.fast.layers import fast_layers
from close.io.jobs import exclusively
from close.io.places import reference_from
from close.io.pretrained import load_tokenizer
from close.io.progress import progress
from close.mini import LANGUAGE_MODELS
from close.model.configuration import CloseConfig
from close.model.language_models.kinds import language_model_kind
from close.model.language_models.loading import language_model_place, load_language_model
from close.model.language_models.reference import base_of, refer
from close.model.lora import factors_of, lora_targets, together
from close.model.modeling import CloseModel
from close.model.prefixes import EMBEDDINGS, PREFIXES, embedding_scale
from close.plugins import key_of, plugins_said
from close.retrieval.content import WORD_FINDERS
from close.runs.folder import CHECKPOINTS, begin_run, is_finished, plugins_of, save_run, started_run
from close.runs.length import mean_length
from close.runs.recipe import Recipe
from close.runs.recipe_file import portable
from close.runs.sections import LoraSection
from close.runs.sources import sums_beside
from close.tasks import TASKS, get_task
from close.training.arguments import training_arguments
from close.training.checkpoints import drop_broken, latest_checkpoint
from close.training.checks import check_work, given_table, tell_cut
from close.training.examples import Collator, MixedDataset, TextDataset
from close.training.origin import Origin, filled_in, origin_of
from close.training.processes import ended_together, first_alone, is_first
from close.training.retrieving import Retrieving, retrieving
from close.training.trainer import CloseTrainer, ShortRun
from close.training.validation import Validation
from close.vectors.cache import cached_table
from close.vectors.groups import group_labels
from close.vectors.open import Picked, check_encoder
from close.vectors.table import EmbeddingTable

__all__ = ["train"]

NUM_BEAMS = 5


@ended_together()
def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    embed_memory: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train as the recipe says and save the run.

    Args:
        out: the run's folder. resume: continue a run that was stopped; a finished one is left as it is.
        overwrite: remove what is there. embed_memory: put the memory that the recipe retrieves from into the folder.
        callbacks: of transformers, told of every step.
    Returns:
        The run's folder: weights, configuration, tokenizer, recipe, log, versions, model card.
    Raises:
        OutputExistsError: the folder holds another run, one that is to be resumed or overwritten, or one that is being trained.
        CloseError: anything wrong with recipe, data, encoder or weights; before training starts.
    """
    folder = Path(out)
    if resume and overwrite:
        raise RecipeError("resume goes on with the run that is there, overwrite removes it: give one of them")
    if embed_memory and recipe.retrieve is None:
        raise RecipeError("a memory is embedded where the recipe says 'retrieve', and it does not")
    with exclusively(folder, "is being trained") if is_first() else nullcontext():
        recipe = filled_in(recipe, folder, resume=resume)
        if not is_finished(folder, recipe, resume=resume, overwrite=overwrite):
            _train(recipe, folder, resume, embed_memory, callbacks)
    return folder


def _train(
    recipe: Recipe, folder: Path, resume: bool, embeds_memory: bool, callbacks: Sequence[TrainerCallback]
) -> None:
    origin = origin_of(recipe, folder, started_run(folder) if resume else None)
    arguments = training_arguments(recipe, folder / CHECKPOINTS, origin.weights if origin else None)
    data = _read_data(recipe, origin)
    least = arguments.train_batch_size
    # several processes fill their last step
    if arguments.dataloader_drop_last and arguments.world_size == 1 and len(data.train) < least:
        raise RecipeError(
            f"training: dataloader_drop_last leaves out what is no whole batch of {least}, and there are {len(data.train)} "
            "examples"
        )
    beside = sums_beside(recipe)
    set_seed(recipe.seed)
    model = _settled(origin.model(recipe.adapter) if origin else _build_model(recipe, data), recipe, data, folder)
    _refer(model, recipe, folder, origin)
    place = str(origin.folder) if origin else language_model_place(recipe.language_model)
    tokenizer = load_tokenizer(place, model.get_input_embeddings().num_embeddings)
    room, code = model.context_room(recipe.longest), plugins_said(_plugins(recipe, model))
    # torch.compile knows oneDNN's products of constants alone
    swaps = arguments.device.type == "cpu" and not arguments.torch_compile
    with fast_layers(model) if swaps else nullcontext():
        learner = _learner(model, recipe)
        with first_alone():
            if arguments.should_save:
                facts: dict[str, Any] = {"encoder": data.tables[0].fingerprint, "data": data.sums, "beside": beside}
                facts |= {"code": code, "how": _how(arguments), "origin": origin.about if origin else None}
                begin_run(folder, recipe, resume=resume, **facts)
                if origin:
                    origin.keep(folder)
                drop_broken(folder / CHECKPOINTS)
                tell_cut(recipe, data.files, deepcopy(tokenizer), model.kind, room)  # which keeps how it cut last
        trainer = CloseTrainer(
            model=learner,
            args=arguments,
            data_collator=Collator(deepcopy(tokenizer), recipe.train_on, recipe.longest, room, model.kind),
            train_dataset=data.train,
            eval_dataset=data.val,
            processing_class=tokenizer,
            validation=data.validation,
            prefix_rate=recipe.training.prefix_learning_rate,
            callbacks=(*callbacks, *([] if origin else [ShortRun()])),
        )
        steps = trainer.run(latest_checkpoint(folder / CHECKPOINTS))
        state = trainer.gathered_state()
        if recipe.tune == "lora":
            trained = factors_of(model)
            model = trainer.model.merge_and_unload()
            model.factors = together(model.factors, trained)
    if trainer.is_world_process_zero():
        about = {"init_from": dict(origin.about)} if origin else {}
        about |= data.about | {"beside": [*beside.values()], "tune": recipe.tune, "steps": steps}
        about |= trainer.best | portable(dict(code), folder)
        about |= _how(arguments) | {"device": str(arguments.device)}
        if embeds_memory and data.retrieving:
            data.retrieving.put_into(model.config, folder)
        save_run(folder, model, tokenizer, recipe, state=state, about=about, log=trainer.state.log_history)


def _plugins(recipe: Recipe, model: CloseModel) -> list[str]:
    """Those that the recipe names, and those whose parts it uses."""
    encoders = [recipe.encoder, *([recipe.retrieve.encoder or ""] if recipe.retrieve else [])]
    parts = plugins_of(
        (TASKS, [part.task for part in recipe.parts()]),
        (ADAPTERS, names_in(model.adapter.spec())),
        (ENCODERS, [reference.partition(":")[0] for reference in encoders]),
        (PREFIXES, [recipe.prefix["kind"]]),
        (WORD_FINDERS, [recipe.retrieve.language] if recipe.retrieve else []),
    )
    return list(dict.fromkeys([*map(key_of, recipe.plugins), *parts]))


@dataclass(frozen=True)
class _Data:
    """What a run learns from, task by task, and `train`, all of it as examples; `val` is watched, by its loss or by a score."""

    names: list[str]
    files: list[RowFile]
    tables: list[EmbeddingTable]
    examples: list[TextDataset]
    train: TextDataset | MixedDataset
    val: TextDataset | None
    validation: Validation | None
    retrieving: Retrieving | None = None

    @property
    def most(self) -> int:
        """The most vectors of an example."""
        return max(part.embeds.most for part in [*self.examples, *([self.val] if self.val else [])])

    @property
    def sums(self) -> dict[str, str]:
        """SHA-256 of every data file, by path."""
        more = (self.retrieving.sums if self.retrieving else {}) | (self.validation.sums if self.validation else {})
        files = [*self.files, *([self.val.rows] if self.val else [])]
        return {str(rows.path): rows.sha256 for rows in files} | more

    @property
    def about(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        parts = [
            {"task": name, "rows": len(rows), "sha256": rows.sha256, "examples": len(examples)}
            | {"characters": round(mean_length(rows, get_task(name)), 2)}
            | {"contexts": any(get_task(name).context(rows[place]) for place in evenly(len(rows), 1000))}
            for name, rows, examples in zip(self.names, self.files, self.examples, strict=True)
        ]
        return {"tasks": self.names, "train": parts}


def _read_data(recipe: Recipe, origin: Origin | None) -> _Data:
    parts = recipe.parts()
    instruct = len(parts) > 1
    tasks = [get_task(part.task) for part in parts]
    files = [open_rows(part.train, recipe.data.columns) for part in parts]
    val_rows = open_rows(recipe.data.val, recipe.data.columns) if recipe.data.val else None
    judged = check_work(recipe, files, val_rows)
    encoder = cache(lambda: load_encoder(recipe.encoder))
    if origin:
        given = parts[0].embeddings
        known = encoder() if given is None else EmbeddingTable(given)
        origin.check_encoder(recipe.encoder, known.fingerprint)
    with first_alone():  # of several processes one embeds, the others read
        tables = [_table(rows, recipe, encoder, part.embeddings) for rows, part in zip(files, parts, strict=True)]
        val_table = _table(val_rows, recipe, encoder) if val_rows else None
        _of_one_encoder([*tables, *([val_table] if val_table else [])])
        memory = retrieving(recipe, files, tables, encoder)
        finder = memory.finder if memory else None
        validation = Validation(judged, encoder, val_table, recipe, finder) if judged and val_table else None
        every = [
            *zip(files, tasks, tables, strict=True),
            *([(val_rows, tasks[0], val_table)] if val_rows and val_table else []),
        ]
        found = [memory.found(*one, number) if memory else None for number, one in enumerate(every)]
    about: dict[str, Any] = {"instruct": instruct, "several": recipe.several, "lowercase": recipe.lowercase}
    examples = [
        TextDataset(rows, task, table, part.captions, found=one, **about)
        for rows, task, table, part, one in zip(files, tasks, tables, parts, found, strict=False)
    ]
    weights = [part.weight for part in parts]
    return _Data(
        names=[part.task for part in parts],
        files=files,
        tables=tables,
        examples=examples,
        train=MixedDataset(examples, weights, recipe.seed) if weights != [1] else examples[0],
        val=TextDataset(val_rows, tasks[0], val_table, parts[0].captions, found=found[-1], **about)
        if val_rows and val_table
        else None,
        validation=validation,
        retrieving=memory,
    )


def _table(
    rows: RowFile, recipe: Recipe, encoder: Callable[[], ContrastiveEncoder], given: Path | None = None
) -> EmbeddingTable:
    if given is None:
        with progress(f"embedding {rows.path.name}") as update:
            return cached_table(rows, encoder(), recipe.train_on, progress=update)
    return given_table(recipe, given)


def _of_one_encoder(tables: Sequence[EmbeddingTable]) -> None:
    """Refuse vectors of other weights, whatever the encoder is called."""
    first = tables[0]
    for table in tables[1:]:
        check_encoder(
            f"{table.path}", table.encoder, table.fingerprint, f"{first.path}", first.encoder, first.fingerprint
        )


def _build_model(recipe: Recipe, data: _Data) -> CloseModel:
    language_model = load_language_model(recipe.language_model)
    place, size = language_model_place(recipe.language_model), language_model.get_input_embeddings().num_embeddings
    template = language_model_kind(language_model.config).template_of(load_tokenizer(place, size), size, place)
    table, rows = data.tables[0], data.files[0]
    text = None
    if recipe.train_on == "text" and takes_training_text(recipe.adapter):  # its rows: a table may hold more
        text = Picked(table, np.flatnonzero(np.isin(table.index, data.examples[0].embeds.vectors)))
    adapter = resolve_adapter(
        recipe.adapter,
        table.dim,
        table.fingerprint,
        text=text,
        groups=(lambda: group_labels(rows, table)[text.index]) if text else None,
        rows=lambda place: open_rows(place, recipe.columns_of(place)),
    )
    config = CloseConfig(
        encoder=table.encoder,
        encoder_fingerprint=table.fingerprint,
        embed_dim=table.dim,
        prefix=recipe.prefix,
        adapter=adapter.spec(),
        language_model=language_model.config,
        template=template.values() if template else None,
    )
    model = CloseModel(config, language_model)
    model.adapter = adapter
    if recipe.prefix.get("scale") == EMBEDDINGS:
        model.prefix.scale = embedding_scale(model.prefix, model.get_input_embeddings())
        model.config.prefix = {**recipe.prefix, "scale": model.prefix.scale}
    return model


def _settled(model: CloseModel, recipe: Recipe, data: _Data, folder: Path) -> CloseModel:
    """With the encoder's name of now, as seen from the run, and this run's sets, memory and settings of generation."""
    model.config.encoder = reference_from(data.tables[0].encoder, folder)
    model.config.several, model.config.vectors = recipe.several, recipe.most_vectors(data.most)
    model.config.retrieve = data.retrieving.about(folder) if data.retrieving else None
    model.generation_config = GenerationConfig.from_model_config(model.config.language_model)
    model.generation_config.update(num_beams=NUM_BEAMS, max_new_tokens=recipe.longest, max_length=None)
    if model.config.template:
        model.generation_config.update(eos_token_id=model.kind.template.end, pad_token_id=model.kind.template.pad)
    return model


def _refer(model: CloseModel, recipe: Recipe, folder: Path, origin: Origin | None) -> None:
    """A language model that is not trained as a whole is named, unless it lies nowhere: begun at random, or another run's."""
    before = model.config.base
    if (
        recipe.tune == "full"
        or (origin and before is None)
        or (not origin and recipe.language_model in LANGUAGE_MODELS)
    ):
        model.config.base, model.factors = None, {}
        return
    base = before or base_of(recipe.language_model, model.language_model)
    model.config.base = refer(base, origin.folder if origin else Path(), folder)


def _learner(model: CloseModel, recipe: Recipe) -> Any:
    """The model as it is trained: all of it, with LoRA's factors, or but for its language model."""
    if recipe.tune == "lora":
        return _with_lora(model, recipe.lora or LoraSection())
    if recipe.tune == "none":
        model.language_model.requires_grad_(False)
        model.is_frozen = True
    return model


def _with_lora(model: CloseModel, lora: LoraSection) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = lora_targets(model.language_model, lora.target_modules)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.modules()),
        modules_to_save=["prefix"],
    )
    try:
        with warnings.catch_warnings():  # of peft's, which asks transformers by an older name
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(model, config)
    except ValueError as error:
        raise RecipeError(f"lora.target_modules {targets!r}: {error}") from error


def _how(arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """What beside the recipe decides the steps, and is the machine's."""
    precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
    return {"precision": precision, "processes": arguments.world_size}
