"""Whatever can be asked of what is kept with a run is kept beside it, or decides nothing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from close.cli.caption import caption
from close.io.record import code_sums, outdated, stamp
from close.runs.answering import Answerer
from close.runs.calibrate import calibrate
from close.runs.evaluate import evaluate
from close.runs.length import match_length
from close.runs.pipeline import load
from close.study.selection import saved_selection, selection_score
from close.training.train import train

NOTHING = {
    "self": "the run",
    "run": "what is kept lies in it",
    "encoder": "another than the run's is refused",
    "language_model": "another than the run's is refused",
    "batch_size": "texts are the same but for rounding",
    "device": "texts are the same but for rounding",
    "folder": "where it goes",
    "save": "whether it is kept at all",
    "tell": "shown",
    "cosine": "shown",
    "as_json": "shown",
    "html": "shown",
    "out": "where it goes",
    "engine": "how work is spread",
    "workers": "how work is spread",
    "address": "how work is spread",
    "embeds": "an item; each is asked by itself",
    "contexts": "an item; each is asked by itself",
    "search": "an item; each is asked by itself",
    "seeds": "an item; each is asked by itself",
}
DECODING = dict.fromkeys(("decode", "normalise", "answers", "top_answers"), "decoding")
OF_ANSWERS = {"modality": "settings.modality", "decode": "settings.decode", "n": "settings.num_beams"}
OF_ANSWERS |= {"rerank": "settings.rerank", "generation": "settings.num_beams"}
NAMED = dict.fromkeys(("items", "together", "boxes", "tiles", "frames"), "items")
SETTINGS = ("context", "n", "rerank", "min_confidence", "num_beams", "length_penalty", "top_p", "temperature", "seed")
ONLY_GIVEN = {"vectors", "settings.labels", "settings.normalise"}
"""Keys that are there where something was given."""
KEPT: dict[Callable[..., Any], dict[str, str]] = {
    load: {"precision": "precision", "memory": "memory"},
    evaluate: {
        "data": "data_sha256",
        **{key: key for key in ("modality", "task", "tokenizer", "metrics", "limit", "missing", "vectors")},
        **{key: key for key in ("precision", "memory", "generation")},
        **DECODING,
    },
    selection_score: {"data": "data_sha256", "image": "image_key", "vectors": "vectors", "seed": "seed"}
    | {"generation": "generation"},
    match_length: {"photos": "sizes", "like": "like", "task": "task", "sample": "sample", "precision": "precision"}
    | {"memory": "memory"},
    calibrate: {
        "data": "data_sha256",
        "by": "by",
        "metric": "right.score",
        "at_least": "right.at_least",
        "task": "task",
    }
    | {"seed": "seed", "tokenizer": "tokenizer", "precision": "settings.precision", "memory": "settings.memory"}
    | OF_ANSWERS
    | {"labels": "settings.labels", "normalise": "settings.normalise"},
    Answerer.answer: OF_ANSWERS | {"labels": "settings.labels", "normalise": "settings.normalise"},
    caption: NAMED
    | {key: key for key in (*SETTINGS, "task", "memory", "precision")}
    | {"vectors": "source", "modality": "source", "sample": "do_sample"},
}
"""By what is called, its parameters and the keys under which files keep them; those of `caption` stand in the file's job."""


@pytest.mark.parametrize("called", KEPT, ids=lambda called: called.__qualname__)
def test_every_parameter_is_kept_or_decides_nothing(called: Callable[..., Any]) -> None:
    new = set(inspect.signature(called).parameters) - KEPT[called].keys() - NOTHING.keys()
    assert not new, f"{called.__qualname__} takes {new}: keep it where its result is kept, compare it, and say so here"


def test_what_is_kept_has_these_keys(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tiny.sentences(8, seed=3)
    made = [{"id": f"{n}", "source": text, "references": [text], "target": text} for n, text in enumerate(texts)]
    rows = [row | {"image": str(tiny.picture(tmp_path / "images" / f"{n}.png", seed=n))} for n, row in enumerate(made)]
    data = tiny.write_jsonl(tmp_path / "test.jsonl", rows)
    made = recipe({"max_steps": 2, "save_strategy": "no"}, data={"train": str(data)}, retrieve={"k": 2})
    run = train(made, tmp_path / "run")
    monkeypatch.setattr("close.runs.calibrate.LEAST", 4)
    evaluate(run, data, tokenizer="python")
    saved_selection(run, data)
    match_length(run, tmp_path / "images", sample=2)
    calibrate(run, data, metric="rouge_l", num_beams=2)
    files = {
        evaluate: "evaluations/test-image/scores.json",
        load: "evaluations/test-image/scores.json",
        selection_score: "evaluations/test-text-selection/scores.json",
        match_length: "length.json",
        calibrate: "calibration/caption.json",
        Answerer.answer: "calibration/caption.json",
    }
    for called, file in files.items():
        about = json.loads((run / file).read_text())
        for key in set(KEPT[called].values()) - ONLY_GIVEN:
            found = about
            for part in key.split("."):
                assert part in found, f"{file}: {key}"
                found = found[part]
    scores = [json.loads(file.read_text()) for file in run.glob("evaluations/*/scores.json")]
    assert [one["code"] for one in scores] == [code_sums()] * 2
    assert outdated(stamp(run)) == []
