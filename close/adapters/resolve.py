"""Adapters as recipes name them: with options, fitted in place, or loaded.

mean_shift                                          a name
{gaussian: {cosine: 0.41}}                          with options
{mean_shift: {fit: {text: T, image: V}}}            fitted on tables (or `.npy`), beside its options
{mean_shift: {fit: {image: V}}}, memory, shared     text (and groups) that are not named are those of the training data
{shared: {fit: {text: T, groups: F}}}               groups are those of the data file F that T was made of
{load: A}                                           saved by `close adapter fit`
[A, B, …]                                           a chain; a stage is fitted on what the stages before it make of the data
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from close.adapters.base import ADAPTERS, Chain, GapAdapter, build_adapter
from close.adapters.rows import Adapted
from close.adapters.specs import leaves_of, names_in, refuse_endless, split_spec
from close.adapters.storage import load_adapter, read_adapter_info, save_adapter
from close.data.rows import Modality
from close.data.shards import open_rows
from close.errors import MismatchError, MissingError, RecipeError, reason
from close.io.plain import parse_yaml, read_yaml
from close.registry import unknown_name
from close.tasks import source_labels
from close.vectors.groups import group_labels
from close.vectors.open import Picked, check_encoder, check_rows, open_vectors

__all__ = [
    "check_adapter",
    "check_on_images",
    "check_tables",
    "files_in",
    "fit_adapter",
    "is_load",
    "parse_spec",
    "resolve_adapter",
    "takes_groups",
    "takes_training_text",
]

_log = logging.getLogger(__name__)

SIDES = ("text", "image", "groups")


def parse_spec(given: str) -> Any:
    """An adapter's spec from a command line: YAML, or the name of a YAML file that holds it.

    Raises:
        RecipeError: it is no YAML, or there is no such file.
    """
    try:
        return read_yaml(given) if given.endswith((".yaml", ".yml")) else parse_yaml(given)
    except (ValueError, MissingError) as error:
        raise RecipeError(
            f"adapter {given!r} is not YAML ({reason(error)}); e.g. mean_shift, or '{{linear: {{method: procrustes}}}}'"
        ) from None


def check_adapter(spec: Any, *, trains_on: Modality | None = None) -> None:
    """Check a spec without reading data: names, options, and that the files it names are there.

    Args:
        trains_on: the modality that a run is trained on, where it is for one: then each stage must be given what it learns from.
    Raises:
        UnknownNameError: an adapter, option or side is unknown; the nearest is told.
        RecipeError: an option is wrong, or a stage lacks data.
        MissingError: a table or a saved adapter is not there.
    """
    refuse_endless(spec)
    for stage in leaves_of(spec):
        if is_load(stage):
            read_adapter_info(stage["load"])
            continue
        with torch.device("meta"):
            adapter, fit = _stage(stage, dim=8)
        for side, path in (fit or {}).items():
            if not hasattr(path, "shape") and not (isinstance(path, (str, Path)) and os.path.exists(path)):
                kind = "data file" if side == "groups" else "embedding table"
                raise MissingError(f"{path}: no such {kind}, named by `fit` of adapter {stage!r}")
        given = set(fit or ())
        if extra := sorted(given - adapter.wants):
            learns = (
                f"it learns from {' and '.join(sorted(adapter.wants))}" if adapter.wants else "it learns from nothing"
            )
            raise RecipeError(f"adapter {adapter.name!r}: {learns}; leave {' and '.join(extra)} out of its fit")
        if trains_on == "text" and _takes_training_text(adapter, fit):
            given |= {"text"} if "text" in given else {"text", "groups"}
        if trains_on and not isinstance(stage, GapAdapter) and not adapter.wants <= given:
            raise _lacks_data(adapter)


def check_on_images(spec: Any) -> None:
    """Refuse what does nothing to images, in a model that is trained on them.

    Raises:
        RecipeError: a stage moves texts alone.
    """
    with torch.device("meta"):
        stages = _flat(build_adapter(_plain(spec), 8))
    for stage in stages:
        on_images = stage.noise_alone or type(stage).image is not GapAdapter.image
        if stage.name != "none" and not on_images:
            raise RecipeError(
                f"adapter {stage.name!r} moves texts alone, and does nothing where a model is trained on images "
                "(`train_on: image`): leave it out"
            )


def _plain(spec: Any) -> Any:
    """A spec without the data that its stages learn from; of a saved adapter its own."""
    if isinstance(spec, (list, tuple)):
        return [_plain(stage) for stage in spec]
    if isinstance(spec, GapAdapter):
        return spec.spec()
    if is_load(spec):
        return _plain(read_adapter_info(spec["load"])["adapter"])
    name, options = split_spec(spec)
    return {name: {key: value for key, value in options.items() if key != "fit"}}


def check_tables(spec: Any, encoder: Callable[[], Any]) -> None:
    """Open the tables and the saved adapters that a spec names, and check whose they are; no rows are read.

    Args:
        encoder: gives the run's, loaded; it is asked for only where a spec names something.
    Raises:
        MismatchError: one is of another encoder or width. CloseError: what opening it raises.
    """
    for stage in leaves_of(spec):
        if is_load(stage):
            saved = load_adapter(stage["load"], fingerprint=encoder().fingerprint)
            if saved.dim != encoder().embed_dim:
                raise _of_another_width(stage["load"], saved, encoder().embed_dim)
        elif not isinstance(stage, GapAdapter):
            fit = split_spec(stage)[1].get("fit") or {}
            for side in ("text", "image"):
                if side in fit:
                    check_rows(f"{side} table {fit[side]}", _opened(fit[side], side), encoder())


def _of_another_width(place: Any, adapter: GapAdapter, dim: int) -> MismatchError:
    return MismatchError(f"{place}: the adapter is for {adapter.dim} dimensions, the encoder has {dim}")


def files_in(spec: Any) -> list[str]:
    """What a spec names on disk: tables and data files to fit on, and folders of saved adapters."""
    found: list[Any] = []
    for stage in leaves_of(spec):
        if is_load(stage):
            found.append(stage["load"])
        elif not isinstance(stage, GapAdapter):
            found += (split_spec(stage)[1].get("fit") or {}).values()
    return [str(given) for given in found if isinstance(given, (str, Path))]


def takes_groups(spec: Any) -> bool:
    """Whether a stage of a spec learns from the groups of the training data."""
    return any(adapter.needs == "groups" and "text" not in fit for adapter, fit in _learning(spec))


def takes_training_text(spec: Any) -> bool:
    """Whether a stage of a spec learns from the training text, because nothing else is named."""
    return any("text" not in fit and _takes_training_text(adapter, fit) for adapter, fit in _learning(spec))


def _learning(spec: Any) -> Iterator[tuple[GapAdapter, Mapping[str, Any]]]:
    """The stages of a spec that may still learn, without data, and what their `fit` names."""
    for stage in leaves_of(spec):
        if not isinstance(stage, GapAdapter) and not is_load(stage):
            with torch.device("meta"):
                adapter, fit = _stage(stage, dim=8)
            yield adapter, fit or {}


def _takes_training_text(adapter: GapAdapter, fit: Mapping[str, Any] | None) -> bool:
    """Whether text that its `fit` does not name is that of the training data."""
    return adapter.needs in ("text", "groups") or (bool(fit) and adapter.needs == "unpaired")


def _lacks_data(adapter: GapAdapter) -> RecipeError:
    return RecipeError(
        f"adapter {adapter.name!r} needs {adapter.needs} data: {adapter.how_to_fit()}, or "
        "{load: FOLDER} after `close adapter fit`"
    )


def labels_in(place: Any, table: Any) -> NDArray[Any]:
    """(N,) labels of a text table's rows from the data file that it was made of: captions of one image share theirs.

    Raises:
        CloseError: as `close.vectors.groups.group_labels`.
    """
    return group_labels(open_rows(place), table, source_labels)


def resolve_adapter(
    spec: Any,
    dim: int,
    fingerprint: str | None = None,
    *,
    text: Any = None,
    groups: Callable[[], NDArray[Any]] | None = None,
    labels: Callable[[Any, Any], NDArray[Any]] = labels_in,
) -> GapAdapter:
    """The fitted adapter that a recipe asks for; its own `spec()` has plain options only.

    Args:
        dim: width of the encoder's embeddings.
        fingerprint: of the encoder's weights.
        text: (N, dim) embeddings of the training text, for adapters whose `fit` names none and which need no pairs.
        groups: gives the (N,) labels of `text`, for an adapter that needs them.
        labels: gives those of a table from the data file that a `fit` names for its groups, as whoever knows its columns does.
    Raises:
        what `check_adapter` raises, and
        MismatchError: a table or saved adapter belongs to another encoder, or its width is not `dim`.
        RecipeError: an adapter needs data and says neither `fit` nor `load`.
    """
    check_adapter(spec)
    adapter = _resolve(spec, dim, fingerprint, text, groups, [], labels)
    for stage in _flat(adapter):
        if not stage.is_fitted:
            raise _lacks_data(stage)
    if fingerprint and (unknown := _nameless(spec)):
        _log.warning(
            "%s: learnt from vectors that do not say of which encoder they are; %s", *_taken(unknown, "the run")
        )
    return adapter


def _nameless(spec: Any) -> list[Any]:
    """The tables and saved adapters that a spec names which do not say whose vectors they are of, as `.npy` files do not."""
    found: list[Any] = []
    for stage in leaves_of(spec):
        if is_load(stage):
            info = read_adapter_info(stage["load"])
            learns = any(ADAPTERS[name].needs != "nothing" for name in names_in(info["adapter"]))
            found += [stage["load"]] if learns and not info.get("fingerprint") else []
        elif not isinstance(stage, GapAdapter):
            fit = split_spec(stage)[1].get("fit") or {}
            tables = [(fit[side], _opened(fit[side], side)) for side in ("text", "image") if side in fit]
            found += [path for path, table in tables if path is not table and not table.fingerprint]
    return found


def _taken(places: Sequence[Any], whose: str) -> tuple[str, str]:
    """The places, and what is made of it that they do not say whose vectors they hold."""
    return ", ".join(map(str, places)), (
        f"they are taken for those of {whose} (tables of `close embed` say it, and another encoder's are refused)"
    )


def fit_adapter(
    spec: Any,
    out: str | Path,
    *,
    text: Any = None,
    image: Any = None,
    pairs: NDArray[np.int64] | None = None,
    groups: str | Path | None = None,
) -> GapAdapter:
    """Fit what a spec names on two tables, and save it.

    Args:
        text, image: embedding tables or `.npy` files; paired by row where the adapter needs pairs.
        pairs: (P, 2) text and image rows that belong together, where not row by row; only these rows are fitted on.
        groups: the data file that `text` was made of, where the adapter needs to know which captions are of one image.
        out: the folder to save it in.
    Raises:
        DataError: data that it needs is not given.
        MismatchError: the tables are of different encoders, or widths.
        OutputExistsError: `out` is there already.
        RecipeError: the adapter's own spec says what it learns from.
    """
    check_adapter(spec)
    tables = {side: _opened(path, side) for side, path in (("text", text), ("image", image)) if path is not None}
    labels = None if groups is None or text is None else labels_in(groups, tables["text"])
    if not tables:
        raise RecipeError("an adapter is fitted on embeddings: give --text, --image or both")
    if pairs is not None:
        if len(tables) < 2:
            raise RecipeError("pairs are of two tables: give --text and --image")
        labels = None if labels is None else labels[pairs[:, 0]]
        tables = {side: Picked(rows, pairs[:, column]) for column, (side, rows) in enumerate(tables.items())}
    first = next((table for table in tables.values() if table.fingerprint), next(iter(tables.values())))
    for side, table in tables.items():
        of = (table.encoder, table.fingerprint)
        check_encoder(f"{side} table", *of, f"{first.path}", first.encoder, first.fingerprint)
    adapter = _resolve(spec, first.shape[1], first.fingerprint, None, None, [])
    if adapter.all_needs and adapter.is_fitted:
        raise RecipeError(
            f"adapter {spec!r} is fitted already, by its own `fit` or `load`: leave that out, or these tables"
        )
    if unknown := [table.path for table in tables.values() if not table.fingerprint]:
        whose = f"encoder {first.encoder!r}" if first.fingerprint else "whichever encoder a run has"
        _log.warning("%s: vectors that do not say of which encoder they are; %s", *_taken(unknown, whose))
    adapter.fit(**tables, groups=labels)
    made_of: dict[str, Any] = {side: os.path.abspath(table.path) for side, table in tables.items()}
    made_of["pairs"] = None if pairs is None else sha256(pairs.tobytes()).hexdigest()
    made_of["groups"] = None if groups is None else os.path.abspath(groups)
    save_adapter(adapter, out, encoder=first.encoder, fingerprint=first.fingerprint, made_of=made_of)
    return adapter


def _resolve(
    spec: Any,
    dim: int,
    fingerprint: str | None,
    text: Any,
    groups: Callable[[], NDArray[Any]] | None,
    before: Sequence[GapAdapter],
    labels: Callable[[Any, Any], NDArray[Any]] = labels_in,
) -> GapAdapter:
    if isinstance(spec, (list, tuple)) and spec:
        stages: list[GapAdapter] = []
        for stage in spec:
            stages.append(_resolve(stage, dim, fingerprint, text, groups, [*before, *stages], labels))
        return Chain(dim, stages)
    if is_load(spec):
        adapter = load_adapter(spec["load"], fingerprint=fingerprint)
        if adapter.dim != dim:
            raise _of_another_width(spec["load"], adapter, dim)
        return adapter
    adapter, fit = _stage(spec, dim)
    if text is not None and _takes_training_text(adapter, fit):
        fit = {"text": text, **(fit or {})}
    if fit is not None:
        sides = {side: _rows(fit[side], side, fingerprint, before) for side in fit if side != "groups"}
        if "groups" in fit and "text" in fit:
            sides["groups"] = labels(fit["groups"], _opened(fit["text"], "text"))
        elif adapter.needs == "groups" and groups is not None and fit.get("text") is text:
            sides["groups"] = groups()
        adapter.fit(**sides)
    return adapter


def _stage(spec: Any, dim: int) -> tuple[GapAdapter, Mapping[str, Any] | None]:
    """One adapter, not fitted, and the tables that its `fit` names."""
    if isinstance(spec, (GapAdapter, list, tuple)):
        return build_adapter(spec, dim), None
    name, options = split_spec(spec)
    fit = options.pop("fit", None)
    if fit is not None and not (isinstance(fit, Mapping) and fit):
        raise RecipeError(f"adapter {name!r}: fit is {{text: TABLE, image: TABLE}}, not {fit!r}")
    for side in fit or ():
        if side not in SIDES:
            raise unknown_name(f"side in `fit` of adapter {name!r}", str(side), SIDES)
    return build_adapter({name: options}, dim), fit


def _rows(source: Any, side: str, fingerprint: str | None, before: Sequence[GapAdapter]) -> Any:
    rows = _opened(source, side)
    of = (getattr(rows, "encoder", None), getattr(rows, "fingerprint", None))
    check_encoder(f"{side} table {source}", *of, "the run", None, fingerprint)
    for stage in before:
        if not stage.is_fitted:
            raise RecipeError(
                f"a `fit` of {source} sees it through adapter {stage.name!r} before it, which is not fitted: give that one a fit "
                f"too ({stage.how_to_fit()}), or neither"
            )
        rows = Adapted(rows, stage, "text" if side == "text" else "image")
    return rows


def _opened(source: Any, side: str) -> Any:
    return source if hasattr(source, "shape") else open_vectors(source, "text" if side == "text" else "image")


def is_load(spec: Any) -> bool:
    """Whether a stage is a saved adapter, `{load: FOLDER}`."""
    if not isinstance(spec, Mapping) or set(spec) != {"load"}:
        return False
    if not isinstance(spec["load"], (str, Path)):
        raise RecipeError(f"load is the folder of a saved adapter, not {spec['load']!r}")
    return True


def _flat(adapter: GapAdapter) -> Iterator[GapAdapter]:
    if isinstance(adapter, Chain):
        for stage in adapter.members:
            yield from _flat(stage)
    else:
        yield adapter
