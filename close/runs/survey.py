"""What lies in a file of rows, as far as somebody has to know who writes a first recipe for it."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import regex

from close.data.rows import Row, RowFile, evenly
from close.errors import DataError, listed
from close.io.pretrained import load_tokenizer
from close.model.language_models.kinds import language_model_kind
from close.model.language_models.loading import check_language_model, language_model_place, skeleton
from close.retrieval.content import vocabulary
from close.tasks import TASKS, Task, get_task, source_labels, targets_of

__all__ = ["Lengths", "Survey", "survey"]

LOOKED = 1000
"""Rows whose texts are looked at; all are counted."""
SHOWN = 20
"""Texts of these whose characters are compared with what a tokenizer makes of them."""
MANY, MOST = 0.2, 0.5
"""Share of texts with capitals inside a sentence from which on these say something; and of letters that are in some script."""
ENGLISH = 0.1
"""Share of English function words below which texts are not taken for its sentences."""
WITHOUT_BLANKS = {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
"""Scripts whose words no blanks part."""
_CAPITAL = regex.compile(r"(?<=[^\s.!?:]\s+)(?!I\b)\p{Lu}|\p{Lu}\S*\p{Lu}")
"""One where no sentence begins, but for the word "I"; or two in one word."""


@dataclass(frozen=True)
class Lengths:
    """How long so many texts are: the shortest, the mean, what 99 of 100 do not exceed, the longest.

    Of tokens also what share is `unknown`, and of texts without these what share says other characters when it is written out
    again (`changed`), and which (`changes`, "（ as (", the commonest).
    """

    unit: str
    texts: int
    shortest: int
    mean: float
    most: int
    longest: int
    unknown: float = 0.0
    changed: float = 0.0
    changes: Sequence[str] = ()

    @classmethod
    def of(cls, lengths: Sequence[int], unit: str, **more: Any) -> Lengths:
        """Of one length or more."""
        most, mean = int(np.percentile(lengths, 99, method="higher")), round(float(np.mean(lengths)), 1)
        return cls(unit, len(lengths), min(lengths), mean, most, max(lengths), **more)

    @property
    def room(self) -> int:
        """Tokens for the longest, in eights: two a word; for 99 in 100 where it is more than twice as long as these."""
        longest = self.most if self.longest > 2 * self.most else self.longest
        return min(-(-longest * (1 if self.unit == "tokens" else 2) // 8) * 8, 4096)

    def __str__(self) -> str:
        return f"{self.mean:g} {self.unit} ({self.shortest} to {self.longest})"


@dataclass(frozen=True)
class Survey:
    """What a file holds.

    Attributes:
        task: what its rows are for. several: images that different texts are of. pictures: rows that name one.
        lengths: of all texts to produce: in words, or in characters where blanks do not part words.
        targets: those of the rows that were looked at, and the longest of all, as they are written. What follows is of these.
        letters: the share of them in each script, the commonest first: LATIN, CYRILLIC, CJK, HIRAGANA …
        english: which share of the words are function words of English; a third or more in its sentences.
        capitals: the share of texts with capitals that begin no sentence: names, acronyms, German nouns. 0 of answers.
    """

    task: Task
    several: int
    pictures: int
    lengths: Lengths
    targets: Sequence[str]
    letters: Mapping[str, float]
    english: float
    capitals: float

    @property
    def keeps_case(self) -> bool:
        """Whether capitals say so much that a recipe should keep them."""
        return self.capitals >= MANY

    @property
    def foreign(self) -> str:
        """What speaks against sentences of English, in words; empty where nothing does."""
        if self.letters and self.letters.get("LATIN", 0) < MOST:
            return "letters: " + ", ".join(f"{share:.0%} {name.capitalize()}" for name, share in self.letters.items())
        if self.english < ENGLISH and self.task.teaches_texts:
            return f"words: {self.english:.0%} are function words of English, whose sentences have a third"
        return ""

    def tokens(self, language_model: str) -> Lengths:
        """How many tokens of a language model the targets have, as they are learnt; some it may not know.

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
        whole = [place for place, ids in enumerate(found) if known or unknown not in ids]
        again = [tokenizer.decode(found[place][:-1], skip_special_tokens=True) for place in whole]
        changed, changes = _changed([texts[place] for place in whole], again)
        more = {"unknown": round(share, 3), "changed": changed, "changes": changes}
        return Lengths.of([len(ids) for ids in found], "tokens", **more)


