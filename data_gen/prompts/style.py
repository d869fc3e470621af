"""Styles: how the text is to be, one TOML file each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.text.files import read_toml
from data_gen.text.words import clean

__all__ = ["STYLES", "Style", "load_style"]

STYLES = Path(__file__).parent / "styles"
_ENTRIES = {"instruction": str, "shots": list, "names": list, "limits": dict, "sampling": dict}
_LIMITS = ("max_tokens", "min_words", "max_words")
_SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "best_of", "top_k", "min_p")


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
            raise InputError(f"the style {name!r}: {entry} is {data[entry]!r}, expected a {kind.__name__}")
    limits, sampling = data["limits"], data["sampling"]
    _check_names(sampling, _SAMPLING, f"the style {name!r}")
    if not set(limits) <= set(_LIMITS):
        raise InputError(f"the style {name!r}: limits are max_tokens, min_words and max_words, got {sorted(limits)}")
    if not all(isinstance(value, int) and value > 0 for value in limits.values()):
        raise InputError(f"the style {name!r}: every limit is a whole number above 0, got {limits}")
    if not all(isinstance(value, int | float) for value in sampling.values()):
        raise InputError(f"the style {name!r}: every sampling parameter is a number, got {sampling}")
    if not all(isinstance(shot, dict) for shot in data["shots"]):
        raise InputError(f"the style {name!r}: every shot is a table ([[shots]])")
    if not all(isinstance(other, str) for other in data["names"]):
        raise InputError(f"the style {name!r}: every name is a text, got {data['names']}")
    return Style(clean(data["instruction"]), tuple(data["shots"]), tuple(data["names"]), sampling=sampling, **limits)


def _check_names(table: dict[str, Any], known: Any, owner: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise InputError(f"{owner} has an unknown entry {unknown[0]!r}; known: {', '.join(sorted(known))}")
