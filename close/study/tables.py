"""Tables that a sweep's adapters learn from, given once for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from close.adapters import ADAPTERS, fit_adapter
from close.adapters.base import GapAdapter
from close.adapters.resolve import files_in, is_load
from close.adapters.specs import split_spec, stages_of
from close.encoders import load_encoder
from close.errors import RecipeError
from close.gap.pairing import check_pairs, read_index
from close.io.keys import file_key
from close.runs.recipe import Recipe
from close.training.checks import encoder_of
from close.vectors.cache import file_table
from close.vectors.open import check_rows

__all__ = ["Tables", "takes_pairs"]

_SIDES = {"text": "texts", "image": "images", "pairs": "pairs", "groups": "groups"}


@dataclass(frozen=True)
class Tables:
    """Embeddings beside the training data, for adapters that need them; text that needs no pair is the training data's own.

    Attributes:
        text, image: embedding tables, `.npy` files, or data files, whose captions and images are then embedded (and cached):
            both for adapters that need pairs, `image` for those that need unpaired images.
        pairs: which text belongs to which image (see `close.gap.pairing.read_pairs`); row by row without it.
        groups: the data file that `text` was made of: with it, adapters that learn from captions of one image learn from `text`.
        folder: where adapters that need pairs are fitted, once for all seeds. spare: where those are that are not there yet,
            if nothing is to be written there.
        named: what tables were given as, by where they are, if elsewhere.
    """

    text: Path | None = None
    image: Path | None = None
    pairs: Path | None = None
    groups: Path | None = None
    folder: Path = Path("adapters")
    spare: str | Path | None = None
    named: dict[str, Path] = field(default_factory=dict)

    def opened(self, recipe: Recipe) -> Tables:
        """The same with tables in the place of data files, all of them of what makes the recipe's vectors.

        Raises:
            RecipeError: one is given without another that it belongs to. MissingError, DataError: a table is none.
            MismatchError: a table is of another encoder, or another width.
        """
        check_pairs(self.pairs, self.text, self.image)
        if self.groups and not self.text:
            raise RecipeError("--groups is the data file that the texts were made of: give --text")
        given: dict[Any, Any] = {"text": self.text, "image": self.image}
        loaded = cache(lambda: load_encoder(recipe.encoder))
        made_by = cache(lambda: encoder_of(recipe, loaded))
        places: dict[str, Path] = {}
        for side, path in given.items():
            if path is not None:
                table = file_table(path, side, loaded)
                check_rows(f"{side} table {path}", table, made_by())
                places[side] = Path(table.path)
        named = {str(place): given[side] for side, place in places.items()}
        return replace(self, **places, named=named)

    def give(self, spec: Any) -> list[Any]:
        """The stages of a spec with the tables that they need: to be fitted where a run begins; here, where pairs are needed.

        Raises:
            RecipeError: a table is needed that is not given.
        """
        stages = stages_of(spec)
        given, together = self.check(stages), _on_pairs(stages)
        found = [{"load": str(self._fitted(stages[:together]))}] if together else []
        behind = zip(stages[together:], given[together:], strict=True)
        return [*found, *(_with_fit(stage, fit) if fit else stage for stage, fit in behind)]

    def check(self, stages: Sequence[Any]) -> list[dict[str, str]]:
        """What each stage's `fit` is to be; nothing where it has one, or needs none.

        Raises:
            RecipeError: a table is needed that is not given, or groups of the texts that are.
        """
        together = _on_pairs(stages)
        return [self._given(stage, place < together) for place, stage in enumerate(stages)]

    def _given(self, stage: Any, on_pairs: bool) -> dict[str, str]:
        needs = _needs(stage)
        wanted = {"unpaired": ["image"], "paired": ["text", "image"]}.get(needs, [])
        if missing := [f"--{side}" for side in wanted if getattr(self, side) is None]:
            raise RecipeError(f"adapter {split_spec(stage)[0]!r} needs {needs} data: give {' and '.join(missing)}")
        if needs == "groups" and on_pairs and not self.groups:
            raise RecipeError(
                f"adapter {split_spec(stage)[0]!r} before one that learns from pairs learns from groups of their texts: give the "
                "data file that --text was made of (--groups FILE)"
            )
        if needs == "groups" and self.groups:
            wanted = ["text", "groups"]
        return {side: str(getattr(self, side)) for side in wanted}

    def told(self, stages: Sequence[Any]) -> list[str]:
        """What each stage that is still to be fitted learns from, in words."""
        found, together = list[str](), _on_pairs(stages)
        for place, (stage, given) in enumerate(zip(stages, self.check(stages), strict=True)):
            if isinstance(stage, (GapAdapter, list, tuple)) or is_load(stage):
                continue
            name, options = split_spec(stage)
            needs, fit = ADAPTERS[name].needs, options.get("fit") or given
            if place < together and "fit" not in options:
                sides = ["text", *(["image"] if "paired" in needs else []), *(["groups"] if needs == "groups" else [])]
                fit = {side: getattr(self, side) for side in [*sides, *(["pairs"] if self.pairs else [])]}
            if needs != "nothing":
                given_sides = [f"{what} {self._name(fit[side])}" for side, what in _SIDES.items() if side in fit]
                found.append(f"{name} on {', '.join(['the training texts'] * ('text' not in fit) + given_sides)}")
        return found

    def _name(self, table: Any) -> Any:
        return self.named.get(str(table), table)

    def _fitted(self, stages: list[Any]) -> Path:
        """The folder of the fitted adapter; what is there already is of the same tables."""
        files = [self.text, self.image, self.pairs, self.groups, *files_in(stages)]
        about = json.dumps([stages, *(file and file_key(Path(file)) for file in files)], sort_keys=True)
        name = f"{_title(stages)[:80]}-{hashlib.sha256(about.encode()).hexdigest()[:10]}"
        place = self.folder / name
        if self.spare is not None and not place.exists():
            place = Path(self.spare) / name
        if not place.exists():
            tables = (self.text, self.image)
            index = None if self.pairs is None else read_index(self.pairs, *map(Path, filter(None, tables)))
            spec = stages if len(stages) > 1 else stages[0]
            fit_adapter(spec, place, text=self.text, image=self.image, pairs=index, groups=self.groups)
        return place


def takes_pairs(stages: Sequence[Any]) -> bool:
    """Whether a stage that says nothing of its data learns from texts and images that belong together."""
    return any(_needs(stage) == "paired" for stage in stages)


def _on_pairs(stages: Sequence[Any]) -> int:
    """How many stages are fitted together on pairs: up to the last that needs them, and what behind it learns nothing."""
    last = max((place for place, stage in enumerate(stages, 1) if _needs(stage) == "paired"), default=0)
    learning = (place for place in range(last, len(stages)) if _needs(stages[place]) != "nothing")
    return next(learning, len(stages)) if last else 0


def _needs(stage: Any) -> str:
    """What a stage that says nothing of its data needs."""
    if isinstance(stage, (GapAdapter, list, tuple)) or is_load(stage):
        return "nothing"
    name, options = split_spec(stage)
    return "nothing" if "fit" in options else ADAPTERS[name].needs


def _with_fit(stage: Any, fit: dict[str, str]) -> Any:
    name, options = split_spec(stage)
    return {name: options | {"fit": fit}}


def _title(stage: Any) -> str:
    """The names of stages, for a folder's."""
    return stage if isinstance(stage, str) else "-".join(map(_title, stage))
