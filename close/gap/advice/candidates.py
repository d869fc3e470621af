"""The adapters that are tried, by what they say of their place in the advice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # measuring needs no torch
    from close.adapters import Advised, Needs

__all__ = ["Candidate", "candidates"]


@dataclass(frozen=True)
class Candidate:
    """Something to put before the noise.

    Attributes:
        spec: as a recipe names it; None is nothing.
        place: what its adapter says of it.
    """

    spec: Any
    place: Advised

    @property
    def title(self) -> str:
        """In words."""
        return " and ".join(self._names) or "noise alone"

    @property
    def needs(self) -> set[Needs]:
        """What its stages learn from."""
        from close.adapters import ADAPTERS

        return {ADAPTERS[name].needs for name in self._names}

    @property
    def _names(self) -> list[str]:
        from close.adapters.specs import split_spec, stages_of

        return [split_spec(stage)[0] for stage in stages_of(self.spec)]

    def too_few(self, counts: Mapping[Needs, int], dim: int) -> str:
        """Why it is not to be trusted with so many rows of what its stages need, or ""."""
        from close.adapters import build_adapter
        from close.adapters.specs import stages_of

        for stage in (build_adapter(stage, dim) for stage in stages_of(self.spec)):
            if stage.needs != "nothing" and counts[stage.needs] < stage.trusted:
                # texts in groups count once a group
                of_images = "images" if counts["groups"] else f"{stage.needs} rows"
                told = {"paired": "paired images", "groups": "images with several captions"}
                what = told.get(stage.needs, of_images)
                return f"{self.title} (trusted from {stage.trusted} {what} on, and there are {counts[stage.needs]})"
        return ""

    def rank(self, setting: str) -> int | None:
        """In the setting "single" or "multiple", see `Advised`."""
        return self.place.single if setting == "single" else self.place.multiple


def candidates(data: Collection[Needs]) -> list[Candidate]:
    """What there is data for, nothing first, then what asks for least.

    Args:
        data: what there is, as adapters name what they need.
    """
    from close.adapters import ADAPTERS, Advised

    declared = [Candidate(place.spec(name), place) for name in ADAPTERS for place in ADAPTERS[name].advice]
    able = [candidate for candidate in declared if candidate.needs <= {"nothing", "text", *data}]
    able.sort(key=lambda candidate: [kind in candidate.needs for kind in ("paired", "unpaired", "groups")])
    return [Candidate(None, Advised(drops_wording=True)), *able]
