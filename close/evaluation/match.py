"""Predictions and references brought together: whose ids are the same, and what is done where one side lacks an id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from close.errors import DataError
from close.evaluation.images import about_images, part_of
from close.evaluation.metrics.ids import about_id
from close.evaluation.read import FlaggedReferences, Predictions, RowReferences
from close.registry import unknown_name

__all__ = ["Matched", "Missing", "match"]

Missing = Literal["zero", "skip", "error"]
"""What is done where predictions and references do not name the same ids.

zero: a reference without a prediction counts as one that says nothing; a prediction without a reference is left out.
skip: both are left out. error: both are refused. Without a word, what the official script of the task does.
"""

_NOTHING = {"vqa": "\0"}  # "" would be right where annotators gave an article


@dataclass
class Matched:
    """What can be scored.

    Attributes:
        predictions, references: by id.
        counts: `missing`, `extra`, `doubles` where there are any. notes: of what was done, by what it is about.
    """

    predictions: Mapping[str, str]
    references: Mapping[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """Predictions as they are shown: empty where nothing was said."""
        return {key: text.strip("\0") for key, text in self.predictions.items()}


def match(
    task: str, predictions: Mapping[str, str], references: Mapping[str, Any], missing: Missing | None = None
) -> Matched:
    """Bring both sides together.

    Raises:
        DataError: `missing="error"` and an id is on one side only; no id is on both. UnknownNameError: no such `missing`.
    """
    found, notes = _by_image(predictions, references), []
    if doubles := getattr(found.predictions, "doubles", 0):
        found.counts["doubles"] = doubles
        notes.append(f"{doubles:,} came twice with the same text and are counted once")
    if missing is not None:
        notes += _one_side_only(task, found, missing)
    if notes:
        found.notes["predictions"] = "; ".join(notes)
    return found


def _by_image(predictions: Mapping[str, str], references: Mapping[str, Any]) -> Matched:
    """Predictions by the first row of their image, where references are rows."""
    if isinstance(references, FlaggedReferences) and references.flagged & predictions.keys():
        return _unflagged(predictions, references)
    if not isinstance(references, RowReferences):
        return Matched(predictions, references)
    owner, merged = _owners(predictions, references), Predictions()
    merged.doubles = getattr(predictions, "doubles", 0)
    for key, text in predictions.items():
        if merged.setdefault(owner.get(key, key), text) != text:
            note = "rows share images, but what is said of them differs: each is scored against its own row alone"
            return Matched(predictions, references.single, {}, {"rows": note})
    rows, images = len(references.single), len(references)
    return Matched(merged, references, {}, {"rows": about_images(rows, images)} if images < rows else {})


def _owners(predictions: Mapping[str, str], references: RowReferences) -> dict[str, str]:
    """Names to examples: an `id` is a row's before it is a group's, an `image_id` the other way round.

    Raises:
        DataError: what is under `image_id` might be either.
    """
    rows, groups = references.owner, references.groups
    if not getattr(predictions, "by_image", False):
        return groups | rows
    twofold = next((key for key in predictions if key in groups and rows.get(key, groups[key]) != groups[key]), None)
    alone = next((key for key in predictions if key in rows and key not in groups), None)
    if twofold is not None and alone is not None:
        raise DataError(
            f"image_id {twofold!r} is the 'group' of one image and the id of another's row, and {alone!r} is a row's id alone;"
            ' expected the groups of images under image_id, or .jsonl with the ids of rows under "id"'
        )
    return rows | groups


def _unflagged(predictions: Mapping[str, str], references: FlaggedReferences) -> Matched:
    """Predictions without those on images that the data set itself does not score."""
    kept = Predictions({key: text for key, text in predictions.items() if key not in references.flagged})
    kept.doubles = getattr(predictions, "doubles", 0)
    note = f"{len(predictions) - len(kept):,} images have flagged captions alone and are not scored, as the data set's tools do"
    return Matched(kept, references, {}, {"flags": note})


def _one_side_only(task: str, found: Matched, missing: str) -> list[str]:
    """Make the two sides alike; what was done."""
    if missing not in get_args(Missing):
        raise unknown_name("treatment of missing predictions", missing, get_args(Missing))
    said, truth = found.predictions, found.references
    absent, extra = [key for key in truth if key not in said], [key for key in said if key not in truth]
    if missing == "error" and (absent or extra):
        first = (
            f"no reference for {extra[0]!r}{about_id(extra[0], truth)}" if extra else f"no prediction for {absent[0]!r}"
        )
        raise DataError(
            f"{len(absent):,} references lack a prediction and {len(extra):,} predictions a reference; {first}"
        )
    if len(extra) == len(said) or not truth:
        raise DataError(f"no prediction has a reference{about_id(extra[0], truth) if extra else ''}")
    found.counts |= {name: len(keys) for name, keys in (("missing", absent), ("extra", extra)) if keys}
    nothing = dict.fromkeys(absent, _NOTHING.get(task, "")) if missing == "zero" else {}
    found.predictions = {key: text for key, text in said.items() if key in truth} | nothing
    found.references = part_of(truth, found.predictions)
    done = "scored as if nothing was said" if missing == "zero" else "left out"
    notes = [
        f"{len(absent):,} are missing and {done}" if absent else "",
        f"{len(extra):,} have no reference and are left out",
    ]
    return [note for note, keys in zip(notes, (absent, extra), strict=True) if keys]
