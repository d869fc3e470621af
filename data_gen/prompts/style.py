"""Styles: how the text is to be, one TOML file each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_gen.errors import InputError, shown
from data_gen.text.files import read_toml
from data_gen.text.words import clean

__all__ = ["STYLES", "Style", "load_style"]

STYLES = Path(__file__).parent / "styles"
_ENTRIES = {"instruction": str, "shots": list, "names": list, "limits": dict, "sampling": dict}
_LIMITS = ("max_tokens", "min_words", "max_words")
_SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "best_of", "top_k", "min_p")

_MOST = 1_000_000


@dataclass(frozen=True)
class Style:
    """How the text is to be: one TOML file.

    Attributes:
        instruction: added to the verb's own.
        shots: tables of the file; for captions and rewriting with `keywords`, `plain` and `text`, else with `given`
            and `records`.
        names: of which one is put before the keywords of every request (the characters of a story).
        max_tokens: for one answer.
        min_words, max_words: what the `length` filter removes when it is asked for.
        sampling: passed on to the server: temperature, top_p, frequency_penalty, …
    """

    instruction: str = ""
    shots: tuple[dict[str, Any], ...] = ()
    names: tuple[str, ...] = ()
    max_tokens: int = 64
    min_words: int = 1
    max_words: int = 60
    sampling: dict[str, float] = field(default_factory=dict)


def load_style(name: str) -> Style:
    """The style of a TOML file or of a built-in name.

    Raises:
        InputError: unknown, not TOML, an unknown entry, or a value of the wrong kind.
    """
    data = read_toml(STYLES, name)
    _check_names(data, _ENTRIES, f"the style {name!r}")
    for entry, kind in _ENTRIES.items():
        if not isinstance(data.setdefault(entry, kind()), kind):
            raise InputError(f"the style {name!r}: {entry} is {shown(data[entry])}, expected a {kind.__name__}")
    limits, sampling = data["limits"], data["sampling"]
    _check_names(sampling, _SAMPLING, f"the style {name!r}")
    if not set(limits) <= set(_LIMITS):
        raise InputError(
            f"the style {name!r}: limits are max_tokens, min_words and max_words, got {shown(sorted(limits))}"
        )
    if not all(type(value) is int and 0 < value <= _MOST for value in limits.values()):
        raise InputError(
            f"the style {name!r}: every limit is a whole number above 0, up to {_MOST}, got {shown(limits)}"
        )
    least, most = limits.get("min_words", Style.min_words), limits.get("max_words", Style.max_words)
    if least > most:
        raise InputError(f"the style {name!r}: min_words is {least}, and max_words {most}: no text has both")
    if not all(type(value) in (int, float) and abs(value) <= _MOST for value in sampling.values()):
        raise InputError(f"the style {name!r}: every sampling parameter is a number, got {shown(sampling)}")
    if not all(isinstance(shot, dict) for shot in data["shots"]):
        raise InputError(f"the style {name!r}: every shot is a table ([[shots]])")
    if not all(isinstance(other, str) for other in data["names"]):
        raise InputError(f"the style {name!r}: every name is a text, got {shown(data['names'])}")
    names = tuple(map(clean, data["names"]))
    return Style(clean(data["instruction"]), tuple(data["shots"]), names, sampling=sampling, **limits)


def _check_names(table: dict[str, Any], known: Any, owner: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise InputError(f"{owner} has an unknown entry {unknown[0]!r}; known: {', '.join(sorted(known))}")
