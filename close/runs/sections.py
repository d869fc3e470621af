"""The sections of a recipe."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from close.data.columns import key_of
from close.errors import CloseError, MissingError
from close.registry import unknown_name
from close.retrieval.settings import LeaveOut, Retrieval
from close.runs.slips import comma_told

__all__ = [
    "DataSection",
    "LoraSection",
    "RetrieveSection",
    "Section",
    "TaskSection",
    "TrainingSection",
    "as_value",
    "keys_only",
]


def keys_only(info: ValidationInfo) -> bool:
    """Whether keys and plain values alone are looked at, and what torch or transformers must be asked is left for later."""
    return bool(info.context and info.context.get("keys_only"))


@contextmanager
def as_value() -> Iterator[None]:
    """What is told of a part is wrong with the key that names it, and so is told beside what is wrong with others."""
    try:
        yield
    except CloseError as error:
        raise ValueError(str(error)) from None


class Section(BaseModel):
    """Known keys only; nothing is changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    _read_in: str = PrivateAttr(default_factory=os.getcwd)

    @property
    def read_in(self) -> str:
        """The working directory when it was read: relative places are meant from there."""
        return self._read_in


class DataSection(Section):
    """Where the rows are.

    Attributes:
        train: rows to learn from (`.jsonl`, `.txt`, `.csv`). val: rows whose loss is watched.
        val_images: a table (or `.npy`) of images that no captions are known of, like those the run will see: where val has no
            images and training.metric_for_best names a score, what stands in for them is carried to where these lie.
        embeddings: an embedding table of the train rows, made before; without it, one is made and cached.
        columns: of tables, key to a column's name or place from 0, where the names do not say it: {caption: 2, image: 0}.
    """

    train: Path | None = None
    val: Path | None = None
    val_images: Path | None = None
    embeddings: Path | None = None
    columns: dict[str, str | int] | None = None

    @field_validator("columns")
    @classmethod
    def _columns(cls, given: dict[str, str | int] | None) -> dict[str, str | int] | None:
        for key in given or ():
            key_of(key)
        return given


class TaskSection(Section):
    """One task of several that one model learns.

    Attributes:
        task: its name. train: its rows. embeddings: their table, if made before.
        weight: how often an example is seen per epoch: 2 is twice, 0.5 a random half that changes every epoch.
        captions: as in the recipe.
    """

    task: str
    train: Path
    embeddings: Path | None = None
    weight: float = Field(1.0, gt=0)
    captions: Literal["single", "multiple"] = "single"


class LoraSection(Section):
    """Low-rank adaptation of the language model by peft.

    Attributes:
        r: rank of the update. alpha: its scale is alpha/r.
        dropout: share of its inputs that training leaves out.
        target_modules: the layers: a regular expression of their names, which begin with `language_model.`, or the ends of their
            names; without it, those that peft knows of the language model's architecture.
    """

    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | Annotated[list[str], Field(min_length=1)] | None = None


_ONLY = {
    "vectors": ("main", "noisy", "raw"),
    "captions": ("prompt",),
    "words": ("prompt", "among", "at_least", "dropout", "language", "attributes"),
}
"""What goes with one use of what is found."""


