"""Zero-shot classification of files with the bare encoder: class names in, a probability of each for every picture out.

Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision", section 3.1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import named_images
from close.data.shards import is_rows, open_rows
from close.encoders import ContrastiveEncoder
from close.errors import DataError, RecipeError, listed
from close.evaluation.images import References
from close.evaluation.metrics.labels import label_scores
from close.io.progress import progress
from close.vectors.build import find_images
from close.vectors.cache import cached_images
from close.vectors.checked import check_widths

__all__ = ["TEMPLATES", "Classification", "class_embeddings", "class_probabilities", "classify", "read_lines"]

Vectors = NDArray[np.float32]

TEMPLATES = ("a photo of a {}.",)
"""CLIP's own prompt, where none is given."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classification:
    """What the pictures were taken for.

    Attributes:
        classes, templates: as given. encoder: its name and `fingerprint`.
        items: per picture `item`, its `file`, `label`, `probability`, `probabilities` (class to share), and `truth` where known.
        scores: accuracy (0–100) with its 95 % interval, confusion and recall per class, where the truth is known.
        failed: unreadable files, each with its reason.
    """

    encoder: str
    fingerprint: str
    classes: list[str]
    templates: list[str]
    items: list[dict[str, Any]]
    scores: dict[str, Any] | None = None
    failed: list[str] = field(default_factory=list)


def classify(
    data: str | Path,
    encoder: ContrastiveEncoder,
    classes: Sequence[str] = (),
    *,
    templates: Sequence[str] = (),
    scale: float = 100.0,
) -> Classification:
    """Classify every picture of `data`.

    Args:
        data: a picture, a folder of pictures (a folder per class gives the truth), or rows with an `image` (and `label`).
        classes: names, alike whatever their case; without them, the names of the folders, or the labels of the rows.
        templates: prompts with one `{}` for the name; the unit vectors of several are averaged (an ensemble).
        scale: of the cosines before the softmax; 100 is what CLIP ends its training with.
    Raises:
        MissingError: no such data. DataError: no pictures; a folder or label that is no class.
        RecipeError: fewer than two classes, a name twice, or a template without its place for the name.
    """
    images = find_images(data, encoder.item_suffixes)
    truth = _truth(Path(data), images)
    known = {label.lower(): label for label in sorted(truth.values(), reverse=True)}  # "Cat" and "cat" are one
    names = _checked(classes or [known[name] for name in sorted(known)])
    said = {name.lower(): name for name in names}
    truth = {item: said.get(label.lower(), label) for item, label in truth.items()}
    prompts = _prompts(names, templates or TEMPLATES)
    if truth and set(truth.values()).isdisjoint(names):
        _log.warning(
            "%s: %s are none of the classes, so that nothing is known to be right",
            data,
            listed(sorted(set(truth.values()))),
        )
        truth = {}
    for item, label in truth.items():
        if label not in names:
            raise DataError(f"{data}: {item!r} is of class {label!r}, which is none of {', '.join(names)}")
    with progress("embedding", "images") as update:
        table = cached_images(images, encoder, progress=update)
    vectors = class_embeddings([encoder.encode_text(texts).numpy() for texts in prompts])
    shares = class_probabilities(np.asarray(table[:]), vectors, scale=scale)
    files = dict(images)
    items = _items(shares, [(name, files[name]) for name in table.ids], names, truth)
    failed = [failure["reason"] for failure in table.failures]
    scores = None
    if truth:
        told, true = ({item["item"]: item[key] for item in items} for key in ("label", "truth"))
        references = References(true, dict(images))  # rows of one picture are drawn together
        scores = _as_said(label_scores(told, references), said)
    return Classification(encoder.name, encoder.fingerprint, names, list(templates or TEMPLATES), items, scores, failed)


def class_embeddings(prompts: Sequence[Vectors]) -> Vectors:
    """One unit vector a class, the mean of its prompts' unit vectors: C arrays (P_c, D) to (C, D)."""
    means = np.stack([vectors.mean(axis=0) for vectors in prompts])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def class_probabilities(images: Vectors, classes: Vectors, *, scale: float = 100.0) -> Vectors:
    """(N, D) unit images and (C, D) unit classes to (N, C): softmax of `scale` times the cosine.

    Raises:
        DataError: the two are of different dimension.
    """
    check_widths(images, classes)
    logits = scale * (images @ classes.T)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def read_lines(path: str | Path) -> list[str]:
    """Class names or templates from a text file, one a line.

    Raises:
        MissingError, DataError: no such file, or none that is text.
    """
    return [row.source[0] for row in open_rows(path)]


def _truth(data: Path, images: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Item to class: the first folder on the way to it, or the row's label; empty unless all have one."""
    if data.is_dir() and all(path == data / name for name, path in images):
        found = {name: _name(Path(name).parts[0]) for name, _ in images if "/" in name}
    elif is_rows(data):
        named = ((name, row.label) for row in open_rows(data) for name, _ in named_images(row))
        found = {name: _name(label) for name, label in named if label}
    else:
        return {}
    return found if len(found) == len(images) else {}


def _name(given: str) -> str:
    """A class as it is said: folders have `_` for a space."""
    return " ".join(given.replace("_", " ").split())


def _as_said(scores: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, Any]:
    """Scores that name classes in lower case, with their names."""
    rows = {said[name]: cells for name, cells in scores["confusion"].items()}
    table = {name: {said[column]: count for column, count in cells.items()} for name, cells in rows.items()}
    each = {said[name]: value for name, value in scores["per_label"].items()}
    return {**scores, "confusion": table, "per_label": each}


def _checked(classes: Sequence[str]) -> list[str]:
    names = [_name(name) for name in classes]
    if len(names) < 2:
        raise RecipeError(
            "classification needs at least two classes; name them, or give a folder of pictures per class"
        )
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if lower.count(name) > 1})
    if twice or "" in names:
        raise RecipeError(f"class {twice[0]!r} is named twice" if twice else "a class has an empty name")
    return names


def _prompts(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    for template in templates:
        if template.count("{}") != 1:
            raise RecipeError(f"template {template!r}: expected one {{}} for the name, e.g. 'a photo of a {{}}.'")
    return [[template.replace("{}", name) for template in templates] for name in names]


def _items(
    probabilities: Vectors, images: Sequence[tuple[str, Path]], names: Sequence[str], truth: Mapping[str, str]
) -> list[dict[str, Any]]:
    items = []
    for (item, file), shares in zip(images, probabilities.tolist(), strict=True):
        best = int(np.argmax(shares))
        known = {"truth": truth[item]} if truth else {}
        items.append(
            {"item": item, "file": str(file), "label": names[best], "probability": shares[best], **known,
             "probabilities": dict(zip(names, shares, strict=True))}
        )  # fmt: skip
    return items
