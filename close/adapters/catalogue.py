"""What there is: every adapter's name, needs, sides, formula, paper and use, read from its docstring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import getdoc
from typing import Literal

from close.adapters.base import ADAPTERS, GapAdapter, Needs

__all__ = ["AdapterInfo", "list_adapters"]


@dataclass(frozen=True)
class AdapterInfo:
    """One line of the catalogue.

    Attributes:
        needs: the data `fit` asks for. sides: which vectors it changes.
        formula: with t text and v image vectors, μ means, Σ covariances, d the dimension. paper: its source. when: to use it.
    """

    name: str
    needs: Needs
    sides: Literal["neither", "text", "image", "both"]
    formula: str
    paper: str
    when: str


def list_adapters() -> list[AdapterInfo]:
    """Every registered adapter, by name."""
    return [_info(name, ADAPTERS[name]) for name in ADAPTERS]


def _info(name: str, kind: type[GapAdapter]) -> AdapterInfo:
    text, image = kind.text is not GapAdapter.text, kind.image is not GapAdapter.image
    sides: Literal["neither", "text", "image", "both"]
    sides = "both" if text and image else "text" if text else "image" if image else "neither"
    labels = {label: _label(getdoc(kind) or "", label.capitalize()) for label in ("formula", "paper", "when")}
    return AdapterInfo(name, kind.needs, sides, **labels)


def _label(doc: str, label: str) -> str:
    found = re.search(rf"^{label}: (.+?)(?=\n\n|\n\w+:|\Z)", doc, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