def survey(rows: RowFile, name: str | None = None) -> Survey:
    """Look through a data file: all of it for groups and lengths, a thousand rows of it for what their texts are like.

    Args:
        name: of the task that its rows are for; found in them without it.
    Raises:
        DataError: a row lacks what the task needs, or it is not known what the rows are for. UnknownNameError: no such task.
    """
    places = dict.fromkeys(evenly(len(rows), LOOKED))
    looked = [rows[place] for place in places]
    task = get_task(name or _task_of(looked, rows.path))
    if not any(map(task.source, looked)):
        raise DataError(f"{rows.path}: no row has a 'source' text to learn from (references are to be scored with)")
    targets, longest, pictures = list[str](), "", 0
    words, characters = array("L"), array("L")
    first, several = dict[Any, int](), set[Any]()
    for place, row in enumerate(rows):
        try:
            task.context(row)
            if not task.source(row):
                raise DataError(f"row {row.id!r} has no 'source' text to learn from")
            said = targets_of(row, task, lowercase=not task.teaches_texts)
        except DataError as error:
            raise DataError(f"{rows.path}: {error}") from None
        targets += said if place in places else ()
        longest = max([longest, *said], key=len)
        words.extend(len(text.split()) for text in said)
        characters.extend(map(len, said))
        pictures += row.image is not None
        of_others = row.group or len(row.source) > 1
        for text, image in zip(row.source, source_labels(row, task.name), strict=True) if of_others else ():
            if first.setdefault(image, hash(text)) != hash(text):
                several.add(image)
    targets += [] if longest in targets else [longest]
    letters, english = _letters(targets), vocabulary("en")
    together = sum(letters.get(script, 0) for script in WITHOUT_BLANKS) > MOST
    lengths = Lengths.of(characters, "characters") if together else Lengths.of(words, "words")
    known = [word in english.function for text in targets for word in english.words(text)]
    mixed = [_CAPITAL.search(text) and not _shouted(text) for text in targets if task.teaches_texts]
    return Survey(task, len(several), pictures, lengths, targets, letters, _share(known), _share(mixed))


def _task_of(rows: Sequence[Row], path: Path) -> str:
    """What rows are for: what they say themselves, or what their keys say; DataError where that is several, or can't be told."""
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


def _letters(texts: Sequence[str]) -> dict[str, float]:
    """The share of the letters in each of the five commonest scripts."""
    letters = (letter for text in texts for letter in text if letter.isalpha())
    found = Counter(unicodedata.name(letter, "?").partition(" ")[0] for letter in letters)
    return {name: round(count / found.total(), 3) for name, count in found.most_common(5)}


def _changed(texts: Sequence[str], again: Sequence[str]) -> tuple[float, list[str]]:
    """The share of texts that are not the same again, white space aside, and in which characters, the three commonest."""
    pairs = [tuple("".join(text.split()) for text in both) for both in zip(texts, again, strict=True)]
    others = [(was, now) for was, now in pairs if was != now]
    changes = Counter[str]()
    for was, now in others[:SHOWN]:
        for how, start, end, begin, stop in SequenceMatcher(None, was[:300], now[:300], autojunk=False).get_opcodes():
            one, other = was[start:end], now[begin:stop]
            alike = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
            if how == "replace":
                changes["accents apart as one letter" if alike else f"{one} as {other}"] += 1
            elif how == "delete":
                changes[f"no {one}"] += 1
    return _share([was != now for was, now in pairs]), [change for change, _ in changes.most_common(3)]


def _shouted(text: str) -> bool:
    """Whether every letter is a capital; letters without case, as those of Japanese, are none."""
    return all(letter.isupper() for letter in text if letter.isalpha())


def _share(found: Sequence[object]) -> float:
    """Of how many it is true."""
    return round(sum(map(bool, found)) / max(len(found), 1), 3)
