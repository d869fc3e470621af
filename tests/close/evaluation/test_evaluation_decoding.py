"""Closed answer sets and several tasks through the command line: mini-world data, tiny models, every choice of decoding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import close
from close.data.rows import RowFile
from close.errors import DataError, RecipeError
from close.mini import export
from close.tasks import answer_vocabulary, get_task
from close.training.train import train

LABELS = ["entailment", "neutral", "contradiction"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks")
    export(root / "train", "train", 8)
    export(root / "test", "test", 3)
    return root


@pytest.fixture(scope="module")
def run(world: Path, tiny_encoder: Path) -> Path:
    """One model of three tasks, trained as a user would: a recipe file, then `close train`."""
    recipe = {
        "task": [
            {"task": "caption", "train": "train/captions.jsonl", "weight": 0.5},
            {"task": "vqa", "train": "train/vqa.jsonl", "weight": 2},
            {"task": "entailment", "train": "train/entailment.jsonl"},
        ],
        "encoder": str(tiny_encoder),
        "training": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "save_strategy": "no"},
    }
    (world / "mixed.yaml").write_text(yaml.safe_dump(recipe))
    return train(close.load_recipe(world / "mixed.yaml"), world / "run")


def result(ran: Any, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    assert ran.code == 0, ran
    found = json.loads(path.read_text())
    lines = (Path(found["folder"]) / "predictions.jsonl").read_text().splitlines()
    return found, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("name", "task", "measure"),
    [("eval", "caption", "cider"), ("vqa", "vqa", "accuracy"), ("entailment", "entailment", "accuracy")],
)
def test_each_task_of_a_mixed_run(
    cli: Callable[..., Any], run: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, task: str, measure: str,
) -> None:  # fmt: skip
    """The rows' own task is done, behind its own instruction and no other."""
    from close.runs.pipeline import CloseCaptioner

    read: list[str] = []
    prompts = CloseCaptioner.prompts

    def watched(self: CloseCaptioner, contexts: Any) -> Any:
        found = prompts(self, contexts)
        read.extend(self.tokenizer.batch_decode(found["context_ids"], skip_special_tokens=True))
        return found

    monkeypatch.setattr(CloseCaptioner, "prompts", watched)
    ran = cli("evaluate", run, world / "test" / f"{name}.jsonl", "--out", tmp_path / "s.json", "--num-beams", 1)
    found, lines = result(ran, tmp_path / "s.json")
    assert found["task"] == task
    assert found["scores"][measure] >= 0
    assert len(read) == len(lines) == found["rows"]
    instruction = get_task(task).instruction
    contexts = [get_task(task).context(row) for row in RowFile(world / "test" / f"{name}.jsonl")]
    assert sorted(text.replace(" :", ":") for text in read) == sorted(
        f"{instruction}: {c}" if c else instruction for c in contexts
    )
    if task == "entailment":
        assert {line["text"] for line in lines} <= set(LABELS)
    assert found["trained"]["seed"] == 0
    assert [part["task"] for part in found["trained"]["train"]] == ["caption", "vqa", "entailment"]
    assert found["trained"]["train"][0]["sha256"] == RowFile(world / "train" / "captions.jsonl").sha256


def test_scored_labels_have_probabilities(cli: Callable[..., Any], run: Path, world: Path, tmp_path: Path) -> None:
    data = world / "test" / "entailment.jsonl"
    found, lines = result(
        cli("evaluate", run, data, "--decode", "score", "--out", tmp_path / "s.json"), tmp_path / "s.json"
    )
    assert found["decoding"] == {"how": "score", "normalise": False, "answers": None, "labels": 3}
    assert found["folder"].endswith("entailment-image-score")
    model = close.load(run).use_task("entailment")
    row = RowFile(data)[0]
    shares = model.answer(model.encoder.encode_image(row.image), [row.context], decode="score")[0].probabilities
    assert set(lines[0]["probabilities"]) == set(LABELS)
    assert [lines[0]["probabilities"][label] for label in LABELS] == pytest.approx(
        [shares[label] for label in LABELS], abs=1e-4
    )
    for line in lines:
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert line["text"] == max(line["probabilities"], key=line["probabilities"].get)
    command = ("evaluate", run, data, "--decode", "score", "--length-normalise", "--out", tmp_path / "n.json")
    found, lines = result(cli(*command), tmp_path / "n.json")
    assert found["decoding"]["normalise"] is True
    shares = model.answer(model.encoder.encode_image(row.image), [row.context], decode="score", normalise=True)[
        0
    ].probabilities
    assert [lines[0]["probabilities"][label] for label in LABELS] == pytest.approx(
        [shares[label] for label in LABELS], abs=1e-4
    )


