"""Metrics of one's own: better when lower, of a kind of task without a primary one, looking at rows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tiny import put

from close.data.rows import Row
from close.errors import UnknownNameError
from close.evaluation.bootstrap import mean_score
from close.evaluation.examples import pick_differences, pick_examples
from close.evaluation.metrics import METRICS, Metric, Score
from close.evaluation.page import comparison_page
from close.evaluation.scores import score, score_rows
from close.evaluation.side_by_side import side_by_side
from close.evaluation.transfer import recovered_share
from close.study.export import table_of
from close.study.results import summarise
from close.tasks import Task

TRUTH = {f"r{n}": [f"t{n}"] for n in range(12)}
RIGHT = {key: text for key, (text,) in TRUTH.items()}
HALF = RIGHT | {f"r{n}": "bad" for n in range(6)}
ROWS = {key: Row(key, references=tuple(texts)) for key, texts in TRUTH.items()}


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_order", [*METRICS._order])
    monkeypatch.setattr(METRICS, "_metrics", copy.deepcopy(METRICS._metrics))
    wer = Score("wer", "WER", higher_is_better=False, headline=True)

    def wrong(inputs: Any) -> Any:
        return {"wer": mean_score([100.0 * (inputs.predictions[k] != inputs.references[k][0]) for k in inputs.ids])}

    METRICS.register(Metric("wer", "speech", (wer,), default=True))(wrong)
    METRICS.register(Metric("plain", "numbers", ()))(lambda inputs: {"plain": 1.0})


def task(kind: str) -> Task:
    return type("T", (Task,), {"name": kind, "metric": kind, "labels": ()})  # type: ignore[return-value]


def test_examples_are_better_where_the_score_is() -> None:
    found, good = score("speech", HALF, TRUTH), score("speech", RIGHT, TRUTH)
    shown = pick_examples(found, "wer", ROWS, HALF, count=2)
    assert [one["score"] for one in shown["best"]] == [0, 0]
    assert [one["prediction"] for one in shown["worst"]] == ["bad", "bad"]
    sides = [(found.metrics["wer"], HALF)], [(good.metrics["wer"], RIGHT)]
    different = pick_differences("wer", *sides, found.ids, ROWS, count=1)
    assert different["better"] == {"a": 0, "b": 6, "same": 6}
    assert (different["a_better"], different["b_better"][0]["a"]) == ([], ["bad"])
    page = comparison_page({"a": [], "b": [], "n": 12, "data": "", "task": "", "measures": {}, "examples": different})
    assert f'<span class="better">{different["b_better"][0]["b"][0]}</span>' in page


def test_what_is_poor_is_what_scores_high(tmp_path: Any) -> None:
    truth = put(
        tmp_path / "rows.jsonl", [{"id": key, "source": "s", "references": texts} for key, texts in TRUTH.items()]
    )
    said = put(tmp_path / "said.jsonl", [{"id": key, "text": text} for key, text in HALF.items()])
    found = side_by_side({"x": said}, references=truth, task="speech", samples=0)
    assert [one["id"] for one in found["examples"] if one["poor"]] == [f"r{n}" for n in range(6)]


def test_a_sweep_chooses_the_lowest_and_recovers_what_is_lost() -> None:
    arms = {"none": 80.0, "good": 20.0, "image": 10.0}
    runs = {
        name: [{"seed": n, **{side: {"wer": value + n} for side in ("image", "text", "selection")}} for n in range(3)]
        for name, value in arms.items()
    }
    found = summarise({name: {"runs": own} for name, own in runs.items() if name != "image"})["selected"]
    assert (found["arm"], found["best"], found["share_of_best"]) == ("good", "good", None)
    whole = summarise({name: {"runs": own} for name, own in runs.items()})
    assert whole["arms_scored"]["good"]["recovered_share"]["wer"] == pytest.approx(60 / 70)
    assert "Chosen by text: image; wer 11.0 on images, the best" in table_of(whole)
    assert recovered_share(20, 10, 80, higher_is_better=False) is None


@pytest.mark.parametrize("score", ["wer", "accuracy"])
def test_of_arms_that_do_alike_each_is_the_best(score: str) -> None:
    runs = {
        name: {"runs": [{"seed": 0, "image": {score: 0.0}, "selection": {score: chosen}}]}
        for name, chosen in (("one", 50.0), ("two", 40.0 if score == "wer" else 60.0))
    }
    assert f"Chosen by text: two; {score} 0.0 on images, the best" in table_of(summarise(runs))


@pytest.mark.parametrize(("kind", "name"), [("caption", "attributes"), ("entailment", "consistency")])
def test_what_rows_have_nothing_for_is_told(kind: str, name: str) -> None:
    rows = [Row(str(n), references=("a",), label="a") for n in range(3)]
    scores, _ = score_rows(task(kind), rows, ["a"] * 3, metrics=[name])
    assert scores["notes"][name] == "the rows do not have what it needs"
    assert scores.get(METRICS[name].scores[0].key) is None
    said, truth = {str(n): "a" for n in range(3)}, {str(n): ["a"] if kind == "caption" else "a" for n in range(3)}
    assert name in score(kind, said, truth, metrics=[name])["notes"]  # of files, without rows


def test_a_kind_of_task_needs_no_primary_metric() -> None:
    scores, shown = score_rows(task("speech"), list(ROWS.values()), HALF)
    assert (scores["wer"], shown["measure"]) == (50, "wer")
    scores, shown = score_rows(task("numbers"), list(ROWS.values()), HALF, metrics=["plain"])
    assert (scores["plain"], shown) == (1.0, {})
    assert METRICS.primary("speech") == "wer"
    with pytest.raises(UnknownNameError):
        METRICS.primary("numbers")


def test_domains_are_scored_by_what_looks_at_rows_too() -> None:
    def many(inputs: Any) -> Any:
        return {"many": mean_score([float(len(inputs.rows[key].references)) for key in inputs.ids])}

    METRICS.register(Metric("many", "caption", (Score("many", "Many"),)))(many)
    rows = [Row(key, references=tuple(texts), meta={"domain": "in"}) for key, texts in TRUTH.items()]
    scores, _ = score_rows(task("caption"), rows, RIGHT, metrics=["many"])
    assert scores["per_domain"]["in"]["many"] == scores["many"] == 1


def test_a_whole_number_keeps_its_interval() -> None:
    from close.cli.score import _line

    assert _line("cider", 100, {"ci": {"cider": [99.0, 100.0]}}, 8).split() == ["cider", "100.00", "[99.00,", "100.00]"]
    assert _line("n", 100, {"ci": {"cider": [99.0, 100.0]}}, 8).split() == ["n", "100"]


def test_values_beyond_their_scale_are_told_and_their_interval_holds_them() -> None:
    def far(inputs: Any) -> Any:
        return {"far": mean_score([1000.0 + n for n in range(len(inputs.ids))])}

    METRICS.register(Metric("far", "caption", (Score("far", "Far"),)))(far)
    scores, _ = score_rows(task("caption"), list(ROWS.values()), RIGHT, metrics=["far", "rouge_l"])
    low, high = scores["ci"]["far"]
    assert 1000 < low < scores["far"] < high
    assert scores["notes"]["far"].startswith(
        "has values from 1000 to 1011, and its scale is from 0 to 100; declare another"
    )
    assert (scores["rouge_l"], "rouge_l" in scores["notes"]) == (100, False)
