"""Which task rows are scored as, and that a loaded run is left at the one that it was set to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import close
from close.data.rows import RowFile
from close.errors import CloseError, MissingError, RecipeError, UnknownNameError
from close.runs.evaluate import evaluate
from close.runs.predict import named_task
from close.study.selection import selection_score


def test_a_loaded_run_keeps_its_task(run: Path, captions: Path, tmp_path: Path) -> None:
    captioner = close.load(run).use_task("news")
    evaluate(captioner, captions, task="caption", modality="text", limit=2, metrics=["bleu"], folder=tmp_path / "e")
    assert captioner.task.name == "news"
    with pytest.raises(CloseError):
        evaluate(captioner, captions, task="vqa", modality="text", metrics=["bleu"], folder=tmp_path / "e")
    assert captioner.task.name == "news"


def test_numbers_of_any_kind_are_recorded_as_numbers(run: Path, captions: Path, tmp_path: Path) -> None:
    """And what asks for nothing is not."""
    numbers: dict[str, Any] = {"num_beams": np.int64(1), "length_penalty": None, "guidance_scale": 1.0}
    more: dict[str, Any] = {"modality": "text", "limit": 2, "metrics": ["bleu"], "folder": tmp_path / "e"}
    drawn = {"do_sample": np.bool_(True), "temperature": 2, "seed": np.int64(3)}
    found = evaluate(run, captions, task="caption", **more, **numbers, **drawn)["generation"]
    assert json.loads((tmp_path / "e" / "scores.json").read_text())["generation"] == found
    assert (found["num_beams"], repr(found["temperature"]), found["seed"]) == (1, "2.0", 3)
    assert not found.keys() & {"length_penalty", "guidance_scale"}
    rows = [{"source": "a red dog", "references": ["a dog"]} for _ in range(2)]
    kept = selection_score(run, tiny.write_jsonl(tmp_path / "select.jsonl", rows), **numbers)["generation"]
    assert json.loads(json.dumps(kept))["num_beams"] == 1
    assert "guidance_scale" not in kept


@pytest.mark.parametrize(("tokenizer", "error"), [("pyton", UnknownNameError), ("java", MissingError)])
def test_a_tokenizer_that_is_none_is_told_before_all_work(
    run: Path, captions: Path, tmp_path: Path, monkeypatch: Any, tokenizer: str, error: type[Exception]
) -> None:
    monkeypatch.setattr("close.runs.evaluate.tell", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(error):
        evaluate(run, captions, task="caption", modality="text", tokenizer=tokenizer, folder=tmp_path / "e")


def test_rows_say_which_of_several_tasks_they_are(tmp_path: Path) -> None:
    both = [{"source": "a dog", "task": task} for task in ("caption", "news")]
    rows = [
        RowFile(tiny.write_jsonl(tmp_path / f"{n}.jsonl", part)) for n, part in enumerate((both[:1], both[1:], both))
    ]
    assert [named_task(one, ["caption", "news"], "it") for one in rows[:2]] == ["caption", "news"]
    assert named_task(rows[2], ["caption"], "it") == "caption"
    with pytest.raises(RecipeError, match=r"do not all name one of them: give every row the same 'task'$"):
        named_task(rows[2], ["caption", "news"], "it")


def test_selection_is_scored_as_the_task_of_its_rows(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    captioner = close.load(run)
    captioner.tasks = ("caption", "news")
    rows = [{"source": "a red dog", "context": "a dog", "references": ["a dog"], "task": "news"} for _ in range(2)]
    data = tiny.write_jsonl(tmp_path / "select.jsonl", [one | {"group": f"g{n}"} for n, one in enumerate(rows)])
    asked: list[str] = []
    generate = type(captioner).generate
    monkeypatch.setattr(
        type(captioner), "generate", lambda self, *a, **k: asked.append(self.task.name) or generate(self, *a, **k)
    )
    assert selection_score(captioner, data)["task"] == "news"
    assert (asked, captioner.task.name) == (["news"], "caption")
