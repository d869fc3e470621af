"""Every file that scoring reads, damaged: it is scored, or refused in one line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import INPUTS, Tried, as_json, damaged, reshaped

from close.data.rows import RowFile
from close.evaluation.compare import compare
from close.evaluation.metrics import VqaReference
from close.evaluation.page import comparison_page, evaluation_page
from close.evaluation.scores import score_files
from close.io.files import read_json

WORDS = ["dog", "cat", "bus", "man"]
CAPTIONS = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "domain": "near" if i % 2 else "out"} for i in range(4)],
    "annotations": [{"id": i, "image_id": i, "caption": f"A {word} sits."} for i, word in enumerate(WORDS)],
}
SAID = [{"image_id": i, "caption": f"a {word} sits"} for i, word in enumerate(WORDS)]
QUESTIONS = {
    "annotations": [
        {"question_id": i, "question_type": "what", "answer_type": "other", "answers": [{"answer": "red"}] * 3}
        for i in range(4)
    ]
}
ANSWERS = [{"question_id": i, "answer": "red"} for i in range(4)]
LABELS = [{"id": str(i), "label": ["neutral", "entailment"][i % 2]} for i in range(4)]
ROWS = [
    {"id": str(i), "image": f"{i // 2}.png", "group": str(i // 2), "references": [f"A {w} sits."], "answers": ["red"],
     "label": "neutral", "source": f"a {w}", "meta": {"domain": "near", "answer_type": "other"}}
    for i, w in enumerate(WORDS)
]  # fmt: skip
TEXTS = [{"id": str(i), "text": f"a {word} sits", "score": -0.5} for i, word in enumerate(WORDS)]

KINDS: dict[str, tuple[str, str, Any, str, Any]] = {
    "coco": ("caption", "p.json", SAID, "r.json", CAPTIONS),
    "vqa": ("vqa", "p.json", ANSWERS, "r.json", QUESTIONS),
    "entailment": ("entailment", "p.jsonl", LABELS, "r.jsonl", LABELS),
    "rows": ("caption", "p.jsonl", TEXTS, "r.jsonl", ROWS),
    "vqa rows": ("vqa", "p.jsonl", TEXTS, "r.jsonl", ROWS),
}


def written(path: Path, value: Any) -> bytes:
    lines = path.suffix == ".jsonl" and isinstance(value, list)
    content = b"".join(as_json(row) + b"\n" for row in value) if lines else as_json(value)
    path.write_bytes(content)
    return content


@pytest.mark.parametrize("missing", [None, "zero", "skip"])
@pytest.mark.parametrize("side", ["predictions", "references"])
@pytest.mark.parametrize("kind", KINDS)
def test_fuzz_scored_files(tmp_path: Path, tried: Tried, kind: str, side: str, missing: Any) -> None:
    task, said, predictions, truth, references = KINDS[kind]
    files = {"predictions": tmp_path / said, "references": tmp_path / truth}
    values = {"predictions": predictions, "references": references}
    settings = {"metrics": ["bleu", "rouge_l", "cider"]} if task == "caption" else {}

    def scored() -> None:
        found = score_files(*files.values(), task, missing=missing, tokenizer="python", samples=0, **settings)
        json.dumps(found)
        assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))

    whole = {name: written(path, values[name]) for name, path in files.items()}
    scored()
    count = max(1, INPUTS // 6)  # three choices, bytes and values
    for content in damaged(whole[side], count):
        files[side].write_bytes(content)
        tried(scored)
    for value in reshaped(values[side], count):
        written(files[side], value)
        tried(scored)


@pytest.fixture
def evaluations(tmp_path: Path) -> dict[str, Path]:
    """Two evaluations as `close evaluate` leaves them."""
    data = tmp_path / "val.jsonl"
    written(data, [row | {"image": f"{row['id']}.png"} for row in ROWS])
    example = {
        "id": "0",
        "image": "0.png",
        "source": None,
        "context": "",
        "prediction": "a",
        "references": ["b"],
        "score": 1.5,
    }
    shown = {"measure": "cider", "best": [example], "worst": [], "random": [example]}
    scores = {"cider": 12.5, "bleu_4": None, "n": 4, "tokenizer": "python", "missing": 1, "ci": {"cider": [1.0, 20.0]},
              "notes": {"meteor": "needs java"}, "per_domain": {"near": {"n": 4, "cider": 1.0}},
              "confusion": {"a": {"a": 1, "b": 2}}, "per_label": {"a": 50.0},
              "diversity": {"distinct_1": 1.0, "distinct_2": 1.0, "vocabulary": 3, "unique": 1.0, "novel": None, "empty": 0,
                            "length": {"mean": 1.0, "sd": 0.5, "min": 1, "max": 3}}}  # fmt: skip
    about = {"run": "runs/a", "task": "caption", "modality": "image", "data": str(data), "limit": 4, "rows": 4,
             "data_sha256": RowFile(data).sha256, "generation": {"num_beams": 5}, "versions": {"torch": "2.7"}}  # fmt: skip
    for name in "ab":
        place = tmp_path / name
        place.mkdir()
        written(place / "predictions.jsonl", TEXTS)
        written(place / "scores.json", about | {"scores": scores, "examples": shown})
    return {"a": tmp_path / "a", "b": tmp_path / "b", "data": data}


@pytest.mark.parametrize("file", ["a/scores.json", "a/predictions.jsonl", "val.jsonl"])
def test_fuzz_comparisons(evaluations: dict[str, Path], tmp_path: Path, tried: Tried, file: str) -> None:
    def compared() -> None:
        found = compare(evaluations["a"], evaluations["b"], tokenizer="python", samples=100)
        comparison_page(found)

    compared()
    fuzzed(tmp_path / file, compared, tried)


def test_fuzz_pages(evaluations: dict[str, Path], tried: Tried) -> None:
    file = evaluations["a"] / "scores.json"

    def shown() -> None:
        evaluation_page(read_json(file))

    shown()
    fuzzed(file, shown, tried)


def fuzzed(file: Path, call: Callable[[], None], tried: Tried) -> None:
    whole = file.read_bytes()
    value = [json.loads(line) for line in whole.splitlines()] if file.suffix == ".jsonl" else json.loads(whole)
    for content in damaged(whole, INPUTS // 2):
        file.write_bytes(content)
        tried(call)
    for other in reshaped(value, INPUTS // 2):
        written(file, other)
        tried(call)


def test_captions_of_odd_characters_are_scored() -> None:
    """From Python too: halves of characters, what breaks lines, what has no end."""
    from close.evaluation.metrics import caption_scores, vqa_scores

    odd = ["\ud83d", "a\rb\x85c\x1cd", "x" * 50_000, "\0", "\u202e a", "|||", "a ||| b", "😀" * 2000, "।" * 2000]
    texts = {str(n): text for n, text in enumerate(odd)}
    settings: dict[str, Any] = {"metrics": ["bleu", "rouge_l", "cider"], "samples": 0}
    for tokenizer in ("python", "unicode"):
        scores = caption_scores(texts, {k: [v, "a dog"] for k, v in texts.items()}, **settings, tokenizer=tokenizer)
        assert math.isfinite(scores["cider"])
    assert vqa_scores(texts, {k: VqaReference((v,)) for k, v in texts.items()}, samples=0)["accuracy"] == 100
