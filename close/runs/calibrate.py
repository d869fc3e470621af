"""What a run's confidence is worth: a map learnt on one half of validation rows, measured on the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Row, RowFile
from close.data.shards import open_rows
from close.errors import DataError, RecipeError
from close.evaluation.bootstrap import Scores
from close.evaluation.calibration import (
    COVERAGES,
    Signal,
    accuracy_at,
    aurc,
    ece,
    ece_by_chance,
    fit,
    interval,
    reliability,
    risk_coverage,
)
from close.evaluation.calibration_plots import plot_reliability, plot_risk
from close.evaluation.images import PER_ROW, one_row_an_image
from close.evaluation.metrics import METRICS
from close.evaluation.metrics.base import Score
from close.evaluation.metrics.tokens import pick_tokenizer
from close.evaluation.scores import score_rows
from close.io.files import write_json
from close.io.hub import own_folder
from close.io.versions import versions
from close.registry import plugins_of, unknown_name
from close.runs.candidates import check_candidates, closed_set
from close.runs.confidence import confidence_file, run_sum, settings_of
from close.runs.folder import code_of
from close.runs.pipeline import Answer, CloseCaptioner, Decode, load
from close.runs.predict import Decoding, Told, named_task, tell
from close.tasks import Task

__all__ = ["calibrate"]

LEAST = 40
"""Pictures below which nothing is learnt."""
Array = NDArray[np.float64]


def calibrate(
    run: str | Path | CloseCaptioner,
    data: str | Path,
    *,
    by: Signal | None = None,
    metric: str | None = None,
    at_least: float | None = None,
    task: str | None = None,
    decode: Decode | None = None,
    normalise: bool = False,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    tokenizer: str = "auto",
    device: str | None = None,
    precision: str = "auto",
    encoder: str | None = None,
    memory: str | Path | None = None,
    **generation: Any,
) -> dict[str, Any]:
    """Learn how often the run is right where it is as sure as this, and save that with it.

    Half of the images, chosen by the seed, teach the map; what is reported is of the other half, intervals by image.

    Args:
        run: its folder, or a loaded run, to be loaded anew. data: validation rows with images, of no training nor test.
        by: what confidence is made of: "likelihood", "cosine" of the text's own vector with the image's, or "both"; without it,
            both for captions and likelihood for answers.
        metric: the score that says how right a row is; without it, the truth of its claims where rows hold facts (the mini
            world), else the task's own. at_least: a row is right from this score on; without it, 75 is three quarters right.
        task: of several, which. decode, normalise, labels, generation: as of `CloseCaptioner.answer`; confidence is known for
            these settings only. seed: of the split, and of samples.
        memory: texts to search in place of those that the run was trained with; confidence is known for this one only.
    Returns:
        What is saved in `RUN/calibration/TASK.json`: the map, on what it was learnt, and how it does on the rows it has not seen.
    Raises:
        DataError: fewer than 40 images. RecipeError: the score has no upper end (`at_least`), or settings do not go together.
    """
    own: dict[str, Any] = {"device": device, "precision": precision, "encoder": encoder, "memory": memory}
    rows, captioner = open_rows(data), load(own_folder(run), **own)
    kind = captioner.use_task(task or named_task(rows, captioner.tasks, captioner.name, ", or say which (--task)")).task
    by, key = _chosen(rows, kind, by, metric, at_least, tokenizer)
    captioner.without_confidence()
    decoding = Decoding(decode, normalise, None if labels is None else tuple(closed_set(labels)))
    wanted = {"cosine": by != "likelihood" or kind.metric == "caption", "seed": seed, **generation}
    told = tell(captioner, rows, "image", None, None, batch_size, decoding, wanted)
    _check_count(data, pictures := _pictures(told.seen))
    right, learn = _right(captioner, told, key, at_least, tokenizer), _half(pictures, seed)
    found = {"format": 1, "task": kind.name, "data": str(data), "data_sha256": rows.sha256, "tokenizer": tokenizer}
    found |= {
        "right": {"score": key, "at_least": at_least},
        "seed": seed and int(seed),
        "rows": {"learnt_on": int(learn.sum()), "measured_on": int((~learn).sum())},
        "run_sha256": run_sum(captioner.folder),
        "settings": _settings(captioner, decoding, generation),
        "files": sorted({len(row.images) for row in told.seen}),
        **_measured(by, _signals(told.answers, cosines=wanted["cosine"]), right, learn, pictures),
    }
    _save(found | {"versions": versions()} | _code(captioner, key), confidence_file(captioner.folder, kind.name))
    return found


def _code(captioner: CloseCaptioner, key: str) -> dict[str, list[str]]:
    """What is kept of the plug-ins of the run, and of those that say what is right."""
    names = _metrics(captioner.task, _score(key, captioner.task))
    return code_of(captioner.name, plugins_of((METRICS, names)))


def _check_count(data: str | Path, pictures: Sequence[str]) -> None:
    if (count := len(set(pictures))) < LEAST:
        raise DataError(
            f"{data}: {len(pictures)} examples of {count} images; calibration takes {LEAST} images at least, better hundreds"
        )


def _save(found: dict[str, Any], file: Path) -> None:
    for name, plot in (("reliability", plot_reliability), ("risk", plot_risk)):
        plot(found, file.with_name(f"{file.stem}-{name}.png"))
    write_json(file, found)


def _signals(answers: Sequence[Answer], *, cosines: bool) -> tuple[Array, Array | None]:
    """(N,) likelihoods and cosines, NaN of an empty text."""
    likelihood = np.array([answer.likelihood for answer in answers])
    cosine = np.array([np.nan if answer.cosine is None else answer.cosine for answer in answers])
    return likelihood, cosine if cosines else None


def _settings(captioner: CloseCaptioner, decoding: Decoding, generation: dict[str, Any]) -> dict[str, Any]:
    others = {key: value for key, value in generation.items() if key not in ("n", "rerank")}
    rerank, config = generation.get("rerank"), captioner.model.generation_config
    asked: dict[str, Any] = {"n": check_candidates(generation.get("n"), rerank, others), "rerank": rerank}
    asked |= {"labels": decoding.labels, "normalise": decoding.normalise, "modality": "image"}
    found = settings_of(config, decoding.way(captioner.task), generation=others, **asked)
    return found | {"precision": captioner.precision} | captioner.memory.setting


def _chosen(
    rows: RowFile, kind: Task, by: Signal | None, key: str | None, at_least: float | None, tokenizer: str
) -> tuple[Signal, str]:
    """What confidence is made of, and the score that says how right a row is; what can't be is refused here, before work."""
    if any(pictures := _pictures(rows)) or len(rows) < LEAST:
        _check_count(rows.path, pictures)
    by = by or ("both" if kind.metric == "caption" else "likelihood")
    if by not in get_args(Signal):
        raise unknown_name("signal", by, get_args(Signal))
    if key is None:
        of_claims = kind.metric == "caption" and all("facts" in row.meta for row in rows)
        key = "attribute_accuracy" if of_claims else METRICS.primary(kind.metric)
    score = _score(key, kind)
    if not score.single:
        raise RecipeError(
            f"{score.label} is of all rows together, and does not say how right one is: take another (--metric)"
        )
    if at_least is None:
        _check_scale(score)
    elif not math.isfinite(at_least):
        raise RecipeError(f"a row is right from some score on (--at-least), and that is a number, not {at_least!r}")
    if kind.metric not in PER_ROW:
        pick_tokenizer(tokenizer)
    names = _metrics(kind, score)
    if not any("encoder" in METRICS[name].needs for name in names):
        one = one_row_an_image(rows, kind.metric)[:1]
        _check_made(key, names, score_rows(kind, one, ["a"], tokenizer=tokenizer, metrics=names)[0])
    return by, key


