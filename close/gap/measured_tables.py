"""What one report shows side by side: encoders, and adapters behind the first of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from close.errors import DataError, MismatchError, RecipeError
from close.gap.adapted import adapt
from close.gap.measure import GapReport, measure_modalities
from close.gap.modalities import Modalities
from close.gap.pairing import Pairing, read_pairs, side_by_side
from close.vectors.open import check_encoder, differing_ids, open_vectors

__all__ = ["MeasuredTables", "measure_tables", "to_json"]


@dataclass(frozen=True)
class MeasuredTables:
    """A pair of tables, measured.

    Attributes:
        name: as the report calls it.
        modalities, report: the embeddings and their measures.
        captions: text row → caption. pictures: row of the image table → file.
        names: ids of the texts and of the image table's rows, where known.
        encoder, fingerprint: its name and that of its weights, where known.
        adapter: the spec through which the first tables are seen here; None for tables of their own.
    """

    name: str
    modalities: Modalities
    report: GapReport
    captions: Mapping[int, str] = field(default_factory=dict)
    pictures: Mapping[int, Path] = field(default_factory=dict)
    names: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None)
    encoder: str | None = None
    fingerprint: str | None = None
    adapter: Any = None


def measure_tables(
    sources: Sequence[tuple[str, Path, Path]],
    *,
    pairs: Path | None = None,
    per_image: int | None = None,
    unpaired: bool = False,
    adapters: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
    sample: int = 20_000,
    bootstrap: int = 1000,
    seed: int = 0,
) -> list[MeasuredTables]:
    """Measure tables from files, and the first of them behind every adapter.

    Args:
        sources: (name, text, image) files; `pairs`, `per_image` and `unpaired` hold for all of them, one at most.
        pairs: see `read_pairs`. per_image: texts of an image, which lie side by side in the order of the images.
        adapters: name → spec.
        sample, bootstrap, seed: see `measure_gap`.
        progress: called with what is being done.
    Raises:
        RecipeError: several ways of pairing, or two cases of one name.
        CloseError: a file, a row, a pair or a spec is wrong.
    """
    if (pairs is not None) + (per_image is not None) + unpaired > 1:
        raise RecipeError("--pairs, --per-image and --unpaired exclude each other")
    _refuse_twice([*(name for name, *_ in sources), *(adapters or {})])

    def report(name: str, modalities: Modalities) -> GapReport:
        tell = (lambda step: progress(f"{name}: {step}")) if progress else None
        return measure_modalities(modalities, sample=sample, bootstrap=bootstrap, seed=seed, progress=tell)

    measured = []
    for name, text_path, image_path in sources:
        text, image = open_vectors(text_path, "text"), open_vectors(image_path, "image")
        of = (image.encoder, image.fingerprint)
        check_encoder(f"{text.path}", text.encoder, text.fingerprint, f"{image.path}", *of)
        found = Pairing("unpaired" if unpaired else None)
        if pairs:
            found = read_pairs(pairs, text, image)
        elif per_image:
            found = side_by_side(per_image, text, image)
        modalities = _modalities(text, image, found).asking(sample, seed)
        measured.append(
            MeasuredTables(
                name=name,
                modalities=modalities,
                report=report(name, modalities),
                captions=found.captions,
                pictures=found.pictures,
                names=(text.ids, image.ids),
                encoder=text.encoder or image.encoder,
                fingerprint=text.fingerprint or image.fingerprint,
            )
        )
    first = measured[0]
    for name, spec in (adapters or {}).items():
        modalities = adapt(first.modalities, spec, fingerprint=first.fingerprint, seed=seed)
        measured.append(replace(first, name=name, modalities=modalities, report=report(name, modalities), adapter=spec))
    return measured


def _refuse_twice(names: Sequence[str]) -> None:
    """Refuse a name of two cases, of which the JSON would hold one."""
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise RecipeError(f"two cases are called {twice!r}; give each a name of its own (--compare NAME=TEXT,IMAGE)")


def _modalities(text: Any, image: Any, found: Pairing) -> Modalities:
    """Both tables, with what is odd about their pairing; named where they can't be measured."""
    try:
        modalities = Modalities.of(text, image, found.pairs, found.groups)
    except (DataError, MismatchError) as error:
        follow = _may_follow(text, image) if found.pairs is None and isinstance(error, MismatchError) else ""
        raise type(error)(f"{error}{follow} (text is {text.path}, image {image.path})") from None
    return replace(modalities, notes={**modalities.notes, **_remark(text, image, found)})


def _may_follow(text: Any, image: Any) -> str:
    """The option for several texts of each image side by side, where the counts of two tables may mean that."""
    each, rest = divmod(len(text), len(image)) if len(image) and text.shape[1] == image.shape[1] else (0, 0)
    return f"; --per-image {each} if {each} texts of each follow each other" if each > 1 and not rest else ""


def _remark(text: Any, image: Any, found: Pairing) -> dict[str, str]:
    """What is odd about the pairing, if anything."""
    if found.left_out:
        return {
            "pairs": f"{found.left_out} sources or images of the file have no vector in the tables and are left out"
        }
    remark = differing_ids(text, image) if found.pairs is None else ""
    return {"pairs": remark} if remark else {}


def to_json(measured: Sequence[MeasuredTables]) -> str:
    """The first tables' measures by their stable names, and their encoder where known; of others under `cases`, by name."""
    out = measured[0].report.to_dict()
    out |= {key: value for key in ("encoder", "fingerprint") if (value := getattr(measured[0], key)) is not None}
    if len(measured) > 1:
        out["cases"] = {tables.name: tables.report.to_dict() for tables in measured[1:]}
    return json.dumps(out, indent=2, ensure_ascii=False, allow_nan=False)
