"""Runs side by side: scores that are those of each run alone, examples that nobody chose, and a page to look through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from test_evaluation_compare import EVIL, ODD, WORDS, data, evaluated, runs
from test_evaluation_report import Page
from tiny import put
from typer.testing import CliRunner

from close.cli import score as score_verbs
from close.data.rows import RowFile
from close.errors import MissingError, RecipeError
from close.evaluation.compare import compare
from close.evaluation.page import index_page
from close.evaluation.side_by_side import side_by_side

__all__ = ["data", "runs"]  # fixtures of the comparison's tests

SETTINGS: dict[str, Any] = {"tokenizer": "python", "samples": 100}
app = typer.Typer()
score_verbs.register(app)


def test_scores_are_those_of_each_run_and_seeds_count_together(runs: dict[str, Path]) -> None:
    found = side_by_side({"A": [runs["a3"], runs["a7"]], "B": runs["b"]}, **SETTINGS)
    pair = compare([runs["a3"], runs["a7"]], runs["b"], **SETTINGS)["measures"]
    first, second = found["groups"]
    for key, row in pair.items():
        assert (first["scores"][key], second["scores"][key]) == pytest.approx((row["a"], row["b"]))
        for group in (first, second):
            assert group["ci"][key][0] <= group["scores"][key] <= group["ci"][key][1]
    assert [group["name"] for group in found["groups"]] == ["A", "B"]
    assert (found["n"], found["measure"]) == (len(WORDS), "cider")


def test_examples_say_where_runs_disagree_and_where_one_is_poor(data: Path, tmp_path: Path) -> None:
    texts = [f"a {word} sits here" for word in WORDS]
    a = evaluated(tmp_path / "one" / "run", data, texts)
    b = evaluated(tmp_path / "two" / "run", data, [texts[0].upper() + " ", "", *texts[2:]])
    found = side_by_side({"a": a, "b": b}, **SETTINGS)["examples"]
    assert [one["id"] for one in found] == [row.id for row in RowFile(data)]
    assert [one["id"] for one in found if one["differs"]] == ["r1"]  # capitals and spaces are no difference
    assert found[1]["poor"]
    assert [said["text"] for said in found[1]["texts"]] == [texts[1], ""]
    few = side_by_side({"a": a, "b": b}, examples=5, **SETTINGS)["examples"]
    assert len(few) == 5
    assert few == side_by_side({"a": a, "b": b}, examples=5, **SETTINGS)["examples"]
    assert few != side_by_side({"a": a, "b": b}, examples=5, seed=1, **SETTINGS)["examples"]


def test_answers_are_poor_where_they_are_wrong(tmp_path: Path) -> None:
    rows = [{"id": str(n), "source": "a thing", "context": "what?", "answers": ["yes"] * 10} for n in range(4)]
    truth = put(tmp_path / "rows.jsonl", rows)
    said = [
        put(tmp_path / f"{name}.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
        for name, texts in {"a": ["yes", "no", "yes", "yes"], "b": ["yes", "no", "no", "yes"]}.items()
    ]
    found = side_by_side(dict(zip("ab", said, strict=True)), references=truth, task="vqa", **SETTINGS)
    assert [(one["differs"], one["poor"]) for one in found["examples"]] == [
        (False, False),
        (False, True),
        (True, True),
        (False, False),
    ]
    assert [group["scores"][found["measure"]] for group in found["groups"]] == [75, 50]


def test_the_page_holds_it_all_and_runs_no_script(runs: dict[str, Path]) -> None:
    named = {EVIL: runs["b"], "plain": runs["a3"], "third": runs["b2"]}
    html = index_page(side_by_side(named, **SETTINGS))
    page = Page(html)
    assert [tag for tag, _ in page.elements if tag in ("script", "iframe", "object")] == []
    assert "<script" not in html
    assert [attrs for tag, attrs in page.elements if tag == "img" and not attrs.get("alt")] == []
    assert len([1 for tag, _ in page.elements if tag == "article"]) == len(WORDS)
    choices = [attrs for tag, attrs in page.elements if tag == "input"]
    assert [choice["id"] for choice in choices] == ["all", "differing", "poor"]
    for choice in choices[1:]:
        assert f"#{choice['id']}:checked" in html
    assert page.text.count("plain") == len(WORDS) + 1
    assert ODD.split("\x1b")[0] in page.text
    assert not [
        attrs for _, attrs in page.elements if str(attrs.get("src", attrs.get("href", "data:"))).startswith("http")
    ]


def test_the_command(runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "all.html"
    words = [
        "report",
        *map(str, [runs["a3"], runs["b"]]),
        "--out",
        str(page),
        "--samples",
        "100",
        "--tokenizer",
        "python",
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert [group["name"] for group in json.loads(done.stdout)["groups"]] == ["seed-3", "b"]
    assert "seed-3" in page.read_text(encoding="utf-8")
    assert "2 runs on 16 examples" in CliRunner().invoke(app, words).output


def test_what_can_not_be_laid_side_by_side(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="at least one run"):
        side_by_side({})
    with pytest.raises(MissingError, match="no such file or folder"):
        side_by_side({"a": runs["b"], "gone": tmp_path / "gone"})
