"""From a recipe to a trained run."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, TrainerCallback, set_seed
from transformers.pytorch_utils import Conv1D

from close.adapters import ADAPTERS, resolve_adapter
from close.adapters.resolve import takes_training_text
from close.adapters.specs import names_in
from close.data.rows import RowFile, evenly
from close.data.shards import open_rows
from close.encoders import ENCODERS
from close.errors import RecipeError, shown
from close.evaluation.metrics import METRICS
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
from close.registry import Registry, plugins_of
from close.retrieval.content import WORD_FINDERS
from close.runs.folder import CHECKPOINTS, begin_run, save_run, tidy
from close.runs.length import mean_length
from close.runs.recipe import Recipe, load_recipe
from close.runs.recipe_file import portable
from close.runs.sections import LoraSection
from close.tasks import TASKS, get_task
from close.training.beginning import Beginning, Part, begun
from close.training.checkpoints import drop_broken, latest_checkpoint
from close.training.checks import tell_cut
from close.training.examples import Collator, MixedDataset, TextDataset, labels_of
from close.training.origin import Origin
from close.training.processes import ended_together, first_alone, is_first
from close.training.retrieving import Retrieving, retrieving
from close.training.trainer import CloseTrainer, ShortRun
from close.training.validation import Validation
from close.vectors.cache import cached_table
from close.vectors.groups import group_labels
from close.vectors.open import Picked
from close.vectors.table import EmbeddingTable

__all__ = ["train"]

NUM_BEAMS = 5
_ONE_AT_A_TIME = RLock()
"""Threads train in turn: a process has one generator, which models, dropout and whatever is loaded draw from."""


@ended_together()
def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    embed_memory: bool = False,
    callbacks: TrainerCallback | Sequence[TrainerCallback] = (),
) -> Path:
    """Train as the recipe says and save the run; random generators are left as they were, and threads train in turn.

    Args:
        recipe: as `load_recipe` gives it, or its file. out: the run's folder.
        resume: continue a run that was stopped; a finished one is left as it is.
        overwrite: remove what is there. embed_memory: put the memory that the recipe retrieves from into the folder.
        callbacks: of transformers, one alone or several, told of every step.
    Returns:
        The run's folder: weights, configuration, tokenizer, recipe, log, versions, model card.
    Raises:
        OutputExistsError: the folder holds another run, one that is to be resumed or overwritten, or one that is being trained.
        CloseError: anything wrong with recipe, data, encoder or weights; before training starts.
    """
    if not isinstance(recipe, (Recipe, str, Path)):
        raise RecipeError(f"a recipe is what close.load_recipe gives, or its file, not {shown(recipe)}")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    callbacks = [callbacks] if isinstance(callbacks, TrainerCallback) else callbacks
    folder = Path(out)
    with exclusively(folder, "is being trained") if is_first() else nullcontext(), _ONE_AT_A_TIME:
        work = begun(recipe, folder, resume=resume, overwrite=overwrite, embed_memory=embed_memory)
        if work is None:
            tidy(folder)  # perhaps killed before it had
        else:
            with _own_generators():
                _train(work, folder, resume, embed_memory, callbacks)
    return folder


@contextmanager
def _own_generators() -> Iterator[None]:
    """A block that may set the generators of the process: they are given back as they were."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        before = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _train(
    work: Beginning, folder: Path, resume: bool, embeds_memory: bool, callbacks: Sequence[TrainerCallback]
) -> None:
    recipe, origin, arguments, data = work.recipe, work.origin, work.arguments, _read_data(work)
    set_seed(recipe.seed)
    model = _settled(origin.model(recipe.adapter) if origin else _build_model(recipe, data), recipe, data, folder)
    _refer(model, recipe, folder, origin)
    place = str(origin.folder) if origin else language_model_place(recipe.language_model)
    tokenizer = load_tokenizer(place, model.get_input_embeddings().num_embeddings)
    room, plugins = model.context_room(recipe.longest), _plugins(recipe, model)
    judging = METRICS.origins.get(work.judged.metric.name) if work.judged else None
    # torch.compile knows oneDNN's products of constants alone
    swaps = arguments.device.type == "cpu" and not arguments.torch_compile
    with fast_layers(model) if swaps else nullcontext():
        learner = _learner(model, recipe)
        with first_alone():
            if arguments.should_save:
                facts: dict[str, Any] = {"encoder": data.tables[0].fingerprint, "data": data.sums}
                facts |= {"code": _said([*plugins, *([judging] if judging else [])], judging)}
                facts |= {"beside": work.beside, "how": work.how, "origin": origin.about if origin else None}
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
        about |= data.about | {"beside": [*work.beside.values()], "tune": recipe.tune, "steps": steps}
        about |= trainer.best | portable(dict(_said(plugins)), folder)
        about |= work.how | {"device": str(arguments.device)}
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