class RetrieveSection(Retrieval):
    """Texts that are found for each row in training, and for each image in use.

    Attributes:
        memory: rows (`.jsonl`, `.txt`, `.csv`) or an embedding table of texts; without it, the training rows.
        texts: the rows that a table was made of, for captions and words.
        noise: on the text that training searches with: a cosine, or {cosine, std or var: number} as the Gaussian adapter has it.
        leave_out: what training does not find: a row's own "texts", or those of its "groups". Without a word, the latter where it
            would give the target away: with `captions: multiple` and `train_on: image`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    memory: Path | None = None
    texts: Path | None = None
    noise: Any = None
    leave_out: LeaveOut | None = None

    @field_validator("noise")
    @classmethod
    def _noise(cls, given: Any, info: ValidationInfo) -> Any:
        noise = given if given is None or isinstance(given, dict) else {"cosine": given}
        if noise is not None and not keys_only(info):
            from close.adapters import build_adapter

            with as_value():
                build_adapter({"gaussian": noise}, 8)
        return noise

    @field_validator("language")
    @classmethod
    def _language(cls, given: str, info: ValidationInfo) -> str:
        if not keys_only(info):
            from close.retrieval.content import word_finder

            with as_value():
                word_finder(given)
        return given

    @model_validator(mode="after")
    def _fits(self) -> RetrieveSection:
        if wrong := [*self._disagreements()]:
            raise ValueError("\n".join(wrong))
        return self

    def check_there(self) -> None:
        """Refuse places where nothing is.

        Raises:
            MissingError: names the first.
        """
        if absent := [place for place in (self.memory, self.texts) if place is not None and not place.exists()]:
            raise MissingError(f"retrieve: {absent[0]}: no such file")

    def _disagreements(self) -> Iterator[str]:
        foreign = {key for names in _ONLY.values() for key in names} - {key for use in self.uses for key in _ONLY[use]}
        for key in sorted(foreign):
            if getattr(self, key) != type(self).model_fields[key].default:
                users = " or ".join(use for use, names in _ONLY.items() if key in names)
                yield f"{key} goes with into: {users}, not with into: {', '.join(self.uses)}"
        if self.texts is not None and self.memory is None:
            yield "texts are the rows that a table was made of, and no memory is given"
        if self.searches:
            return
        if self.noise is not None:
            yield "into: words trains on a caption's own words and searches nothing; leave noise out"
        if self.among is not None and self.k != type(self).model_fields["k"].default:
            yield "into: words counts words in `among` captions, and k does nothing beside it; leave one out"
        if self.leave_out is not None:
            yield "into: words trains on a caption's own words and finds nothing to leave out; leave leave_out out"
        if self.index != "exact":
            yield "into: words trains on a caption's own words and searches nothing; leave index out"


_OURS = {
    "output_dir": "--out",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.batch_size",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "--resume",
    "generation_num_beams": "training.metric_beams",
    "generation_max_length": "max_new_tokens",
    "predict_with_generate": "training.metric_for_best",
}
_LEFT = {
    "train_sampling_strategy": "batches hold targets of like length anyway",
    "length_column_name": "batches hold targets of like length anyway",
    "sortish_sampler": "batches hold targets of like length anyway",
    **dict.fromkeys(
        ("do_train", "do_eval", "do_predict"), "close train trains, and looks at data.val where it is given"
    ),
    "remove_unused_columns": "a batch holds what the model takes, and no more",
    "average_tokens_across_devices": "the loss is over the tokens of all processes",
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), "Liger has no kernels for this model"),
    "generation_config": "how texts are searched is said where they are made: close caption --num-beams",
}
"""Settings of theirs that would do nothing here, and why."""
_LEAST = {
    **dict.fromkeys(("max_steps", "gradient_accumulation_steps", "save_total_limit"), 1),
    **dict.fromkeys(
        ("warmup_steps", "weight_decay", "max_grad_norm", "dataloader_num_workers", "label_smoothing_factor"), 0
    ),
}
"""Of their settings, the least that means anything; transformers takes less, and does something else."""
_BEST = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better")
"""What transformers knows the best checkpoint by."""


@cache
def _theirs() -> frozenset[str]:
    """Fields of transformers' Seq2SeqTrainingArguments, read from its source: importing it takes five seconds."""
    package = find_spec("transformers")
    folder = Path(package.origin).parent if package and package.origin else Path()
    found: set[str] = set()
    for file in ("training_args.py", "training_args_seq2seq.py"):
        if (folder / file).is_file():
            classes = [
                n for n in ast.parse((folder / file).read_text(encoding="utf-8")).body if isinstance(n, ast.ClassDef)
            ]
            lines = [line for kind in classes if kind.name.endswith("TrainingArguments") for line in kind.body]
            found |= {n.target.id for n in lines if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    if "predict_with_generate" in found and "learning_rate" in found:
        return frozenset(found)
    from transformers import Seq2SeqTrainingArguments

    return frozenset(field.name for field in fields(Seq2SeqTrainingArguments))


def _read(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings of transformers', texts as what they mean ("1e-2", "false"), all else as it was given; and what is wrong."""
    from transformers import Seq2SeqTrainingArguments

    # fsdp is annotated as str, and documented as bool
    kinds, found, wrong = get_type_hints(Seq2SeqTrainingArguments) | {"fsdp": bool | str}, dict[str, Any](), []
    for key, value in given.items():
        kind = TypeAdapter(kinds[key], config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
        try:
            read = kind.validate_python(value)
        except ValidationError:
            wrong.append(f"{key}: expected {_kind_name(kinds[key])}, not {value!r}{comma_told(value)}")
        else:
            found[key] = read if isinstance(value, str) else value
    return found, wrong


def _kind_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _ours(key: str) -> str:
    """What a setting of transformers' is called here, and where it stands."""
    if key == _OURS[key]:
        return f"key {key!r} stands in the recipe itself, not in training"
    return f"key {key!r} is {_OURS[key]!r} here"


def training_key(name: str) -> str | None:
    """How a recipe says a setting of this name, of `training` or of transformers'; None where there is none."""
    if name in _OURS:
        return _OURS[name]
    return f"training.{name}" if name in _theirs() - set(_LEFT) or name in TrainingSection.model_fields else None


def does_nothing(name: str) -> str | None:
    """Why a setting of transformers' does nothing here; None of what does something, or is none."""
    return f"it does nothing here: {_LEFT[name]}" if name in _LEFT else None


def _enough(key: str, value: float) -> bool:
    """Whether a setting is in its range; −1 steps are transformers' word for none said."""
    return value >= _LEAST[key] or (key == "max_steps" and value == -1)


class TrainingSection(BaseModel):
    """The paper's settings; every other field of transformers' Seq2SeqTrainingArguments may be given beside them.

    Attributes:
        epochs: passes over the rows. batch_size: of one process. learning_rate: at its highest.
        prefix_learning_rate: of the prefix alone: a deep one (transformer, fusion) learns little at a rate that suits what is
            trained behind it. Without it, learning_rate.
        precision: "auto" is bf16 for models of 50 million weights and more on hardware that multiplies it, else fp32.
        report_to: trackers that transformers knows, such as "tensorboard".
        metric_for_best: a metric of the (first) task, one of its scores, or "loss": the run holds the checkpoint that is best by
            it on `data.val`. Without it, the last one.
        metric_rows: validation examples at most that are captioned for it. metric_beams: how; 1 is greedy.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    epochs: float = Field(8, gt=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    prefix_learning_rate: float | None = Field(None, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    report_to: str | list[str] = "none"
    metric_for_best: str | None = None
    metric_rows: int = Field(500, ge=1)
    metric_beams: int = Field(1, ge=1, le=100)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, dict):
            return values
        known = _theirs() - set(_OURS) | set(cls.model_fields)
        wrong = [_ours(key) for key in values if key in _OURS]
        wrong += [str(unknown_name("key", str(key), known)) for key in values if key not in known | set(_OURS)]
        if not keys_only(info):  # runs of before may name what is refused by now
            wrong += [f"{key} does nothing here: {why}" for key, why in _LEFT.items() if key in values]
        if values.get("metric_for_best") is not None:
            wrong += [f"metric_for_best says it; leave {key!r} out" for key in _BEST if key in values]
        # YAML reads the word "no" as false
        values = values | {
            key: "no" for key, value in values.items() if value is False and str(key).endswith("_strategy")
        }
        extra = {key: value for key, value in values.items() if key in known - set(cls.model_fields)}
        if extra and not keys_only(info):
            extra, none = _read(extra)
            wrong, values = wrong + none, values | extra
        wrong += [
            f"{key}: expected {least} at least, not {value!r}"
            for key, value in extra.items()
            if (least := _LEAST.get(key)) is not None and isinstance(value, (int, float)) and not _enough(key, value)
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return values

    @model_validator(mode="after")
    def _counts(self) -> TrainingSection:
        keys = [
            key for key in ("metric_rows", "metric_beams") if getattr(self, key) != type(self).model_fields[key].default
        ]
        if keys and self.metric_for_best in (None, "loss"):
            wrong = (f"{key} counts where metric_for_best names a score, and it does not" for key in keys)
            raise ValueError("\n".join(wrong))
        return self
