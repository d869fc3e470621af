"""An adapter's place in the advice of `close recommend`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Advised"]


@dataclass(frozen=True)
class Advised:
    """One way in which an adapter is tried, wherever the data that it needs are there.

    Attributes:
        single, multiple: its rank where a caption is its own target, and where other captions of its image are. Of those within
            2 % of the best agreement, the lowest rank is advised. None: tried, and advised only where no ranked one comes near.
        options: the options it is tried with. then: the adapter behind it, if it is tried as a chain.
        aligns: it brings pairs together from wherever they lie; tried alone where both modalities' spaces are not aligned.
        drops_wording: it takes away what tells captions of one image apart; the noise behind it has the work of noise alone.
    """

    single: int | None = None
    multiple: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    then: str | None = None
    drops_wording: bool = False
    aligns: bool = False

    def spec(self, name: str) -> Any:
        """As a recipe names it."""
        first = {name: dict(self.options)} if self.options else name
        return first if self.then is None else [first, self.then]
