"""Scores from files, and the verbs score, compare, convert, as a user calls them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tiny import put
from typer.testing import CliRunner

from close.cli import convert as convert_verb
from close.cli import score as score_verbs
from close.data.rows import Row, RowFile
from close.errors import CloseError, DataError, MissingError, RecipeError, UnknownNameError
from close.evaluation.compare import compare
from close.evaluation.examples import pick_examples
from close.evaluation.metrics.captions import caption_scores
from close.evaluation.metrics.labels import label_scores
from close.evaluation.metrics.vqa import vqa_accuracy
from close.evaluation.read import read_predictions, read_references
from close.evaluation.scores import score_files, score_rows
from close.tasks import get_task

NO_JAVA = ("bleu", "rouge_l", "cider")

app = typer.Typer()
for verbs in (score_verbs, convert_verb):
    verbs.register(app)

CAPTIONS = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "domain": "in-domain" if i % 2 else "out-domain"} for i in range(8)],
    "annotations": [
        {"id": 10 * i + n, "image_id": i, "caption": f"A {word} {verb} here."}
        for n, verb in enumerate(("sits", "stands"))
        for i, word in enumerate(["dog", "cat", "bus", "man", "hat", "cow", "car", "cup"])
    ],
}
RESULTS = [{"image_id": i, "caption": f"a {w} sits here"} for i, w in enumerate(["dog", "cat", "bus", "cow"] * 2)]
QUESTIONS = {
    "annotations": [
        {
            "question_id": n,
            "image_id": n,
            "question_type": "what",
            "answer_type": ["other", "number"][n % 2],
            "answers": [{"answer": a, "answer_id": i} for i, a in enumerate(["red"] * 4 + ["blue"] * 6)],
        }
        for n in range(6)
    ]
}
ANSWERS = [{"question_id": n, "answer": ["red", "blue", "green"][n % 3]} for n in range(6)]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_captions_in_the_coco_formats(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    files = put(tmp_path / "results.json", RESULTS), put(tmp_path / "captions.json", CAPTIONS)
    done = call("score", *files, "--task", "caption", "--tokenizer", "python", "--out", out,
                *("--metric", "bleu", "--metric", "rouge_l", "--metric", "cider"))  # fmt: skip
    assert done.exit_code == 0, done.output
    scores = json.loads(out.read_text())
    references: dict[str, list[str]] = {}
    for annotation in CAPTIONS["annotations"]:
        references.setdefault(str(annotation["image_id"]), []).append(annotation["caption"])
    said = {str(r["image_id"]): r["caption"] for r in RESULTS}
    direct = caption_scores(said, references, tokenizer="python", metrics=NO_JAVA)
    for key in (*(f"bleu_{n}" for n in range(1, 5)), "rouge_l", "cider", "meteor", "spice", "n", "tokenizer", "ci"):
        assert scores[key] == direct[key], key
    assert f"{direct['cider']:.2f}" in done.stdout
    assert scores["diversity"]["vocabulary"] == 7
    assert set(scores["per_domain"]) == {"in-domain", "out-domain"}
    ids = ["1", "3", "5", "7"]
    part = caption_scores({i: said[i] for i in ids}, {i: references[i] for i in ids}, tokenizer="python",
                          metrics=NO_JAVA)  # fmt: skip
    assert scores["per_domain"]["in-domain"]["cider"] == part["cider"]


def test_captions_that_say_nothing_are_counted(tmp_path: Path) -> None:
    said = [one | {"caption": "" if n < 2 else one["caption"]} for n, one in enumerate(RESULTS)]
    files = put(tmp_path / "results.json", said), put(tmp_path / "captions.json", CAPTIONS)
    done = call("score", *files, "--task", "caption", "--tokenizer", "python", "--metric", "bleu")
    assert f"note: texts: 2 of {len(RESULTS)} are empty" in done.output


def test_vqa_in_the_official_formats(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    files = put(tmp_path / "r.json", ANSWERS), put(tmp_path / "a.json", QUESTIONS)
    done = call("score", *files, "--task", "vqa", "--out", out)
    assert done.exit_code == 0, done.output
    scores = json.loads(out.read_text())
    assert scores["accuracy"] == pytest.approx(200 / 3)
    assert scores["per_answer_type"] == pytest.approx({"other": 200 / 3, "number": 200 / 3})
    assert scores["per_question_type"] == pytest.approx({"what": 200 / 3})


def test_real_official_cases_through_files(tmp_path: Path) -> None:
    folder = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = folder / "vqa_official_cases.jsonl"
    if not path.exists():
        pytest.skip("the official cases are not here")
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    annotations = [
        {
            "question_id": n,
            "question_type": "what",
            "answer_type": "other",
            "answers": [{"answer": a, "answer_id": i, "answer_confidence": "yes"} for i, a in enumerate(c["answers"])],
        }
        for n, c in enumerate(cases)
    ]
    results = [{"question_id": n, "answer": c["prediction"]} for n, c in enumerate(cases)]
    scores = score_files(
        put(tmp_path / "r.json", results), put(tmp_path / "a.json", {"annotations": annotations}), "vqa", samples=0
    )
    assert scores["accuracy"] == pytest.approx(np.mean([c["accuracy"] for c in cases]), abs=1e-9)


def test_entailment(tmp_path: Path) -> None:
    truth = [{"id": n, "label": ["entailment", "neutral"][n % 2]} for n in range(4)]
    said = [{"id": str(n), "label": "neutral" if n else "contradiction"} for n in range(4)]
    out = tmp_path / "out.json"
    done = call("score", put(tmp_path / "p.jsonl", said), put(tmp_path / "r.jsonl", truth), "--task", "entailment",
                "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    scores = json.loads(out.read_text())
    assert scores["accuracy"] == 50
    assert scores["confusion"] == {
        "entailment": {"contradiction": 1, "entailment": 0, "neutral": 1},
        "neutral": {"contradiction": 0, "entailment": 0, "neutral": 2},
    }
    assert scores["per_label"] == {"entailment": 0, "neutral": 100}


@pytest.mark.parametrize("truth", ["label", "target"])
def test_entailment_in_the_projects_own_rows(tmp_path: Path, truth: str) -> None:
    """As `close evaluate` takes them: with a target for a label, and named by their lines."""
    rows = [
        {"source": "a dog", "context": "an animal", truth: "entailment", "image": f"{n // 2}.jpg"} for n in range(4)
    ]
    data = put(tmp_path / "rows.jsonl", rows)
    ids = [row.id for row in RowFile(data)]
    said = put(tmp_path / "said.jsonl", [{"id": key, "text": "entailment"} for key in ids])
    assert score_files(said, data, "entailment", samples=0)["accuracy"] == 100
    assert compare(said, said, references=data, task="entailment", samples=100)["n"] == 4
    labels = put(
        tmp_path / "labels.jsonl", [{"id": key, "label": "entailment"} for key in ids]
    )  # official: nothing else
    assert compare(said, said, references=labels, task="entailment", samples=100)["n"] == 4


@pytest.mark.parametrize(
    ("wrong", "what"),
    [({"label": None}, "row '2' has nothing to compare"), ({"task": 5}, "rows.jsonl:2: 'task'")],
)
def test_a_wrong_row_of_entailment_is_the_one_that_is_told(tmp_path: Path, wrong: Any, what: str) -> None:
    row = {"source": "a dog", "context": "an animal", "label": "entailment"}
    data = put(tmp_path / "rows.jsonl", [row, {key: v for key, v in (row | wrong).items() if v is not None}])
    with pytest.raises(DataError, match=what):
        read_references(data, "entailment")
    official = put(tmp_path / "labels.jsonl", [{"id": 1, "label": "a", "image": "a.jpg"}, {"id": 2}])
    with pytest.raises(DataError, match=r"labels.jsonl:2: no 'label'"):
        read_references(official, "entailment")


def test_entailment_needs_the_same_ids() -> None:
    with pytest.raises(DataError, match="1 examples have no prediction and 1 predictions no true label"):
        label_scores({"a": "x"}, {"b": "x"})
    with pytest.raises(DataError, match="no labels"):
        label_scores({}, {})


def test_the_projects_own_rows_and_predictions(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "image": "a.jpg", "references": ["A dog sits.", "One dog."]},
        {"id": "b", "source": "A cat."},
    ]
    said = [{"id": "a", "text": "a dog", "score": -1.0}, {"id": "b", "text": "a cat", "score": -2.0}]
    files = put(tmp_path / "p.jsonl", said), put(tmp_path / "r.jsonl", rows)
    scores = score_files(*files, "caption", tokenizer="python", metrics=NO_JAVA)
    assert scores.ids == ["a", "b"]
    assert scores["bleu_1"] == pytest.approx(100, abs=1e-5)
    vqa = [{"id": "q", "image": "a.jpg", "context": "?", "answers": ["1", "2"], "meta": {"answer_type": "number"}}]
    truth = read_references(put(tmp_path / "v.jsonl", vqa), "vqa")
    assert truth["q"].answers == ("1", "2")
    assert truth["q"].answer_type == "number"


@pytest.mark.parametrize(
    ("task", "said", "truth", "what"),
    [
        ("caption", [{"image_id": 0}], CAPTIONS, "record[0]: no 'caption'"),
        ("caption", [{"image_id": 0, "caption": 5}], CAPTIONS, "'caption' is 5"),
        (
            "caption",
            [{"image_id": 0, "caption": c} for c in "ab"],
            CAPTIONS,
            "record[1]: a second prediction for image_id '0'",
        ),
        ("caption", [{"image_id": 99, "caption": "a"}], CAPTIONS, "'99' has no reference"),
        ("caption", [], CAPTIONS, "no prediction"),
        ("caption", {"1": "a"}, CAPTIONS, 'expected a list [{"image_id": 1, "caption": "a dog"}, …], or .jsonl'),
        ("vqa", {"1": "a"}, QUESTIONS, 'expected a list [{"question_id": 1, "answer": "yes"}'),
        ("caption", [{"image_id": "val_00007.jpg", "caption": "a"}], CAPTIONS, "file's name: write the id, '7'"),
        ("vqa", [{"question_id": "q0003", "answer": "a"}], QUESTIONS, "write the id, '3'"),
        ("caption", [{"image_id": "x", "caption": "a"}], CAPTIONS, "ids are like '0'"),
        ("caption", ["a"], CAPTIONS, "found str, not an object; expected a list [{"),
        ("caption", RESULTS, [], "expected a JSON object"),
        ("caption", RESULTS, {"images": [], "annotations": []}, "has no reference"),
        ("vqa", ANSWERS[:-1], QUESTIONS, "1 questions have no prediction"),
        ("vqa", ANSWERS, {"annotations": QUESTIONS["annotations"] * 2}, "second annotation of question '0'"),
        ("vqa", ANSWERS, {"annotations": [{"question_id": 1}]}, "no 'answers'"),
        ("captions", RESULTS, CAPTIONS, "did you mean 'caption'"),
    ],
)
def test_wrong_files_are_told(tmp_path: Path, task: str, said: Any, truth: Any, what: str) -> None:
    with pytest.raises(CloseError) as caught:
        score_files(put(tmp_path / "p.json", said), put(tmp_path / "r.json", truth), task, tokenizer="python")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"gone\.json"):
        score_files(tmp_path / "gone.json", put(tmp_path / "r.json", CAPTIONS), "caption")
    with pytest.raises(MissingError, match=r"gone\.json"):
        score_files(put(tmp_path / "p.json", RESULTS), tmp_path / "gone.json", "caption")
    with pytest.raises(UnknownNameError):
        read_predictions(put(tmp_path / "p.json", RESULTS), "nothing")


def test_compare_files_of_predictions(tmp_path: Path) -> None:
    a, b = put(tmp_path / "a.json", ANSWERS), put(tmp_path / "b.json", [r | {"answer": "blue"} for r in ANSWERS])
    with pytest.raises(RecipeError, match="references and the task"):
        compare(a, b)
    found = compare(a, b, references=put(tmp_path / "q.json", QUESTIONS), task="vqa", samples=200)
    truth = ["red"] * 4 + ["blue"] * 6
    expected = 100 - np.mean([vqa_accuracy(r["answer"], truth) for r in ANSWERS])
    assert found["measures"]["accuracy"]["difference"] == pytest.approx(expected)


def test_convert_says_what_it_skipped(tmp_path: Path) -> None:
    pair = {"pairID": "1", "sentence1": "a", "sentence2": "b"}
    source = put(tmp_path / "snli.jsonl", [pair | {"gold_label": "neutral"}, pair | {"gold_label": "-", "pairID": "2"}])
    done = call("convert", "snli", source, tmp_path / "out.jsonl")
    assert done.exit_code == 0, done.output
    assert "1 rows of 2 records; skipped 1 × label '-'" in done.stdout
    again = call("convert", "snli", source, tmp_path / "out.jsonl", "--overwrite", "--json")
    assert json.loads(again.stdout) == {
        "read": 2,
        "written": 1,
        "skipped": {"label '-'": 1},
        "messages": [],
        "notes": [],
    }
    assert isinstance(call("convert", "snli", source, tmp_path / "out.jsonl").exception, CloseError)
    assert isinstance(call("convert", "cocoa", source, tmp_path / "o").exception, CloseError)


def test_examples_are_the_best_the_worst_and_some(tmp_path: Path) -> None:
    rows = {r.id: r for r in RowFile(put(tmp_path / "r.jsonl", [{"id": f"{n}", "source": "x"} for n in range(40)]))}
    labels = dict.fromkeys(rows, "yes")
    said = {key: "yes" if int(key) < 30 else "no" for key in rows}
    scores = label_scores(said, labels)
    chosen = pick_examples(scores, "accuracy", rows, said, count=5)
    assert {e["score"] for e in chosen["best"]} == {100}
    assert {e["prediction"] for e in chosen["worst"]} == {"no"}
    assert len(chosen["random"]) == 5
    assert chosen == pick_examples(scores, "accuracy", rows, said, count=5)
    assert chosen["best"] != pick_examples(scores, "accuracy", rows, said, count=5, seed=1)["best"]
    few = label_scores({"0": "yes"}, {"0": "yes"})
    assert [len(pick_examples(few, "accuracy", rows, said)[k]) for k in ("best", "worst", "random")] == [1, 0, 1]


def test_scoring_imports_no_torch() -> None:
    import subprocess

    rooms = ("close.cli.score", "close.cli.convert", "close.evaluation.scores", "close.data.readers")
    code = f"import sys, {', '.join(rooms)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_domains_that_only_some_rows_have() -> None:
    rows = [
        Row(str(n), source=("a dog",), references=("a dog", "one dog"), meta={"domain": "in" if n % 2 else None})
        for n in range(4)
    ]
    scores, _ = score_rows(get_task("caption"), rows, ["a dog"] * 4)
    assert set(scores["per_domain"]) == {"in"}
    assert scores["per_domain"]["in"]["tokenizer"] == scores["tokenizer"]


@pytest.mark.parametrize("parts", [False, True])
def test_captions_of_one_picture_are_one_draw(parts: bool) -> None:
    """Articles about one picture are examples each, and alike."""
    rows = [
        Row(f"{n}-{m}", ("a dog",), f"article {m}", references=("a dog sits",), group=f"{n}", meta={"domain": "all"})
        for n in range(20)
        for m in range(9)
    ]
    right = np.random.default_rng(0).random(20) < 0.5
    scores, _ = score_rows(get_task("caption"), rows, [["cat", "a dog sits"][int(r)] for r in right.repeat(9)])
    found = scores["per_domain"]["all"] if parts else scores
    low, high = found["ci"]["rouge_l"]
    assert high - low == pytest.approx(2 * 1.96 * 100 * right.std() / np.sqrt(20), rel=0.2)
