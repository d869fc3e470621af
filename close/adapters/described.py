"""Every adapter as its class describes it: needs, sides, formula, paper, use, options, read from docstring and signature."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, Literal

from close.adapters.base import ADAPTERS, GapAdapter, Needs, options_of

__all__ = ["AdapterInfo", "AdapterOption", "list_adapters"]


_FITTED = {
    "text": "on the training data by itself, or ",
    "groups": "on the training data by itself, or ",
    "unpaired": "on the training data where text is left out: ",
}


@dataclass(frozen=True)
class AdapterOption:
    """One option of an adapter.

    Attributes:
        default: what it is without being given; None where its meaning says what is done then.
        needed: it has to be given. meaning: from the docstring.
    """

    name: str
    default: Any
    needed: bool
    meaning: str


@dataclass(frozen=True)
class AdapterInfo:
    """One adapter.

    Attributes:
        summary: what it does. needs: the data `fit` asks for. sides: which vectors it changes.
        formula: with t text and v image vectors, μ means, Σ covariances, d the dimension. paper: its source. when: to use it.
        fit: how a recipe has it fitted; empty where there is nothing to learn. options: those that a recipe may give.
    """

    name: str
    summary: str
    needs: Needs
    sides: Literal["neither", "text", "image", "both"]
    formula: str
    paper: str
    when: str
    fit: str
    options: tuple[AdapterOption, ...]


def list_adapters() -> list[AdapterInfo]:
    """Every registered adapter, by name."""
    return [_info(name, ADAPTERS[name]) for name in ADAPTERS]


def _info(name: str, kind: type[GapAdapter]) -> AdapterInfo:
    text, image = kind.text is not GapAdapter.text, kind.image is not GapAdapter.image
    sides: Literal["neither", "text", "image", "both"]
    sides = "both" if text and image else "text" if text else "image" if image else "neither"
    doc = getdoc(kind) or ""
    labels = {label: _label(doc, label.capitalize()) for label in ("formula", "paper", "when")}
    return AdapterInfo(
        name=name,
        summary=doc.partition("\n")[0],
        needs=kind.needs,
        sides=sides,
        **labels,
        fit=_FITTED.get(kind.needs, "") + kind.how_to_fit() if kind.needs != "nothing" else "",
        options=tuple(_options(kind)),
    )


def _label(doc: str, label: str) -> str:
    found = re.search(rf"^{label}: (.+?)(?=\n\n|\n\w+:|\Z)", doc, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def _options(kind: type[GapAdapter]) -> list[AdapterOption]:
    meanings: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        told = _arguments(parent.__doc__ or "")
        meanings |= {name: text for name, text in told.items() if "see `" not in text or name not in meanings}
    found = []
    for name, parameter in options_of(kind).items():
        needed = parameter.default is parameter.empty
        found.append(AdapterOption(name, None if needed else parameter.default, needed, meanings.get(name, "")))
    return found


def _arguments(doc: str) -> dict[str, str]:
    """Name to meaning of the arguments in a docstring; `a, b: …` is said of both."""
    section = re.search(r"^ *Args:\n(.*?)(?=^\s*\n|^ {0,4}\S|\Z)", doc, re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?= {8}\w)", section[1].rstrip()) if section else ():
        names, _, meaning = entry.partition(":")
        found |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return found
