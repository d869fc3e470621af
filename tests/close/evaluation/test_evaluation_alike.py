"""Runs are compared on the examples that they were evaluated on, whatever they happen to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import put

from close.data.rows import RowFile
from close.evaluation.compare import compare
from close.evaluation.page import comparison_page
from close.evaluation.scores import score_files
from close.evaluation.side_by_side import side_by_side
from close.io.files import write_json

SETTINGS: dict[str, Any] = {"tokenizer": "python", "samples": 100}
WORDS = ["dog", "cat", "bus", "man", "hat", "cow", "car", "cup", "tree", "boat", "bird", "ball"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two rows an image."""
    rows = [
        {"id": f"{w}{n}", "image": f"{w}.jpg", "source": f"a {w} {verb}", "references": [f"a {w} {verb} here"]}
        for w in WORDS
        for n, verb in enumerate(("runs", "sits"))
    ]
    return put(tmp_path / "val.jsonl", rows)


def evaluated(place: Path, data: Path, said: dict[str, str], **facts: Any) -> Path:
    """An evaluation as `close evaluate` leaves it."""
    put(place / "predictions.jsonl", [{"id": key, "text": text} for key, text in said.items()])
    about = {"task": "caption", "data": str(data), "data_sha256": RowFile(data).sha256, "scores": {}}
    write_json(place / "scores.json", about | facts)
    return place


def test_what_one_side_says_does_not_choose_the_examples(tmp_path: Path, data: Path) -> None:
    same = put(tmp_path / "same.jsonl", [{"id": row.id, "text": "a dog"} for row in RowFile(data)])
    own = put(tmp_path / "own.jsonl", [{"id": row.id, "text": row.source[0]} for row in RowFile(data)])
    found = compare(same, own, references=data, task="caption", **SETTINGS)
    assert found["n"] == 24
    alone = score_files(own, data, "caption", samples=0, tokenizer="python")["cider"]
    assert found["measures"]["cider"]["b"] == pytest.approx(alone)
    assert side_by_side({"a": own, "b": same}, references=data, task="caption", **SETTINGS)["n"] == 24
    assert compare(same, same, references=data, task="caption", **SETTINGS)["n"] == 12


def test_evaluations_row_by_row_are_compared_so(tmp_path: Path, data: Path) -> None:
    """Each row with its own source and references."""
    said = {row.id: "a dog" for row in RowFile(data)}
    place = evaluated(tmp_path / "e", data, said, modality="text", rows=24, missing=None)
    found = side_by_side({"e": place}, **SETTINGS)
    assert found["n"] == 24
    second = next(one for one in found["examples"] if one["id"] == "dog1")
    assert second["references"] == ["a dog sits here"]
    assert second["image"].endswith("dog.jpg")


@pytest.mark.parametrize(("missing", "n"), [("zero", 12), ("skip", 11)])
def test_pictures_that_could_not_be_read_count_as_in_the_evaluation(
    tmp_path: Path, data: Path, missing: str, n: int
) -> None:
    said = {f"{w}0": f"a {w} runs here" for w in WORDS[1:]}
    place = evaluated(tmp_path / "e", data, said, modality="image", rows=12, missing=missing)
    found = compare(place, place, **SETTINGS)
    assert (found["n"], found.get("left_out", 0)) == (n, 12 - n)
    assert ("without 1 whose pictures could not be read" in comparison_page(found)) == (missing == "skip")
    texts = side_by_side({"e": place}, **SETTINGS)["examples"]
    assert [one["texts"][0]["text"] for one in texts if one["id"] == "dog0"] == [""] * (n - 11)
    few = {f"{w}0": f"a {w} runs here" for w in WORDS[1:5]}
    part = evaluated(tmp_path / "p", data, few, modality="image", rows=5, missing=missing, limit=5)
    found = compare(part, part, **SETTINGS)
    assert (found["n"], found.get("left_out", 0)) == (n - 7, 12 - n)


@pytest.mark.parametrize("facts", [{}, {"missing": None}, {"missing": "error"}])
def test_rows_of_one_image_that_say_the_same_were_all_read(tmp_path: Path, data: Path, facts: dict[str, Any]) -> None:
    """A line a row, as evaluations were once; they are one example an image now."""
    said = {row.id: f"a {row.id[:-1]}" for row in RowFile(data)}
    place = evaluated(tmp_path / "e", data, said, modality="image", rows=24, **facts)
    found = compare(place, place, **SETTINGS)
    assert (found["n"], found.get("left_out")) == (12, None)


def test_unreadable_questions_are_shown_as_nothing_said(tmp_path: Path) -> None:
    rows = [{"id": str(n), "image": f"{n}.jpg", "context": "what?", "answers": ["red"] * 10} for n in range(12)]
    data = put(tmp_path / "q.jsonl", rows)
    facts = {"task": "vqa", "modality": "image", "rows": 12, "missing": "zero"}
    place = evaluated(tmp_path / "e", data, {str(n): "red" for n in range(1, 12)}, **facts)
    found = side_by_side({"e": place}, **SETTINGS)
    assert found["groups"][0]["scores"]["accuracy"] == pytest.approx(100 * 11 / 12)
    assert found["examples"][0]["texts"][0]["text"] == ""


def test_any_row_of_an_image_may_say_its_domain(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"{w}{n}",
            "image": f"{w}.jpg",
            "references": [f"a {w} here {n}"],
            **({"meta": {"domain": "in"}} if n else {}),
        }
        for w in WORDS
        for n in range(2)
    ]
    said = put(tmp_path / "said.jsonl", [{"id": f"{w}0", "text": f"a {w} here"} for w in WORDS])
    found = score_files(said, put(tmp_path / "rows.jsonl", rows), "caption", samples=0, tokenizer="python")
    assert found["per_domain"]["in"]["n"] == 12
