"""A saved run, scored on a data file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from close.data.rows import Modality, Row, RowFile
from close.data.shards import open_rows
from close.errors import DataError, MissingError, RecipeError, counted
from close.evaluation.bootstrap import Scores
from close.evaluation.images import PER_ROW
from close.evaluation.match import Missing
from close.evaluation.metrics import METRICS
from close.evaluation.metrics.tokens import pick_tokenizer
from close.evaluation.page import evaluation_page
from close.evaluation.scores import score_rows
from close.io.files import write_json, write_text
from close.io.hub import hub_run_of
from close.io.jobs import clear, exclusively
from close.io.plain import read_plain
from close.io.pretrained import loading
from close.io.record import code_sums
from close.io.versions import versions
from close.plugins import plugin_code
from close.registry import plugins_of
from close.retrieval.finder import settings_in
from close.runs.apart import met_pictures
from close.runs.candidates import check_search
from close.runs.evaluations import evaluation_folder, is_fed, kept_scores, looked_at, table_sum
from close.runs.folder import RUN_FILE, code_of, open_run, recipe_of
from close.runs.pipeline import Answer, CloseCaptioner, Decode, load
from close.runs.predict import Decoding, Told, decoding_of, doing, named_task, tell
from close.runs.row_vectors import given_table
from close.tasks import Task, get_task
from close.vectors.table import EmbeddingTable

SHOWN = 10
"""Probabilities kept with a prediction."""

__all__ = [
    "as_the_run_says",
    "code_behind",
    "evaluate",
    "evaluated",
    "kept_scores",
    "needs_encoder",
    "plain_search",
    "searched_alike",
]


def evaluate(
    run: str | Path | CloseCaptioner,
    data: str | Path,
    *,
    modality: Modality = "image",
    task: str | None = None,
    batch_size: int = 64,
    tokenizer: str = "auto",
    metrics: str | Sequence[str] | None = None,
    decode: Decode | None = None,
    normalise: bool = False,
    answers: str | Path | Sequence[str] | None = None,
    top_answers: int | None = None,
    limit: int | None = None,
    missing: Missing | None = None,
    vectors: str | Path | EmbeddingTable | None = None,
    folder: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
    encoder: str | None = None,
    memory: str | Path | None = None,
    **generation: Any,
) -> dict[str, Any]:
    """Predict every row, score the predictions, save both; rows of one image are one example (`close.evaluation.images`).

    Args:
        run: a run's folder, or a loaded one (then `folder` says where to save).
        data: rows to score on; for `modality="image"` each has an image, for "text" a source.
        task: what to do; without it, the run's task; of several, the one that the rows name. A loaded run stays set as it was.
        tokenizer: of caption scores: auto, java, python or unicode. metrics: names in `METRICS`; else the task's without Java.
        decode: "tree", "score" or "free" for answers from a closed set. normalise: with "score", by their lengths.
        answers: the closed set: the answers themselves, or a file for `answer_vocabulary`. Without it, the task's labels;
            for VQA decoded by "tree" or "score", the commonest targets that the run was trained on.
        top_answers: how many of a file's answers; of training targets, 3,000 without it. limit: only the first examples.
        missing: of an image that can't be read: "skip" the row, "zero": as if nothing was said, or "error", also without it.
        vectors: a table of the rows' vectors by their ids (of texts, by these), fed in place of what the encoder makes of them.
        memory: texts to search in place of the run's own. folder: where all is saved, in place of what is there; without it
            `RUN/evaluations/DATA-MODALITY[-DECODE][-firstN]` (`evaluation_folder`), of a hub's run `evaluations/ORG/NAME/…`.
        generation: overrides of the run's generation settings; and `seed`, of what is drawn of each row: 0 without it.
    Returns:
        What `scores.json` says: scores (0–100) with intervals, settings, data hashes, seeds, versions.
    Raises:
        RecipeError: unknown modality, settings that do not go together, or several tasks and none chosen. UnknownNameError: task.
        DataError: rows lack what the task needs. OutputExistsError: it is being made. MissingError: a loaded run is gone.
    """
    rows, limit = open_rows(data), limit if limit is None else counted(limit, "limit")
    metrics = [metrics] if isinstance(metrics, str) else metrics and [*metrics]
    captioner = _loaded(run, device=device, precision=precision, encoder=encoder, memory=memory)
    with doing(captioner, task or named_task(rows, captioner.tasks, captioner.name, ", or say which (--task)")) as kind:
        decoding = decoding_of(captioner, kind, decode, normalise, answers, top_answers)
        given = None if vectors is None else given_table(vectors, modality, captioner.model.config, rows)
        generation, about = _check_before(captioner, rows, modality, metrics, tokenizer, generation, given)
        state = looked_at(rows, modality, given)  # before they are read: those that replace them meanwhile are others
        place = Path(folder or _place(captioner, data, rows.sha256, modality, decode, limit, state, given))
        with exclusively(place, "is being made"):
            told = tell(captioner, rows, modality, limit, missing, batch_size, decoding, generation, given)
            how: Any = {"tokenizer": tokenizer, "metrics": metrics, "missing": None if missing == "error" else missing}
            scores, shown = _scores(captioner, told, given is None or needs_encoder(kind, metrics), **how)
            result = _settings(captioner, rows, told, decoding.describe(kind, answers), generation) | state | how
            return _saved(result | about | {"limit": limit, "scores": scores, "examples": shown}, place, told)


def _loaded(run: str | Path | CloseCaptioner, **opened: Any) -> CloseCaptioner:
    """A run, loaded with what was said of it.

    Raises:
        RecipeError: it is loaded already, and something is said of it.
    """
    if not isinstance(run, CloseCaptioner):
        return load(run, **opened)
    if said := [key for key, value in opened.items() if value not in (None, "auto")]:
        raise RecipeError(f"the run is loaded already, and {said[0]} is said when that is done: load(RUN, {said[0]}=…)")
    return run


def plain_search(captioner: CloseCaptioner, generation: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of generation as they are used and recorded: those that say something, their numbers as Python's own.

    Raises:
        RecipeError: one would change nothing, or is none.
    """
    found = check_search(captioner.model.generation_config, generation, 1)
    return {key: value for key, value in found.items() if value is not None}


