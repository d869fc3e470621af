"""Words of a text, what makes two texts the same, and cleaning what a model wrote."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["clean", "count_words", "digest", "same_text", "words"]

_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W\d_぀-ヿ㐀-鿿]+(?:['’-][^\W\d_]+)*|\d+")


def words(text: str) -> list[str]:
    """Lower-cased words and numbers, in order; Chinese and Japanese characters count one by one."""
    return _WORD.findall(text.lower())


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word for text in texts for word in words(text))


def same_text(text: str) -> str:
    """What two texts that are the same to us share: their words."""
    return " ".join(words(text))


def digest(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def clean(text: str) -> str:
    """NFC, one line, without control and format characters and lone surrogates, single spaces."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = (c if c.isprintable() or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in text)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())
