"""What `recommend` answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from close.gap.measures.belonging import Spaces

__all__ = ["Advice", "Data", "Setting", "Trial"]

Data = Literal["captions", "groups", "unpaired", "pairs"]
Setting = Literal["single", "multiple"]
"""Whether a text is its own target, or another one is."""


@dataclass(frozen=True)
class Trial:
    """One adapter's best noise: spec, cosine that the noise leaves, agreement on images with it and without."""

    adapter: Any
    cosine: float
    agreement: float
    without_noise: float


@dataclass(frozen=True)
class Advice:
    """What to train with.

    Attributes:
        data: what it rests on. captions: as in the recipe. task: what it is for. setting: what follows of both.
        adapter: spec of the stage before the noise, or None. cosine, std: of the noise; std is per dimension of the raw vectors
            that it is added to.
        agreement: expected on images, -1–1. without: the same with neither adapter nor noise. ceiling: of the linear decoder
            trained on images; None without pairs. recovered_share: (agreement − without)/(ceiling − without), or None.
        calibrations: `pair_residual`, `caption_spread`: {std, cosine} of isotropic noise of that size, where they can be had.
        trials: every adapter that there are data enough for. reasons: a sentence each.
        search: the curve that `retrieve` is advised by (`close.gap.search_curve`); None of few texts.
        fit: the tables that the adapter is to be fitted on, as a recipe names them, where they are known. load: or the folder
            that a fitted one is expected in. encoder: whose vectors it is for, where that is known.
        spaces: "aligned", "unaligned" (two encoders that were never brought together: a map learnt on pairs is all that is
            tried), or "unrelated" (the pairs do not belong together); None without pairs, which alone tell.
    """

    data: Data
    captions: str
    adapter: Any
    cosine: float
    std: float
    dim: int
    agreement: float
    without: float
    ceiling: float | None
    recovered_share: float | None
    calibrations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trials: Sequence[Trial] = ()
    reasons: Sequence[str] = ()
    search: Mapping[str, Any] | None = None
    task: str = "caption"
    setting: Setting = "single"
    fit: Mapping[str, str] | None = None
    load: str | None = None
    encoder: str | None = None
    spaces: Spaces | None = None

    @property
    def retrieve(self) -> dict[str, Any] | None:
        """The recipe's `retrieve`, for who has a memory; None where it is not known, or where no noise is enough."""
        if self.search is None or self.search["noise"] is None:
            return None
        noise = {"noise": self.search["noise"]} if self.search["noise"] < 1 else {}
        return {"k": self.search["best_k"], **noise}

    @property
    def recipe(self) -> dict[str, Any]:
        """The lines of a recipe that it comes to."""
        of = {} if self.encoder is None else {"encoder": self.encoder}
        return of | {"adapter": self.stages(), "train_on": "text", "captions": self.captions}

    def stages(self, fit: Mapping[str, str] | None = None) -> list[Any]:
        """The recipe's `adapter`.

        Args:
            fit: the tables that the adapter is to be fitted on, as a recipe names them; those of the advice without it.
        """
        from close.adapters.specs import stages_of

        stages = [_fitted_on(stage, fit or self.fit) for stage in stages_of(self.adapter)]
        if stages and self.load is not None and not fit:
            stages = [{"load": self.load}]
        return stages + ([{"gaussian": {"cosine": self.cosine}}] if self.cosine < 1 else []) or ["none"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"recipe": self.recipe, "retrieve": self.retrieve}


def _fitted_on(stage: Any, fit: Mapping[str, str] | None) -> Any:
    """A stage with the tables for it; what learns from text alone takes the training data's."""
    from close.adapters.base import ADAPTERS
    from close.adapters.specs import split_spec

    name, options = split_spec(stage)
    if fit and ADAPTERS[name].needs in ("unpaired", "paired"):
        options["fit"] = dict(fit)
    return {name: options} if options else name
