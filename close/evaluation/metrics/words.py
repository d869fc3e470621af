"""The words of a text in any script, by Unicode's own rules.

Unicode Standard Annex 29, section 4: marks and vowel signs belong to their letter, an emoji is a word, and where a script is
written without spaces (Chinese, Japanese, Thai …) each character is one.
"""

from __future__ import annotations

import unicodedata

import regex

__all__ = ["composed", "stops", "unspaced", "words"]

_BREAKS = regex.compile(r"(?V1w)\b")
_SPOKEN = regex.compile(r"[\p{L}\p{M}\p{N}\p{So}\p{Regional_Indicator}]")
_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_STOPS = regex.compile(r"[।॥؟،؛۔։።。、！？]")
"""Stops and commas of scripts other than the Latin one, which the Penn Treebank's rules take for words."""
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def words(text: str) -> list[str]:
    """The words, without what stands between them.

    Words are equal whose NFKC_Casefold is: case, full-width forms, ligatures, composed and decomposed accents, and what
    is not seen (variation selectors, soft hyphens) make no difference.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).casefold())
    found = (_IGNORABLE.sub("", part) for part in _BREAKS.split(folded) if _SPOKEN.search(part))
    return [word for word in found if word]


def composed(text: str) -> str:
    """A letter and its marks as one character (NFC), as nearly all texts have them; those of some files of a Mac do not."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def unspaced(text: str) -> int:
    """How many characters are of scripts that are written without spaces."""
    return 0 if text.isascii() else len(_UNSPACED.findall(text))


def stops(text: str) -> int:
    """How many stops and commas of other scripts than the Latin one are in it."""
    return 0 if text.isascii() else len(_STOPS.findall(text))