def _said(plugins: Sequence[str], judging: str | None = None) -> dict[str, list[str]]:
    """`plugins_said`, without a sum of what brings metrics, measures and formats alone: scores are no part of a run.

    Args:
        judging: the plug-in whose metric chooses the weights, which counts.
    """
    said = plugins_said(plugins)
    deciding: list[Registry[Any]] = [TASKS, ADAPTERS, ENCODERS, PREFIXES, WORD_FINDERS]
    rest = [one for one in Registry.every if one not in deciding]
    used, others = ({one for of in some for one in of.origins.values()} for some in (deciding, rest))
    aside = others - used - {judging}
    sums = ["" if name in aside else own for name, own in zip(said["plugins"], said["plugin_sums"], strict=True)]
    return said | {"plugin_sums": sums}


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
            | {"length": round(mean_length(rows, get_task(name)), 2)}
            | {"contexts": any(get_task(name).context(rows[place]) for place in evenly(len(rows), 1000))}
            for name, rows, examples in zip(self.names, self.files, self.examples, strict=True)
        ]
        return {"tasks": self.names, "train": parts}


def _read_data(work: Beginning) -> _Data:
    recipe, parts, count = work.recipe, work.every, len(work.parts)
    files = [part.rows for part in work.parts]
    with first_alone():  # of several processes one embeds, the others read
        tables = [_table(part, work) for part in parts]
        memory = retrieving(recipe, files, tables[:count], work.encoder)
        finder = memory.finder if memory else None
        validation = Validation(work.judged, work.encoder, tables[-1], recipe, finder) if work.judged else None
        found = [
            memory.found(part.rows, part.task, table, number) if memory else None
            for number, (part, table) in enumerate(zip(parts, tables, strict=True))
        ]
    about: dict[str, Any] = {"instruct": count > 1, "several": recipe.several, "lowercase": recipe.lowercase}
    examples = [
        TextDataset(part.rows, part.task, table, part.section.captions, pairs=part.pairs, found=one, **about)
        for part, table, one in zip(parts, tables, found, strict=True)
    ]
    weights = [part.section.weight for part in work.parts]
    if validation is None and memory is None:
        work.encoder.cache_clear()  # an accelerator's memory is for what is trained
    return _Data(
        names=[part.section.task for part in work.parts],
        files=files,
        tables=tables[:count],
        examples=examples[:count],
        train=MixedDataset(examples[:count], weights, recipe.seed) if weights != [1] else examples[0],
        val=examples[-1] if work.val else None,
        validation=validation,
        retrieving=memory,
    )


def _table(part: Part, work: Beginning) -> EmbeddingTable:
    if part.given is not None:
        return part.given
    with progress(f"embedding {part.rows.path.name}") as update:
        return cached_table(part.rows, work.encoder(), work.recipe.train_on, progress=update)


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
        groups=(lambda: group_labels(rows, table, labels_of(recipe, rows.path))[text.index]) if text else None,
        labels=lambda place, texts: group_labels(
            open_rows(place, recipe.columns_of(place)), texts, labels_of(recipe, Path(place))
        ),
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
