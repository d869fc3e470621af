"""Languages as data: function words, modifiers and endings, one TOML file each."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from data_gen.errors import InputError, shown
from data_gen.text.files import read_toml
from data_gen.text.words import clean, is_lettered, words

__all__ = ["LANGUAGES", "Language", "load_language"]

LANGUAGES = Path(__file__).parent / "languages"


@dataclass(frozen=True)
class Language:
    """What is known of a language.

    Attributes:
        name: as a prompt names it ("English").
        script: how the Unicode names of its letters begin ("LATIN").
        function: words without content.
        modifiers: adjectives, numbers and adverbs.
        adverb_endings: endings that mark an adverb.
        inflections: endings under which a keyword still counts as used.
        english: function words that are frequent English words too, and alone tell of no language.
    """

    name: str
    script: str
    function: frozenset[str]
    modifiers: frozenset[str]
    adverb_endings: tuple[str, ...]
    inflections: tuple[str, ...]
    english: frozenset[str] = frozenset()

    def is_keyword(self, word: str) -> bool:
        """Whether a word may be a noun or a verb: letters, and neither function word, modifier nor adverb."""
        return (
            is_lettered(word)
            and (len(word) > 2 or not word.isascii())
            and word not in self.function
            and word not in self.modifiers
            and not (self.adverb_endings and word.endswith(self.adverb_endings))
        )

    def uses(self, keyword: str, text_words: frozenset[str]) -> bool:
        """Whether every word of `keyword` occurs among `text_words`, in its own or an inflected form."""
        return all(any(self._same(part, word) for word in text_words) for part in words(keyword))

    def _same(self, keyword: str, word: str) -> bool:
        if word == keyword:
            return True
        stems = {keyword, keyword[:-1]} if len(keyword) > 3 and keyword[-1] in "ey" else {keyword}  # riding, babies
        doubled = keyword + keyword[-1]  # running
        rests = [word[len(stem) :] for stem in (*stems, doubled) if word.startswith(stem)]
        return any(rest in self.inflections or rest.removeprefix("i") in self.inflections for rest in rests)

    def speaks(self, text: str) -> bool:
        """Whether the letters are of the script and, from five words on, a quarter are function words, not all `english`."""
        letters = [c for c in unicodedata.normalize("NFKC", text) if c.isalpha()]
        if not letters or sum(unicodedata.name(c, "").startswith(self.script) for c in letters) < 0.9 * len(letters):
            return False
        found = words(text)
        told = [word for word in found if word in self.function]
        return len(found) < 5 or (4 * len(told) >= len(found) and not self.english.issuperset(told))


def load_language(name: str) -> Language:
    """The language of a TOML file or a built-in tag (`en`, `de`, `fr`, `es`).

    Raises:
        InputError: unknown, broken, or an entry is missing or of the wrong kind.
    """
    data = {"english": "", **read_toml(LANGUAGES, name)}
    kinds: dict[str, type] = dict.fromkeys(("name", "script", "function", "modifiers", "english"), str)
    kinds |= dict.fromkeys(("adverb_endings", "inflections"), list)
    for entry, kind in kinds.items():
        if entry not in data:
            raise InputError(f"the language {name!r} lacks the entry {entry!r}")
        if not isinstance(data[entry], kind):
            raise InputError(f"the language {name!r}: {entry} must be a {'string' if kind is str else 'list'}")
        if kind is list and not all(isinstance(ending, str) for ending in data[entry]):
            raise InputError(f"the language {name!r}: {entry} holds {shown(data[entry])}, expected texts")
    return Language(
        name=clean(data["name"]),
        script=data["script"],
        function=frozenset(data["function"].split()),
        modifiers=frozenset(data["modifiers"].split()),
        adverb_endings=tuple(data["adverb_endings"]),
        inflections=tuple(data["inflections"]),
        english=frozenset(data["english"].split()),
    )
