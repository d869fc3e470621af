"""What lies in a file of rows, as far as somebody has to know who writes a first recipe for it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from close.data.rows import Row, RowFile, evenly, named_sources
from close.errors import DataError, listed
from close.io.pretrained import load_tokenizer
from close.model.language_models.kinds import language_model_kind
from close.model.language_models.loading import check_language_model, language_model_place, skeleton
from close.retrieval.content import vocabulary
from close.tasks import TASKS, Task, get_task, targets_of

__all__ = ["Lengths", "Survey", "survey"]

LOOKED = 1000
"""Rows whose texts are looked at."""
MANY, MOST = 0.2, 0.5
"""Share of texts with capitals inside a sentence from which on these say something; and of letters that are in some script."""
ENGLISH = 0.1
"""Share of English function words below which texts are not taken for its sentences."""
WITHOUT_BLANKS = {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
"""Scripts whose words no blanks part."""


@dataclass(frozen=True)
class Lengths:
    """How long texts are: the shortest, the mean, what 99 of 100 do not exceed, the longest."""

    unit: str
    shortest: int
    mean: float
    most: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], unit: str) -> Lengths:
        """Of one length or more."""
        most = int(np.percentile(lengths, 99, method="higher"))
        return cls(unit, min(lengths), round(float(np.mean(lengths)), 1), most, max(lengths))

    def __format__(self, spec: str) -> str:
        """All of it, or with "longest" that alone."""
        return (
            f"{self.longest} {self.unit}" if spec else f"{self.mean:g} {self.unit} ({self.shortest} to {self.longest})"
        )


@dataclass(frozen=True)
class Survey:
    """What a file holds.

    Attributes:
        rows: the file. task: what its rows are for.
        targets: texts to produce, of the rows that were looked at, as they are written.
        several: images that two texts or more are of. pictures: rows that name one.
    """

    rows: RowFile
    task: str
    targets: Sequence[str]
    several: int
    pictures: int

    @property
    def kind(self) -> Task:
        """The task."""
        return get_task(self.task)

    @cached_property
    def lengths(self) -> Lengths:
        """Of the targets: in words, or in characters where blanks do not part words."""
        if sum(self.scripts.get(name, 0) for name in WITHOUT_BLANKS) > MOST:
            return Lengths.of([len(text) for text in self.targets], "characters")
        return Lengths.of([len(text.split()) for text in self.targets], "words")

    @cached_property
    def scripts(self) -> Mapping[str, float]:
        """The share of letters in each script, the commonest first: LATIN, CYRILLIC, CJK, HIRAGANA …"""
        found = Counter(
            unicodedata.name(letter, "?").partition(" ")[0]
            for text in self.targets
            for letter in text
            if letter.isalpha()
        )
        return {name: round(count / found.total(), 3) for name, count in found.most_common(5)}

    @cached_property
    def english(self) -> float:
        """Which share of the words are function words of English; a third or more in its sentences."""
        lists = vocabulary("en")
        words = [word for text in self.targets for word in lists.words(text)]
        return round(sum(word in lists.function for word in words) / max(len(words), 1), 3)

    @cached_property
    def capitals(self) -> float:
        """The share of texts with capitals that begin no sentence: names, acronyms, German nouns."""
        return round(sum(map(_has_capitals, self.targets)) / len(self.targets), 3)

    @property
    def keeps_case(self) -> bool:
        """Whether capitals say so much that a recipe should keep them."""
        return self.capitals >= MANY and self.kind.teaches_texts

    @property
    def foreign(self) -> str:
        """What speaks against sentences of English, in words; empty where nothing does."""
        if self.scripts and self.scripts.get("LATIN", 0) < MOST:
            return "letters: " + ", ".join(f"{share:.0%} {name.capitalize()}" for name, share in self.scripts.items())
        if self.english < ENGLISH and self.kind.teaches_texts:
            return f"words: {self.english:.0%} are function words of English, whose sentences have a third"
        return ""

    def room(self, tokens: Lengths | None) -> int:
        """Tokens for the longest target, in eights; for 99 in 100 where it is more than twice as long as these.

        Args:
            tokens: how many targets have. Where that is not known: twice what the task has, if words may be too many for that.
        """
        if tokens is None:
            usual = self.kind.max_new_tokens
            return usual * (2 if self.lengths.unit != "words" or 2 * self.lengths.longest > usual else 1)
        longest = tokens.most if tokens.longest > 2 * tokens.most else tokens.longest
        return min(-(-longest // 8) * 8, 4096)

    def tokens(self, language_model: str) -> tuple[Lengths, float]:
        """How many tokens of a language model the targets have, as they are learnt; and which share of these it does not know.

        Raises:
            MissingError: no such directory. WeightsError: configuration or tokenizer can't be loaded.
        """
        check_language_model(language_model)
        place, model = language_model_place(language_model), skeleton(language_model)
        size = model.get_input_embeddings().num_embeddings
        kind, tokenizer = language_model_kind(model.config), load_tokenizer(place, size)
        kind.template = kind.template_of(tokenizer, size, place) or kind.template
        texts = [text if self.keeps_case else text.lower() for text in self.targets]
        found = kind.targets(tokenizer, texts)
        unknown = tokenizer.unk_token_id
        known = unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.pad_token_id)
        share = 0.0 if known else sum(ids.count(unknown) for ids in found) / sum(map(len, found))
        return Lengths.of([len(ids) for ids in found], "tokens"), round(share, 3)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"data": str(self.rows.path), "rows": len(self.rows), "task": self.task}
        found |= {"images_with_several_captions": self.several, "rows_with_images": self.pictures}
        found |= {"lengths": asdict(self.lengths), "letters": dict(self.scripts)}
        return found | {"english_function_words": self.english, "capitals": self.capitals}


def survey(rows: RowFile, task: str | None = None) -> Survey:
    """Look through a data file: all of it for groups, a thousand rows of it for their texts.

    Args:
        task: what its rows are for; found in them without it.
    Raises:
        DataError: a row lacks what the task needs, or it is not known what the rows are for. UnknownNameError: no such task.
    """
    path = rows.path
    sizes, alone, pictures = Counter[str](), list[int](), 0
    for row in rows:
        count = len(named_sources(row))
        if row.group:
            sizes[row.group] += count
        else:
            alone.append(count)
        pictures += row.image is not None
    looked = [rows[place] for place in evenly(len(rows), LOOKED)]
    name = task or _task_of(looked, path)
    kind = get_task(name)
    if not any(map(kind.source, looked)):
        raise DataError(f"{path}: no row has a 'source' text to learn from (references are to be scored with)")
    targets = list[str]()
    for row in looked:
        try:
            kind.context(row)
            targets += targets_of(row, kind, lowercase=not kind.teaches_texts)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    several = sum(size > 1 for size in [*sizes.values(), *alone])
    return Survey(rows, name, targets, several, pictures)


def _task_of(rows: Sequence[Row], path: Path) -> str:
    """What rows are for: what they say themselves, or what their keys say.

    Raises:
        DataError: several tasks, or it can't be told.
    """
    named = sorted({row.task for row in rows if row.task})
    if len(named) > 1:
        raise DataError(
            f"{path}: rows of several tasks ({listed(named)}); give each a file, and a recipe lists them: docs/tasks.md"
        )
    asked = [row for row in rows if row.context]
    if named or not asked:
        return named[0] if named else "caption"
    labels = {(row.label or next(iter(row.target), "")).lower() for row in asked}
    for name, task in TASKS.items():
        if task.labels and labels <= set(task.labels):
            return name
    asks = sum(row.context.rstrip().endswith(("?", "？", "؟")) for row in asked)
    if any(row.answers for row in asked) or 2 * asks > len(asked):
        return "vqa"
    if all(row.target in ((), row.source) for row in asked):
        return "news"
    raise DataError(f"{path}: rows have a context, and it is not known what for; say it: --task ({', '.join(TASKS)})")


def _has_capitals(text: str) -> bool:
    """Whether a capital stands where no sentence begins, or two in one word; a text in capitals alone has none that tell."""
    words = re.findall(r"\S+", text)
    if text.isupper():
        return False
    inside = any(word[:1].isupper() and not before.endswith((".", "!", "?", ":")) for before, word in pairwise(words))
    return inside or any(sum(map(str.isupper, word)) > 1 for word in words)
