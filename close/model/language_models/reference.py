"""A language model that a run names instead of holding it: where it lies, and that it is the one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from close.encoders.identity import fingerprint
from close.errors import MismatchError, MissingError, RecipeError, WeightsError, shown
from close.io.places import place_of, reference_from
from close.model.language_models.loading import language_model_place, load_language_model

__all__ = ["base_of", "base_place", "load_base", "refer"]


def base_of(reference: str, language_model: Any) -> dict[str, str]:
    """What a run's configuration says of a language model that it does not hold."""
    return {"reference": reference, "fingerprint": fingerprint(language_model)}


def refer(base: Mapping[str, str], before: str | os.PathLike[str], folder: str | os.PathLike[str]) -> dict[str, str]:
    """The same as seen from a run in another folder, relative to it where both lie together.

    Args:
        before: the folder that it was seen from; the working directory, where it comes from a recipe.
    """
    return dict(base) | {"reference": reference_from(base_place(base, before), folder)}


def base_place(base: Any, folder: str | os.PathLike[str]) -> str:
    """Where the language model of a run in a folder lies: a directory, or a hub's id.

    Raises:
        WeightsError: `base` is not what `base_of` says of one.
    """
    keys = ("reference", "fingerprint")
    if not isinstance(base, Mapping) or not all(isinstance(base.get(key), str) and base[key] for key in keys):
        raise WeightsError(
            f"{folder}: base is {{reference, fingerprint}} of the run's language model, not {shown(base)}"
        )
    return place_of(base["reference"], folder)


def load_base(base: Any, folder: str | os.PathLike[str], place: str | None = None) -> Any:
    """The language model that a run in a folder was trained on, in float32.

    Args:
        place: where it is now, if elsewhere than when the run was trained.
    Raises:
        MissingError, WeightsError: it is not there. MismatchError: what is there is another.
    """
    own = base_place(base, folder)
    where = place or own
    what = f"{folder} holds what was trained alone, and its language model {base['reference']!r} ({base['fingerprint'][:8]})"
    fix = "put that back, or say where it is: close merge RUN OUT --language-model PLACE"
    try:
        language_model = load_language_model(language_model_place(where))
    except (MissingError, WeightsError, RecipeError) as error:
        raise type(error)(f"{what} can't be loaded from {where!r}: {error}; {fix}") from None
    found = fingerprint(language_model)
    if found != base["fingerprint"]:
        raise MismatchError(f"{what} is not what is at {where!r} now ({found[:8]}); {fix}")
    return language_model