def _check_before(
    captioner: CloseCaptioner,
    rows: RowFile,
    modality: Modality,
    metrics: Sequence[str] | None,
    tokenizer: str,
    generation: Mapping[str, Any],
    given: EmbeddingTable | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`plain_search`, and what else is recorded; refuses what would only show when all is predicted: metrics, labels …"""
    found, task = plain_search(captioner, generation), captioner.task
    if task.metric not in PER_ROW:
        pick_tokenizer(tokenizer)
    for name in metrics or ():
        if METRICS[name].kind != task.metric:
            raise RecipeError(f"metric {name!r} scores {METRICS[name].kind}, not {task.metric}")
        if modality == "text" and "encoder" in METRICS[name].needs:
            raise RecipeError(
                f"metric {name!r} looks at pictures, and modality 'text' feeds none; expected modality 'image'"
            )
    for row in rows if task.labels else ():
        try:
            task.targets(row)
        except DataError as error:
            raise DataError(f"{rows.path}: {error}") from None
    if given is not None and needs_encoder(task, metrics):
        _ = captioner.encoder  # raises where it is not there
    about = {} if given is None else {"vectors": {"table": str(given.path), "sum": table_sum(given)}}
    return found, about | code_behind(captioner.folder, task, metrics)


def needs_encoder(task: Task, metrics: Sequence[str] | None = None) -> bool:
    """Whether a metric of these, or of those that a task is scored by without any, looks at pictures with the run's encoder."""
    return any("encoder" in METRICS[name].needs for name in metrics or METRICS.defaults(task.metric, java=False))


def evaluated(
    run: Path, data: Path, modality: Modality = "image", vectors: EmbeddingTable | None = None
) -> dict[str, Any]:
    """Scores of a run in its folder, made by `evaluate` as it comes; those that were made like that before are read.

    Args:
        vectors: of the rows, fed in place of what the encoder makes of them; scores on others are none of these.
    """
    rows = open_rows(data)
    pictures = cache(lambda: looked_at(rows, modality, vectors))
    place = evaluation_folder(run / "evaluations", data, rows.sha256, modality, pictures=pictures, given=vectors)
    with exclusively(place, "is being made"):
        found = kept_scores(place / "scores.json")
    kept = is_fed(found, vectors) and _as_it_comes(found, run, rows, modality) and pictures().items() <= found.items()
    if not kept:
        found = evaluate(run, data, modality=modality, tokenizer="python", vectors=vectors)
    return dict(found["scores"])


def _as_it_comes(found: Mapping[str, Any], run: Path, rows: RowFile, modality: Modality) -> bool:
    """Whether scores are those of these rows with nothing said but the tokenizer; what they do not say was perhaps another."""
    tasks = open_run(run)["tasks"]
    named = {row.task for row in rows} if len(tasks) > 1 else tasks
    if [*named] != [found.get("task")]:
        return False
    wanted = {"data_sha256": rows.sha256, "modality": modality, "missing": None, "metrics": None, "tokenizer": "python"}
    if not plugin_code(code_behind(run, get_task(found["task"]))) <= plugin_code(found):
        return False
    return all(key in found and found[key] == value for key, value in wanted.items()) and as_the_run_says(found, run)


def code_behind(run: str | Path, task: Task, metrics: Sequence[str] | None = None) -> dict[str, list[str]]:
    """What an evaluation keeps of plug-ins (`plugins_said`), those of the run and of the metrics that score it.

    Args:
        metrics: names in `METRICS`; else those that are made by themselves.
    """
    names = [*(METRICS.defaults(task.metric) if metrics is None else metrics)]
    names += [metric.name for metric in METRICS.of(task.metric) if metric.automatic]
    return code_of(run, plugins_of((METRICS, names)))


def as_the_run_says(found: Mapping[str, Any], run: Path) -> bool:
    """Whether scores show what a run says by itself of every row: no other search, precision, memory or answers.

    Raises:
        WeightsError: its settings of generation can't be read.
    """
    kept, retrieve = found.get("memory"), read_plain(run / "config.json").get("retrieve")
    memory = None if retrieve is None else settings_in(retrieve, run)[1].get("sha256", kept)
    decoding = Decoding().describe(get_task(found["task"]), None)
    wanted = {"limit": None, "precision": "auto", "decoding": decoding, "memory": memory}
    return {key: found.get(key) for key in wanted} == wanted and searched_alike(found.get("generation"), run)


def searched_alike(kept: Any, run: Path) -> bool:
    """Whether kept settings of generation are the run's own of now; `match_length` may have changed these.

    Raises:
        WeightsError: the run's can't be read.
    """
    if not isinstance(kept, dict):
        return False
    with loading(f"{run}: its settings of generation can't be read"):
        now = GenerationConfig.from_pretrained(run).to_diff_dict()
    told, wanted = ({**json.loads(json.dumps(one)), "transformers_version": None} for one in (kept, now))
    return bool(told == wanted)


def _place(
    captioner: CloseCaptioner,
    data: str | Path,
    sha256: str,
    modality: Modality,
    decode: Decode | None,
    limit: int | None,
    pictures: dict[str, str],
    given: EmbeddingTable | None,
) -> Path:
    """Where an evaluation goes that nobody named a folder for: as the run was named, where that is still it."""
    if not (captioner.folder / RUN_FILE).is_file():
        raise MissingError(f"{captioner.folder}: the run is not there any more; say where to save its scores: folder=…")
    published, named = hub_run_of(captioner.folder), Path(captioner.name)
    own = named if named.is_dir() and named.samefile(captioner.folder) else captioner.folder
    folder = Path("evaluations", published.name) if published else own / "evaluations"
    return evaluation_folder(folder, data, sha256, modality, decode, limit, lambda: pictures, given)


def _scores(captioner: CloseCaptioner, told: Told, looks: bool, **settings: Any) -> tuple[Scores, dict[str, Any]]:
    more: dict[str, Any] = {"encoder": captioner.encoder if looks else None, "image_vectors": told.image_vectors}
    return score_rows(captioner.task, told.examples, told.said, notes=told.notes, **settings, **more)


def _settings(
    captioner: CloseCaptioner,
    rows: RowFile,
    told: Told,
    decoding: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides an evaluation's numbers."""
    return {
        "run": captioner.name,
        "data": str(rows.path),
        "data_place": str(rows.path.resolve()),
        "data_sha256": rows.sha256,
        "rows": len(told.examples),
        "task": captioner.task.name,
        "modality": told.table.modality,
        "precision": captioner.precision,
        **({"unreadable": told.unreadable} if told.unreadable else {}),
        "generation": captioner.model.generation_config.to_diff_dict() | generation,
        "decoding": decoding,
        **captioner.memory.setting,
        **met_pictures(recipe_of(captioner.folder), told.seen, rows.path, captioner.memory.given),
        "trained": _trained(captioner.folder),
        "bootstrap": {"samples": 1000, "seed": 0},
        "versions": versions(),
        "code": code_sums(),
    }


def _saved(result: dict[str, Any], place: Path, told: Told) -> dict[str, Any]:
    """Predictions, page and scores in their folder."""
    result["folder"] = str(place)
    lines = (_line(row, answer) for row, answer in zip(told.seen, told.answers, strict=True))
    clear(place, r"predictions\.jsonl|scores\.json|report\.html")  # of a killed one
    write_text(place / "predictions.jsonl", "".join(lines))
    write_text(place / "report.html", evaluation_page(result))
    write_json(place / "scores.json", result)  # last: where it is, all is
    return result


def _trained(run: Path) -> dict[str, Any] | None:
    """Seed, data hashes, versions and code of the training, where the run lies in a folder."""
    if not (run / RUN_FILE).is_file():
        return None
    info = open_run(run)
    keys = ("seed", "encoder", "fingerprint", "tasks", "train", "steps", "versions", "code")
    return {key: info.get(key) for key in keys}


def _line(row: Row, said: Answer) -> str:
    values: dict[str, Any] = {"id": row.id, "text": said.text, "score": round(said.score, 6)}
    if said.probabilities is not None:
        values["probabilities"] = {label: round(share, 6) for label, share in list(said.probabilities.items())[:SHOWN]}
    if said.confidence is not None:
        values["confidence"] = round(said.confidence, 6)
    shown = [str(image) for image in row.images]
    values["image"] = shown if len(shown) > 1 else next(iter(shown), None)
    return json.dumps(values, ensure_ascii=False) + "\n"
