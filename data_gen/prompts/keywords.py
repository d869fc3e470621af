"""Keywords: which words can be asked for, and which are asked for next."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from data_gen.errors import InputError
from data_gen.text.language import Language
from data_gen.text.words import words

__all__ = ["Sampler", "Uniform", "UnigramMatched", "extract_keywords"]


def extract_keywords(counts: Mapping[str, int], language: Language, min_count: int = 1) -> list[str]:
    """The nouns and verbs that occur at least `min_count` times, most frequent first, then by alphabet.

    Nouns and verbs are found by exclusion: no function word, modifier or adverb of the language's file.
    """
    found = [word for word, count in counts.items() if count >= min_count and language.is_keyword(word)]
    return sorted(found, key=lambda word: (-counts[word], word))


class Sampler(ABC):
    """Draws keywords.

    Attributes:
        adaptive: whether the draws depend on what was accepted before: then `refresh` is called before each block.
    """

    adaptive = False

    def counted(self, found: Sequence[str]) -> Sequence[str]:
        """What of an accepted text's words counts."""
        return ()

    def refresh(self, accepted: Mapping[str, int], upcoming: float) -> None:  # noqa: B027 - most need not
        """Prepare for a block that will bring about `upcoming` words, after those that were `counted` of accepted texts."""

    @abstractmethod
    def draw(self, rng: Random, number: int) -> tuple[str, ...]:
        """`number` different keywords, or all where there are fewer."""


class Uniform(Sampler):
    """Every keyword equally likely, none twice in a request."""

    def __init__(self, keywords: Sequence[str]) -> None:
        self._keywords = list(keywords)

    def draw(self, rng: Random, number: int) -> tuple[str, ...]:
        return tuple(rng.sample(self._keywords, min(number, len(self._keywords))))


class UnigramMatched(Sampler):
    """Keywords drawn in proportion to what the accepted texts still lack of them.

    With q(w) the share of word w among the words of the target corpus, c(w) its count in the texts accepted so far,
    T = Σ c the number of accepted words and n the number of words that the coming block will bring, the accepted
    texts will match the target at w if the block brings

        d(w) = max(0, q(w)·(T + n) − c(w))

    of it. Within a block each keyword is drawn with probability d(w)/Σ d, none twice in a request. So a word that the
    model writes too often, asked or unasked, is not asked for until the rest has caught up, and one that it avoids is
    asked for more and more. Words that are no keywords count in T, and so does a keyword of several words, beside each of
    these. Keywords are found whatever their case, and asked for as they are given. CLOSE (Gu et al., ICCV 2023) trains best
    on captions whose keywords were drawn to match the target's unigrams, but does not say how: this definition is our own.

    Args:
        keywords: the words and phrases that may be asked for.
        target: word counts of the target corpus.
        texts: the corpus, in which phrases are counted.

    Attributes:
        left_out: keywords that do not occur in the target.

    Raises:
        InputError: no keyword occurs in the target.
    """

    adaptive = True

    def __init__(self, keywords: Sequence[str], target: Mapping[str, int], texts: Iterable[str] = ()) -> None:
        names: dict[str, str] = {}
        for keyword in keywords:
            names.setdefault(" ".join(words(keyword)), keyword)
        self._phrases = {key for key in names if " " in key}
        self._lengths = {key.count(" ") + 1 for key in self._phrases}
        counts = Counter(target)
        counts.update(phrase for text in (texts if self._phrases else ()) for phrase in self._phrases_in(words(text)))
        self._keys = [key for key in names if counts[key]]
        self._keywords = [names[key] for key in self._keys]
        self.left_out = [keyword for key, keyword in names.items() if not counts[key]]
        if not self._keywords:
            raise InputError("none of the keywords occurs in the target corpus, so it can't be matched")
        total = counts.total()
        self._shares = [counts[key] / total for key in self._keys]
        self.refresh({}, 1.0)

    def _phrases_in(self, found: Sequence[str]) -> list[str]:
        """The keywords of several words in a text's words, as often as they are there."""
        runs = (" ".join(found[i : i + n]) for n in self._lengths for i in range(len(found) - n + 1))
        return [run for run in runs if run in self._phrases]

    def counted(self, found: Sequence[str]) -> Sequence[str]:
        """What of a text's words counts: these, and its phrases."""
        return [*found, *self._phrases_in(found)]

    def refresh(self, accepted: Mapping[str, int], upcoming: float) -> None:
        """Fix the weights of the coming block, which will bring about `upcoming` words."""
        words_then = sum(accepted.values()) + upcoming
        lacking = [max(0.0, s * words_then - accepted.get(k, 0)) for k, s in zip(self._keys, self._shares, strict=True)]
        self._cumulative = list(itertools.accumulate(lacking if any(lacking) else self._shares))
        self._drawable = sum(map(bool, lacking)) or len(self._keywords)

    def draw(self, rng: Random, number: int) -> tuple[str, ...]:
        """`number` different keywords, fewer where fewer are lacking."""
        drawn: dict[str, None] = {}
        for _ in range(50 * number):  # a keyword may hold nearly all the weight
            if len(drawn) == min(number, self._drawable):
                break
            drawn[rng.choices(self._keywords, cum_weights=self._cumulative)[0]] = None
        return tuple(drawn)