def _right(captioner: CloseCaptioner, told: Told, key: str, at_least: float | None, tokenizer: str) -> Array:
    """(N,) how right each output is, 0 to 1."""
    task, score = captioner.task, _score(key, captioner.task)
    more: dict[str, Any] = {"encoder": captioner.encoder, "image_vectors": told.image_vectors}
    names = _metrics(task, score)
    scores, _ = score_rows(task, told.seen, told.said, tokenizer=tokenizer, metrics=names, **more)
    _check_made(key, names, scores)
    values = scores.metrics[key].per_example
    if at_least is not None:
        return np.asarray(values >= at_least if score.higher_is_better else values <= at_least, dtype=np.float64)
    return np.asarray((values if score.higher_is_better else 100 - values) / 100, dtype=np.float64)


def _metrics(kind: Task, score: Score) -> list[str]:
    return [metric.name for metric in METRICS.of(kind.metric) if score in metric.scores]


def _check_made(key: str, names: Sequence[str], scores: Scores) -> None:
    """Refuse a score that was not made, with the reason."""
    if key not in scores.metrics:
        notes = scores.get("notes", {})
        why = next((f": {notes[name]}" for name in names if name in notes), ", one a row")
        raise RecipeError(f"{key} is not to be had{why}; take another (--metric)")


