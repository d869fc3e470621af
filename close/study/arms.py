"""The arms of a sweep: adapters × noise × epochs, and the two that a comparison needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from close.adapters import check_adapter
from close.adapters.base import stages_of
from close.errors import CloseError, RecipeError
from close.study.tables import Tables

__all__ = ["Arm", "arms_of", "naming"]


@dataclass(frozen=True)
class Arm:
    """One way to train: a name, and what differs from the base recipe."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)


def arms_of(
    adapters: Sequence[Any],
    noises: Sequence[float],
    *,
    epochs: Sequence[float] = (),
    image: bool = True,
    tables: Tables | None = None,
) -> list[Arm]:
    """Every adapter at every noise, with the two that a comparison needs: `none` below and `image` above.

    Args:
        adapters: specs as in a recipe; "none" means noise alone.
        noises: cosines that the noise leaves; 1 means no noise.
        epochs: every arm for each of these lengths of training; the recipe's where empty.
        image: include the image-supervised ceiling.
        tables: what adapters learn from that say nothing of it themselves.
    Raises:
        RecipeError: an adapter is none or lacks data (it is named), something is given twice, or a noise is no cosine.
    """
    for kind, given in (("adapter", adapters), ("noise", noises), ("epochs", epochs)):
        if twice := [one for place, one in enumerate(given) if one in list(given)[:place]]:
            raise RecipeError(f"{kind} {twice[0]!r} is given twice; each is trained once")
    if wrong := [cosine for cosine in noises if not 0 < cosine <= 1]:
        raise RecipeError(f"noise {wrong[0]!r}: the cosine that it leaves is more than 0, and 1 without noise")
    arms = [Arm("none", {"adapter": "none", "train_on": "text"})]
    for shown, fitted in _with_tables(adapters, tables or Tables()):
        for cosine in noises:
            noise = [{"gaussian": {"cosine": cosine}}] if cosine < 1 else []
            if stages := [*fitted, *noise]:
                name = " + ".join(map(_label, [*shown, *noise]))
                arms.append(Arm(name, {"adapter": stages, "train_on": "text"}))
    arms = [arm for place, arm in enumerate(arms) if arm not in arms[:place]]
    for name in {
        arm.name for arm in arms if [one.name for one in arms].count(arm.name) > 1
    }:  # they differ in what is not shown
        arms = [replace(arm, name=f"{name}: {arm.changes['adapter']}") if arm.name == name else arm for arm in arms]
    if image:
        arms.append(Arm("image", {"adapter": "none", "train_on": "image"}))
    if epochs:
        arms = [
            Arm(f"{arm.name}, {length:g} epochs", arm.changes | {"training": {"epochs": length}})
            for arm in arms
            for length in epochs
        ]
    return arms


def _with_tables(adapters: Sequence[Any], tables: Tables) -> list[tuple[list[Any], list[Any]]]:
    """The stages of each adapter as they are given, and with their tables; all are looked at before one is fitted."""
    given = [[stage for stage in stages_of(spec) if stage != "none"] for spec in adapters]
    for stages in given:
        with naming(" + ".join(map(_label, stages))):
            check_adapter(stages)
            tables.check(stages)
    return [(stages, tables.give(stages)) for stages in given]


@contextmanager
def naming(arm: str) -> Iterator[None]:
    """What is wrong with an arm is told with its name."""
    try:
        yield
    except CloseError as error:
        raise RecipeError(f"arm {arm!r}: {error}") from None


def _label(stage: Any) -> str:
    if not isinstance(stage, dict) or len(stage) != 1:
        return str(stage)
    name, options = next(iter(stage.items()))
    if not isinstance(options, dict):
        return str(name) if options is None else f"{name} {options}"
    return " ".join([str(name), *(f"{key} {value}" for key, value in options.items() if key != "fit")])
