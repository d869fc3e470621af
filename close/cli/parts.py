"""close list: the parts that can be named, people's own included."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc
from typing import Annotated, Any, Literal

import typer

from close.cli.options import Json, print_json, verb
from close.io.terminal import show

__all__ = ["register"]

Kind = Literal["adapters", "encoders", "formats", "measures", "metrics", "prefixes", "tasks", "words"]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command("list")(verb(list_parts))


def list_parts(
    kind: Annotated[Kind | None, typer.Argument(help="Of which kind; all without it.")] = None, as_json: Json = False
) -> None:
    """Name the parts that there are, one's own included, each with a line on what it is."""
    found = {each: _LISTED[each]() for each in ([kind] if kind else _LISTED)}
    if as_json:
        print_json(found)
        return
    width = max(len(name) for parts in found.values() for name in parts)
    for each, parts in found.items():
        show(f"{each}:")
        for name, line in parts.items():
            show(f"  {name:<{width}}  {line}")


def _lines(registry: Any) -> dict[str, str]:
    """The first line of each one's documentation."""
    return {name: (getdoc(item) or "").split("\n", 1)[0] for name, item in registry.items()}


def _adapters() -> dict[str, str]:
    from close.adapters import ADAPTERS

    return _lines(ADAPTERS)


def _encoders() -> dict[str, str]:
    from close.encoders import ENCODERS

    return {kind.form: (getdoc(kind) or "").split("\n", 1)[0] for _, kind in ENCODERS.items()}


def _formats() -> dict[str, str]:
    from close.data.readers import formats

    return formats()


def _measures() -> dict[str, str]:
    from close.gap import MEASURES

    return {measure.name: f"{measure.meaning} ({measure.healthy})" for measure in MEASURES}


def _metrics() -> dict[str, str]:
    from close.evaluation.metrics import METRICS

    found = {}
    for metric in METRICS:
        says = ", ".join(score.label for score in metric.scores) or (metric.function.__doc__ or "").strip().rstrip(".")
        found[metric.name] = f"{metric.kind}: {says}" + f" ({metric.source})" * bool(metric.source)
    return found


def _prefixes() -> dict[str, str]:
    from close.model.prefixes import PREFIXES

    return _lines(PREFIXES)


def _tasks() -> dict[str, str]:
    from close.tasks import TASKS

    return _lines(TASKS)


def _words() -> dict[str, str]:
    from close.retrieval.content import WORD_FINDERS, languages

    return _lines(WORD_FINDERS) | dict.fromkeys(languages(), "word lists of this language")


_LISTED: dict[str, Callable[[], dict[str, str]]] = {
    "adapters": _adapters,
    "encoders": _encoders,
    "formats": _formats,
    "measures": _measures,
    "metrics": _metrics,
    "prefixes": _prefixes,
    "tasks": _tasks,
    "words": _words,
}
