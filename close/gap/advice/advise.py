"""Advice for files: from tables or captions on disk to a recipe's lines."""

from __future__ import annotations

import logging
import shlex
import textwrap
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from close.data.rows import Modality, RowFile
from close.data.shards import is_rows, open_rows
from close.errors import DataError, RecipeError
from close.gap.advice.advice import Advice
from close.gap.advice.halves import LEAST
from close.gap.advice.recommend import recommend
from close.gap.pairing import check_pairs, read_pairs
from close.tasks import source_labels
from close.vectors.groups import group_labels
from close.vectors.open import check_encoder, differing_ids

__all__ = ["advise", "comments", "to_yaml"]

_log = logging.getLogger(__name__)

_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
FITTED = "adapters/advised"
"""Where the lines expect an adapter that a recipe can't fit by itself."""


def advise(
    text: Path,
    image: Path | None = None,
    *,
    pairs: Path | None = None,
    unpaired: bool = False,
    groups: Path | None = None,
    encoder: str | None = None,
    captions: str = "single",
    task: str = "caption",
    sample: int = 20_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    rows: Callable[[Path], RowFile] = open_rows,
) -> tuple[Advice, str]:
    """What to train with, and the same as lines for a recipe.

    Args:
        text, image: embedding tables, `.npy` files, or data files, whose captions and images are then embedded (and cached).
        pairs: which text belongs to which image (see `close.gap.pairing.read_pairs`); row by row without it.
        unpaired: no text belongs to an image.
        groups: the data file that `text` was made of, whose `group`s (or, of rows without one, images) say which captions are
            of one image; that of `pairs`, or `text` itself where it is one, without it.
        encoder: for data files; mini without it. rows: opens the one of groups, as whoever knows its columns does.
    Raises:
        CloseError: what is wrong with a file, a row or an option.
    """
    _check(text, image, pairs, unpaired, encoder)
    texts = _table(text, "text", encoder or "mini")
    if len(texts) < LEAST:
        raise DataError(f"{text}: {len(texts)} texts; advice takes {LEAST} at least, better thousands")
    images = None if image is None else _table(image, "image", encoder or "mini")
    if images is not None:
        of = (images.encoder, images.fingerprint)
        check_encoder(f"{texts.path}", texts.encoder, texts.fingerprint, f"{images.path}", *of)
    own = text if is_rows(text) else None
    if own and image == text and not unpaired:
        pairs = pairs or own
    named = groups or own
    labels: Any = group_labels(rows(named), texts, partial(source_labels, task=task)) if named else None
    index: Any = "unpaired" if unpaired else None
    if pairs and images is not None:
        found = read_pairs(pairs, texts, images, task)
        index, labels = found.pairs, labels if labels is not None else found.groups
    if index is None and images is not None and (remark := differing_ids(texts, images)):
        _log.warning("%s", remark)
    advice = recommend(
        texts,
        images,
        pairs=index,
        groups=labels,
        captions=captions,
        task=task,
        sample=sample,
        seed=seed,
        progress=progress,
    )
    tables = texts.path, None if images is None else images.path, pairs
    advice = replace(advice, encoder=getattr(texts, "encoder", None))
    return placed(advice, *tables), to_yaml(advice, *tables)


def _check(text: Path, image: Path | None, pairs: Path | None, unpaired: bool, encoder: str | None) -> None:
    """Refuse options that exclude each other, or say nothing."""
    check_pairs(pairs, text, image)
    if pairs and unpaired:
        raise RecipeError("--pairs and --unpaired exclude each other")
    if unpaired and image is None:
        raise RecipeError("--unpaired says that no text belongs to an image, and there are none: give --image")
    if encoder is not None and not any(map(is_rows, filter(None, (text, image)))):
        raise RecipeError("--encoder embeds data files, and what is given are tables: leave it out")


def _table(path: Path, modality: Modality, encoder: str) -> Any:
    from close.encoders import load_encoder  # measuring needs no torch
    from close.vectors.cache import file_table

    return file_table(path, modality, lambda: load_encoder(encoder))


def _heading(advice: Advice) -> str:
    if advice.task == "caption":
        return f"{advice.setting} captioning"
    return f"{advice.task}, where the target is {'the source' if advice.setting == 'single' else 'not the source'}"


def placed(advice: Advice, text: Path, image: Path | None = None, pairs: Path | None = None) -> Advice:
    """With the tables that its adapter is to be fitted on, or the folder that one is expected in which a recipe can't fit."""
    if advice.adapter is None:
        return advice
    from close.adapters import ADAPTERS
    from close.adapters.specs import names_in

    paired = any(ADAPTERS[name].needs == "paired" for name in names_in(advice.adapter))
    if paired and pairs:
        return replace(advice, load=FITTED, fit=None)
    fit = ({"text": str(text)} if paired else {}) | ({"image": str(image)} if image else {})
    return replace(advice, load=None, fit=fit)


def _of(encoder: str | None) -> str:
    toy = ", which knows coloured shapes alone (--encoder names another)" if encoder == "mini" else ""
    return f", for encoder {encoder}{toy}" if encoder else ""


def comments(
    advice: Advice, text: Path, image: Path | None = None, pairs: Path | None = None, *, why: str = ""
) -> list[str]:
    """The reasons as a recipe's comments, with the command that has to come first, and what else may be tried.

    Args:
        advice: `placed` by these tables. why: a command that gives the reasons; with it, only what is unsure is among the lines.
    """
    reasons = [f"why: {why}", *(one for one in advice.reasons if one.startswith("Unsure"))] if why else advice.reasons
    lines = [f"what is advised for {_heading(advice)}, from {advice.data}{_of(advice.encoder)}:", *reasons]
    found = [f"# {part}" for line in lines for part in textwrap.wrap(line, 110, **_WHOLE)]
    if advice.load is not None:
        spec = yaml.safe_dump(advice.adapter, default_flow_style=True, width=1000).strip().removesuffix("\n...")
        files = ["--text", str(text), "--image", str(image), "--pairs", str(pairs), "--out", advice.load]
        found += ["# First:", f"#   {shlex.join(['close', 'adapter', 'fit', spec, *files])}"]
    found.append(f"# noise: cosine {advice.cosine:g} is a std of {advice.std:.4g} at {advice.dim} dimensions")
    if advice.retrieve:
        listed = yaml.safe_dump(advice.retrieve, default_flow_style=True, sort_keys=False).strip()
        found.append(f"# with a memory of texts (its own rows, or others): retrieve: {listed}")
    return found


def to_yaml(advice: Advice, text: Path, image: Path | None = None, pairs: Path | None = None) -> str:
    """Lines for a recipe, with the reasons as comments; a command that has to come first stands on a line of its own."""
    advice = placed(advice, text, image, pairs)
    return "\n".join([*comments(advice, text, image, pairs), yaml.safe_dump(advice.recipe, sort_keys=False)])
