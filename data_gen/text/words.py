"""Words of a text, what makes two texts the same, and cleaning what a model wrote."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

import regex

__all__ = ["clean", "count_tokens", "count_words", "digest", "is_lettered", "same_key", "same_text", "words"]

_BREAKS = regex.compile(r"(?V1w)\b")  # between what Unicode's annex 29 calls words
_LETTERS = regex.compile(r"[\p{L}\p{N}]")
_PICTURES = regex.compile(r"[\p{L}\p{N}\p{Emoji_Presentation}\p{Regional_Indicator}]|\p{Extended_Pictographic}\ufe0f")
_LETTERED = regex.compile(r"[\p{L}\p{M}]+")
_HYPHEN, _POINT = regex.compile(r"(?<=[\p{L}\p{M}])[-‐](?=\p{L})"), "\u2027"  # annex 29 joins letters at this point
_UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_ASCII = re.compile(r"[a-z0-9_]+(?:(?:(?<=[a-z])[.:'-](?=[a-z])|(?<=[0-9])[.,;'](?=[0-9]))[a-z0-9_]+)*")

# soft hyphens, marks of direction and the like; joiners (of Persian, Hindi, emoji) stay where there is something to join
_GONE = regex.compile(
    r"[\u00ad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001]"
    r"|(?<![\p{L}\p{M}\p{So}\p{Sk}])[\u200c\u200d]|[\u200c\u200d](?![\p{L}\p{M}\p{So}\p{S}])"
    r"|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"
)
_CONTROL = regex.compile(r"[\p{Cc}\p{Cs}\u200b]+")


def _split(text: str, wanted: regex.Pattern[str]) -> list[str]:
    text = _HYPHEN.sub(_POINT, unicodedata.normalize("NFKC", text).lower().replace("’", "'"))
    parts = (_UNSEEN.sub("", part).strip("'") for part in _BREAKS.split(text) if wanted.search(part))
    return [part.replace(_POINT, "-") for part in parts if part]


def words(text: str) -> list[str]:
    """Lower-cased words and numbers, in order.

    They are those of Unicode's annex 29 after NFKC, so that full-width letters are letters; what a hyphen joins is one
    word. In scripts without spaces each Chinese character, each hiragana and each syllable of Thai or Khmer is a word.
    """
    if text.isascii():  # the same, ten times as fast
        return [word for word in _ASCII.findall(text.lower()) if word.strip("_")]
    return _split(text, _LETTERS)


def is_lettered(word: str) -> bool:
    """Whether a word is of letters alone, with the marks that belong to them."""
    return _LETTERED.fullmatch(word) is not None


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word for text in texts for word in words(text))


def count_tokens(text: str) -> int:
    """About how many tokens of a model a text is, where nobody says: one in four bytes, so more in scripts of many bytes."""
    return len(text.encode("utf-8", "replace")) // 4


def same_text(text: str) -> str:
    """What two texts that are the same to us share: their words and emoji, whatever their case; else all that is in them."""
    found = words(text) if text.isascii() else _split(text, _PICTURES)
    return " ".join(found).casefold() or clean(text)


def same_key(key: str) -> str:
    """What two keys of the same thing share: each of their lines the same text."""
    return "\n".join(map(same_text, key.split("\n")))


def digest(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def clean(text: str) -> str:
    """NFC, one line, without control characters, lone surrogates and marks that nobody sees, single spaces."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", _GONE.sub("", _CONTROL.sub(" ", text))).split())