def _score(key: str, kind: Task) -> Score:
    """What one of a task's scores says of itself."""
    known = {score.key: score for metric in METRICS.of(kind.metric) for score in metric.scores}
    if key not in known:
        raise unknown_name(f"score of {kind.name} rows", key, known)
    return known[key]


def _check_scale(score: Score) -> None:
    """Refuse a score that has no upper end: it does not say how right a row is."""
    if score.scale != (0, 100):
        raise RecipeError(
            f"{score.label} does not run from 0 to 100, so it does not say how right a row is: say from which score on one is "
            "(--at-least), or take another (--metric)"
        )


def _pictures(rows: Iterable[Row]) -> list[str]:
    """(N,) the image of each row, or its images; "" of one without."""
    return ["\0".join(map(str, row.images)) for row in rows]


def _half(pictures: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """(N,) which rows teach: about half, those of one image all or none."""
    names = sorted(set(pictures))
    chosen = np.random.default_rng(seed).permutation(len(names))[: (len(names) + 1) // 2]
    learn = {names[place] for place in chosen}
    return np.array([picture in learn for picture in pictures])


def _measured(
    by: Signal, signals: tuple[Array, Array | None], right: Array, learn: NDArray[np.bool_], pictures: Sequence[str]
) -> dict[str, Any]:
    """The map that `by` gives, and how it and the other signals do on rows that no map has seen."""

    def part(here: NDArray[np.bool_]) -> tuple[Any, Any]:
        return signals[0][here], None if signals[1] is None else signals[1][here]

    kinds = get_args(Signal) if signals[1] is not None else ("likelihood",)
    maps = {kind: fit(kind, *part(learn), right[learn]) for kind in kinds}
    seen, own = right[~learn], np.array(pictures)[~learn].tolist()
    ranked = {kind: _ranked(found.signal(*part(~learn)), seen, own) for kind, found in maps.items()}
    confidence = maps[by](*part(~learn))
    return {
        "map": maps[by].to_dict(),
        "by": by,
        "mean_right": float(seen.mean()),
        "ece": {"value": ece(confidence, seen), "by_chance": ece_by_chance(confidence, seen, own)},
        "reliability": reliability(confidence, seen),
        "confidence": _ranked(confidence, seen, own),
        "signals": ranked,
    }


def _ranked(order_by: Array, right: Array, pictures: Sequence[str]) -> dict[str, Any]:
    """How well something tells right from wrong: its curve, the area below, accuracy at a few coverages."""
    curve = risk_coverage(order_by, right)
    shown = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), 101)).round().astype(int))
    at: dict[str, Any] = {}
    for share in COVERAGES:
        value = accuracy_at(order_by, right, share)

        def measure(order: Array, values: Array, share: float = share) -> float:
            return accuracy_at(order, values, share)

        ends = interval(measure, order_by, right, clusters=pictures, coverage=share)
        at[f"{share:.0%}"] = {"accuracy": value, "ci": ends}
    return {
        "aurc": {"value": aurc(order_by, right), "ci": interval(aurc, order_by, right, clusters=pictures, coverage=1)},
        "at_coverage": at,
        "curve": {
            "coverage": ((shown + 1) / len(curve)).round(4).tolist(),
            "risk": curve[shown].round(4).tolist(),
        },
    }
