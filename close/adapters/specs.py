"""An adapter's spec as recipes write it: a name, `{name: options}`, or a list of these, taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from close.errors import RecipeError
from close.io.plain import walked

__all__ = ["leaves_of", "names_in", "refuse_endless", "split_spec", "stages_of"]

DEEPEST, VALUES = 12, 10_000
"""Levels and values of a spec at most: more is no adapter that anybody means."""


def refuse_endless(spec: Any) -> None:
    """Refuse a spec that is deeper or longer than anybody means, such as a YAML list that holds itself.

    Raises:
        RecipeError: it is.
    """
    try:
        for _ in walked(spec, deepest=DEEPEST, most=VALUES):
            pass
    except ValueError:
        raise RecipeError(f"an adapter is at most {DEEPEST} levels deep, and of {VALUES} values") from None


def stages_of(spec: Any) -> list[Any]:
    """The stages that a spec names: of a list its members, of anything else itself, of None nothing."""
    return [] if spec is None else list(spec) if isinstance(spec, (list, tuple)) else [spec]


def leaves_of(spec: Any) -> Iterator[Any]:
    """The stages that a spec names, those of chains within chains too; of anything but a list itself."""
    if isinstance(spec, (list, tuple)):
        for stage in spec:
            yield from leaves_of(stage)
    else:
        yield spec


def names_in(spec: Any) -> list[str]:
    """The adapters that a spec names, those of chains within chains too."""
    refuse_endless(spec)
    return [split_spec(stage)[0] for stage in leaves_of(spec)]


def split_spec(spec: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of one adapter's spec.

    Raises:
        RecipeError: it is neither a name nor `{name: options}`.
    """
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, options = next(iter(spec.items()))
        if options is None or isinstance(options, Mapping):
            return str(name), dict(options or {})
    raise RecipeError(f"an adapter is a name or {{name: {{option: value}}}}, not {spec!r}")