def test_a_vocabulary_of_answers(cli: Callable[..., Any], run: Path, world: Path, tmp_path: Path) -> None:
    data, task = world / "test" / "vqa.jsonl", get_task("vqa")
    counts = Counter(target for row in RowFile(world / "train" / "vqa.jsonl") for target in task.targets(row))
    learnt = sorted(counts, key=lambda answer: (-counts[answer], answer))
    for how in ("tree", "score"):
        command = ("evaluate", run, data, "--decode", how, "--top-answers", 7, "--out", tmp_path / "s.json")
        found, lines = result(cli(*command), tmp_path / "s.json")
        assert found["decoding"]["labels"] == 7
        assert {line["text"] for line in lines} <= set(learnt[:7])
    (tmp_path / "answers.txt").write_text("Yes\nno\nred\nyes\n")
    command = ("evaluate", run, data, "--answers", tmp_path / "answers.txt", "--out", tmp_path / "s.json")
    found, lines = result(cli(*command), tmp_path / "s.json")
    assert (found["decoding"]["how"], found["decoding"]["labels"]) == ("tree", 3)
    assert {line["text"] for line in lines} <= {"yes", "no", "red"}
    command = ("evaluate", run, data, "--answers", world / "train" / "vqa.jsonl", "--decode", "score")
    found, lines = result(cli(*command, "--out", tmp_path / "s.json"), tmp_path / "s.json")
    assert found["decoding"]["labels"] == len(learnt)
    assert all(len(line["probabilities"]) == min(10, len(learnt)) for line in lines)


def test_free_decoding_remains(cli: Callable[..., Any], run: Path, world: Path, tmp_path: Path) -> None:
    command = ("evaluate", run, world / "test" / "entailment.jsonl", "--decode", "free", "--num-beams", 1)
    found, lines = result(cli(*command, "--out", tmp_path / "s.json"), tmp_path / "s.json")
    assert found["decoding"]["how"] == "free"
    assert not {line["text"] for line in lines} <= set(LABELS)  # hardly trained: it babbles


def test_clip_scores_beside_the_others(cli: Callable[..., Any], run: Path, world: Path, tmp_path: Path) -> None:
    from close.evaluation.metrics.clip_score import clip_scores

    data = world / "test" / "eval.jsonl"
    command = ("evaluate", run, data, "--metric", "cider", "--metric", "clip_score", "--num-beams", 1)
    found, lines = result(cli(*command, "--out", tmp_path / "s.json"), tmp_path / "s.json")
    encoder = close.load(run).encoder
    rows = list(RowFile(data))
    expected = clip_scores(
        encoder.encode_image([row.image for row in rows]).numpy(),
        encoder.encode_text([f"A photo depicts {line['text']}".strip() for line in lines]).numpy(),
        [encoder.encode_text([f"A photo depicts {text}" for text in row.references]).numpy() for row in rows],
    )
    for name, measure in expected.items():
        assert found["scores"][name] == pytest.approx(measure.value, abs=0.01)
    assert found["scores"]["ci"] == {}  # of so few
    assert "diversity" in found["scores"]
    for metric in ("bleu", "clip_score"):  # the examples are chosen by what there is
        assert cli("evaluate", run, data, "--metric", metric, "--num-beams", 1).code == 0


def test_in_two_lines_of_python(run: Path, world: Path) -> None:
    model = close.load(run).use_task("entailment")
    said = model(sorted((world / "test" / "images").iterdir())[0], "there is a star", decode="score")
    assert said.text in LABELS
    assert next(iter(said.probabilities)) == said.text
    assert said.to_dict()["probabilities"] == said.probabilities
    answer = model.use_task("vqa")(world / "test" / "images", "what color is the star?", labels=["red", "blue"])
    assert {one.text for one in answer} <= {"red", "blue"}
    assert "probabilities" not in answer[0].to_dict()
    vectors = torch.nn.functional.normalize(torch.ones(1, model.encoder.embed_dim), dim=-1)
    with pytest.raises(RecipeError, match="generates nothing; leave out num_beams"):
        model.answer(vectors, ["a"], labels=["red", "blue"], decode="score", num_beams=2)


@pytest.mark.parametrize(
    ("data", "arguments", "words"),
    [
        ("eval", ("--decode", "tree"), "'caption' has none"),
        ("eval", ("--metric", "clip_score", "--modality", "text"), "looks at pictures, and modality 'text' feeds none"),
        ("vqa", ("--decode", "tree", "--length-normalise"), "'score', not 'tree'"),
        ("vqa", ("--decode", "free", "--answers", "a.txt"), "takes no closed set"),
        ("vqa", ("--answers", "gone.txt"), "gone.txt: no such file"),
        ("vqa", ("--top-answers", "5"), "goes with a file of answers"),
    ],
)
def test_what_does_not_go_together_is_told(
    told: Callable[..., str], run: Path, world: Path, data: str, arguments: tuple[str, ...], words: str
) -> None:
    before = {path for path in run.rglob("*") if path.is_file()}
    assert words in told("evaluate", run, world / "test" / f"{data}.jsonl", *arguments)
    assert {path for path in run.rglob("*") if path.is_file()} == before


def test_several_tasks_and_rows_that_name_none(
    told: Callable[..., str], run: Path, world: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (world / "test" / "vqa.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("task")
        row["image"] = str(world / "test" / row["image"])
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "or say which (--task)" in told("evaluate", run, tmp_path / "rows.jsonl")


def test_vocabularies_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("yes\n\nno\n")  # empty lines of a text file are left out, and counted
    assert answer_vocabulary(tmp_path / "a.txt", get_task("vqa")) == ["yes", "no"]
    (tmp_path / "a.jsonl").write_text('{"id": "1", "source": "x", "context": "what?"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: row '1'"):
        answer_vocabulary(tmp_path / "a.jsonl", get_task("vqa"))
