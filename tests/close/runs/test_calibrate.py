"""Confidence of a run: measured on rows that the map has not seen, carried by outputs, and used to leave out."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from transformers import GenerationConfig

import close
from close import plugins
from close.data.rows import RowFile
from close.errors import DataError, MissingError, RecipeError, UnknownNameError
from close.evaluation.calibration import Calibration
from close.evaluation.metrics import METRICS
from close.evaluation.scores import score_rows
from close.mini import export
from close.runs.candidates import texts_sum
from close.runs.confidence import Confidence, settings_of
from close.runs.outputs import Answer
from close.runs.recipe import Recipe
from close.training.train import train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    export(root / "train", "train", 8)
    export(root / "val", "val", 44)
    return root


@pytest.fixture(scope="module")
def run(world: Path, tiny_encoder: Path) -> Path:
    """Two tasks, hardly learnt."""
    files = {"caption": "captions.jsonl", "entailment": "entailment.jsonl"}
    tasks = [{"task": name, "train": str(world / "train" / file)} for name, file in files.items()]
    values = {
        "task": tasks,
        "encoder": str(tiny_encoder),
        "training": {"epochs": 1, "batch_size": 16, "learning_rate": 2e-3, "save_strategy": "no"},
    }
    return train(Recipe.model_validate(values), world / "run")


@pytest.fixture(scope="module")
def calibrated(run: Path, world: Path) -> dict[str, Any]:
    from close.runs.calibrate import calibrate

    return calibrate(close.load(run), world / "val" / "eval.jsonl", task="caption", num_beams=2, metric="rouge_l")


def test_it_is_measured_on_rows_that_the_map_has_not_seen(run, world, calibrated):
    rows = list(RowFile(world / "val" / "eval.jsonl"))
    images = sorted(str(row.image) for row in rows)
    learn = {images[place] for place in np.random.default_rng(0).permutation(44)[:22]}
    captioner = close.load(run)
    said = captioner([row.image for row in rows], num_beams=2, n=1, rerank="clip")
    scores, _ = score_rows(captioner.task, rows, [one.text for one in said], tokenizer="python", metrics=["rouge_l"])
    right = scores.metrics["rouge_l"].per_example / 100
    unseen = np.array([str(row.image) not in learn for row in rows])
    assert calibrated["rows"] == {"learnt_on": 22, "measured_on": 22}
    assert 0 < calibrated["mean_right"] == pytest.approx(right[unseen].mean())
    assert calibrated["by"] == "both"
    found = Calibration.of(calibrated["map"], "map")
    sure = found([one.score for one in said], [one.candidates[0].cosine for one in said])
    bins = calibrated["reliability"]
    assert sum(one["count"] * one["confidence"] for one in bins) == pytest.approx(sure[unseen].sum(), abs=1e-3)
    assert calibrated["confidence"]["at_coverage"]["100%"]["accuracy"] == pytest.approx(right[unseen].mean())
    assert set(calibrated["signals"]) == {"likelihood", "cosine", "both"}
    saved = json.loads((run / "calibration" / "caption.json").read_text())
    assert (saved.pop("plugins"), saved.pop("plugin_sums")) == ([], [])
    assert saved | {"versions": None} == calibrated | {"versions": None}
    for name in ("caption-reliability.png", "caption-risk.png"):
        assert (run / "calibration" / name).read_bytes().startswith(b"\x89PNG")


def test_outputs_carry_it_and_some_are_left_out(cli, run, world, calibrated, tmp_path):
    """With a map under which every output has a confidence of its own."""
    run, images = shutil.copytree(run, tmp_path / "run"), world / "val" / "images"
    captioner = close.load(run)
    plain = captioner(images, num_beams=2, min_confidence=0)
    measured, cosines = Calibration.of(calibrated["map"], "map"), captioner(images, num_beams=2, n=2, cosine=True)
    assert [one.confidence for one in plain] == pytest.approx(
        measured([one.score for one in plain], [one.candidates[0].cosine for one in cosines]), abs=1e-3
    )
    map_ = {"by": "likelihood", "x": [-20.0, 0.0], "y": [0.0, 1.0], "weights": [0.0, 0.0, 0.0]}
    (run / "calibration" / "caption.json").write_text(json.dumps(calibrated | {"map": map_}))
    outputs = close.load(run)(images, num_beams=2)
    assert [one.confidence for one in outputs] == pytest.approx([1 + one.score / 20 for one in outputs])
    assert outputs[0].to_dict()["confidence"] == outputs[0].confidence
    assert outputs[0].candidates == ()
    captioner = close.load(run)
    limit = float(np.median([one.confidence for one in outputs])) + 1e-6
    kept = captioner(images, num_beams=2, min_confidence=limit)
    low = [one for one in kept if one.left_out]
    assert 0 < len(low) < 44
    for before, after in zip(outputs, kept, strict=True):
        assert after.left_out == (before.confidence < limit)
        assert after.text == ("" if after.left_out else before.text)
        assert (after.candidates[0].text if after.left_out else after.text) == before.text
    command = ("caption", run, images, "--num-beams", 2, "--min-confidence", limit)
    printed = cli(*command)
    assert [line.split("\t")[0] for line in printed.out.splitlines()] == [one.item for one in kept if not one.left_out]
    assert printed.messages == [
        f"note: {len(low)} of 44 items are less sure than {limit} and left out; with --json they are listed, marked"
    ]
    told = [json.loads(line) for line in cli(*command, "--json").out.splitlines()]
    assert [row["left_out"] for row in told] == [one.left_out for one in kept]
    ran = cli(*command, "--out", world / "kept.jsonl")
    assert ran.messages[-1].endswith(f"left out; {world / 'kept.jsonl'} lists them, marked")
    assert [json.loads(line) for line in (world / "kept.jsonl").read_text().splitlines()] == told


def test_other_settings_have_no_confidence(cli, told, run, world, calibrated):
    image = sorted((world / "val" / "images").iterdir())[0]
    ran = cli("caption", run, image, "--num-beams", 3, "--json")
    assert "confidence" not in json.loads(ran.out)
    assert ran.messages == [
        "note: no confidence: it was measured with num_beams 2 (now 3); calibrate with the settings that are used"
    ]
    assert "was calibrated with num_beams 2 (now 3); calibrate" in told(
        "caption", run, image, "--num-beams", 3, "--min-confidence", 0.5
    )
    captioner = close.load(run)
    assert captioner(image, num_beams=2, n=2).confidence == captioner(image, num_beams=2).confidence  # the same search
    assert captioner(image, num_beams=2, n=2, rerank="clip").confidence is None
    for wrong in (1.5, "0.5", True, float("nan")):
        with pytest.raises(RecipeError, match="a share from 0 to 1"):
            captioner(image, num_beams=2, min_confidence=wrong)
    with pytest.raises(RecipeError, match=r"is not calibrated; `close calibrate .*` measures"):
        captioner.use_task("entailment")(image, "there is a star", min_confidence=0.5)


def test_it_is_of_a_precision_and_of_the_code_that_says_what_is_right(run, world, tmp_path, monkeypatch):
    from close.runs.calibrate import calibrate

    other, image = shutil.copytree(run, tmp_path / "other"), sorted((world / "val" / "images").iterdir())[0]
    monkeypatch.setitem(METRICS._metrics.origins, "rouge_l", "score.py")
    monkeypatch.setitem(plugins._loaded, "score.py", "1" * 64)
    about = calibrate(
        other, world / "val" / "eval.jsonl", task="caption", num_beams=1, metric="rouge_l", by="likelihood"
    )
    assert close.load(other)(image, num_beams=1).confidence is not None
    captioner = close.load(other, precision="bf16")
    assert captioner(image, num_beams=1).confidence is None
    assert captioner.confidence.other == "precision auto (now bf16)"
    del about["settings"]["precision"]  # of before
    (other / "calibration" / "caption.json").write_text(json.dumps(about))
    assert close.load(other, precision="bf16")(image, num_beams=1).confidence is not None
    calibrate(other, world / "val" / "eval.jsonl", task="caption", num_beams=1, metric="rouge_l", by="likelihood")
    monkeypatch.setitem(plugins._loaded, "score.py", "2" * 64)
    assert Confidence.load(other, "caption") is None


def test_answers_from_a_closed_set(cli, run, world):
    data = world / "val" / "entailment.jsonl"
    ran = cli("calibrate", run, data, "--task", "entailment", "--decode", "score")
    assert ran.code == 0, ran
    assert "right: accuracy; learnt on" in ran.out
    saved = json.loads((run / "calibration" / "entailment.json").read_text())
    assert (saved["by"], set(saved["signals"])) == ("likelihood", {"likelihood"})
    image = sorted((world / "val" / "images").iterdir())[0]
    output = close.load(run).use_task("entailment")(image, "there is a star", decode="score")
    sure = Calibration.of(saved["map"], "map")([np.log(output.probabilities[output.text])])
    assert output.confidence == pytest.approx(float(sure[0]))
    about = json.loads(cli("info", run, "--json").out)["calibrated"]
    assert about["entailment"]["right"] == {"score": "accuracy", "at_least": None}


def test_labels_of_a_call(run, world, tmp_path):
    from close.runs.calibrate import calibrate

    other, labels = shutil.copytree(run, tmp_path / "other"), ["a red star", "a blue circle"]
    calibrate(other, world / "val" / "eval.jsonl", task="caption", metric="rouge_l", labels=labels, num_beams=1)
    image = next((world / "val" / "images").iterdir())
    captioner = close.load(other)
    sure = captioner(image, labels=labels, num_beams=1).confidence
    assert sure is not None
    assert captioner(image, labels=labels[::-1], num_beams=1).confidence == sure
    assert captioner(image, num_beams=1).confidence is None
    file = other / "calibration" / "caption.json"  # one of before knows labels in their order
    saved = json.loads(file.read_text())
    saved["settings"]["labels"] = texts_sum(labels)
    file.write_text(json.dumps(saved))
    assert close.load(other)(image, labels=labels, num_beams=1).confidence == sure
    assert close.load(other)(image, labels=labels[:1], num_beams=1).confidence is None


def no_java(inputs):
    raise MissingError("no Java today")


def test_what_does_not_go_is_told(told, cli, run, calibrated, world, tmp_path, monkeypatch):
    """Before a row is captioned, which may take hours."""
    data = world / "val" / "eval.jsonl"
    monkeypatch.setattr("close.runs.calibrate.tell", None)
    monkeypatch.setitem(METRICS._metrics._items, "spice", replace(METRICS["spice"], function=no_java))
    for words, arguments in (
        ("--at-least", (data, "--metric", "cider")),
        ("RefCLIPScore does not run from 0 to 100", (data, "--metric", "ref_clip_score")),
        ("did you mean 'cider'", (data, "--metric", "cidre")),
        ("did you mean 'cider'", (data, "--metric", "cidre", "--at-least", 3)),
        ("unknown score of caption rows 'accuracy'", (data, "--metric", "accuracy", "--at-least", 3)),
        ("Attributes made up is of all rows together", (data, "--metric", "hallucination")),
        ("spice is not to be had: no Java today; take another", (data, "--metric", "spice")),
        ("a number, not nan", (data, "--metric", "cider", "--at-least", "nan")),
        (
            "8 examples of 8 images; calibration takes 40 images at least",
            (world / "train" / "eval.jsonl", "--num-beams", 1),
        ),
    ):
        assert words in told("calibrate", run, *arguments, "--task", "caption")
    other = shutil.copytree(run, tmp_path / "other")
    file = other / "calibration" / "caption.json"
    file.write_text(json.dumps(calibrated | {"run_sha256": "0"}))
    ran = cli("info", other)
    assert (ran.code, len(ran.messages)) == (0, 1)
    assert "is of another training than the run" in ran.messages[0]
    file.write_text(json.dumps(calibrated | {"map": []}))
    image = sorted((world / "val" / "images").iterdir())[0]
    assert "make it anew with `close calibrate`" in told("caption", other, image)


def test_one_row_is_scored_before_all_work_as_all_are_after_it(run, world, tmp_path, monkeypatch):
    from close.runs.calibrate import calibrate

    monkeypatch.setattr("close.runs.calibrate.tell", None)
    rows = [json.loads(line) for line in (world / "val" / "eval.jsonl").read_text().splitlines()]
    keys = ("image", "context", "task")  # another row of the image has captions
    bare = [{key: row[key] for key in keys if key in row} | {"id": f"bare {row['id']}"} for row in rows]
    data = tiny.write_jsonl(world / "val" / "siblings.jsonl", [*bare, *(row | {"meta": {}} for row in rows)])
    with pytest.raises(RecipeError, match="attribute_accuracy is not to be had: the rows do not have what it needs"):
        calibrate(run, data, task="caption", metric="attribute_accuracy")
    with pytest.raises(UnknownNameError, match="tokenizer"):
        calibrate(run, data, task="caption", metric="clip_score", at_least=50, tokenizer="pyton")
    monkeypatch.setitem(METRICS._metrics._items, "spice", replace(METRICS["spice"], function=None))
    with pytest.raises(RecipeError, match="a number, not nan"):
        calibrate(run, data, task="caption", metric="spice", at_least=float("nan"))
    with pytest.raises(TypeError, match="not callable"):  # what it would have begun
        calibrate(run, data, task="caption", metric="rouge_l")


@pytest.mark.parametrize(("about", "files", "sure"), [({}, [2, 1], [0.5, 0.5]), ({"files": [2]}, [2, 1], [0.5, None])])
def test_how_many_files_an_item_has_counts_where_it_is_known(about, files, sure):
    found = Confidence(None, {}, about).of_items([Answer("a", -1.0, confidence=0.5)] * 2, files)
    assert [one.confidence for one in found] == sure


@pytest.mark.parametrize("files", [None, "1", [1, "a"]])
def test_numbers_of_files_that_are_none(run, calibrated, tmp_path, files):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "calibration" / "caption.json").write_text(json.dumps(calibrated | {"files": files}))
    with pytest.raises(DataError, match=r"caption.json: 'files' is .*; make it anew"):
        Confidence.load(other, "caption")


def test_settings_are_the_same_whatever_kind_of_number_they_are():
    asked = {"modality": "image", "labels": None, "normalise": False, "n": None, "rerank": None}
    config = GenerationConfig(num_beams=1)
    one = settings_of(config, "free", generation={"num_beams": 2, "repetition_penalty": 1.5}, **asked)
    numpy = {"num_beams": np.int64(2), "repetition_penalty": np.float32(1.5), "guidance_scale": 1.0}
    same = settings_of(config, "free", generation=numpy, **asked)
    assert json.dumps(one, sort_keys=True) == json.dumps(same, sort_keys=True)


def test_a_threshold_makes_right_or_wrong(cli, run, world, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    command = ("calibrate", other, world / "val" / "eval.jsonl", "--task", "caption", "--num-beams", 1)
    ran = cli(*command, "--at-least", 50, "--by", "cosine")
    assert ran.code == 0, ran
    saved = json.loads((other / "calibration" / "caption.json").read_text())
    assert (saved["right"], saved["by"]) == ({"score": "attribute_accuracy", "at_least": 50.0}, "cosine")
    assert (22 * saved["mean_right"]) % 1 == pytest.approx(0, abs=1e-9)


def test_in_another_process_it_does_the_same_task_and_is_as_silent(run, calibrated):
    one = close.load(run)
    assert one.confidence is not None
    again = pickle.loads(pickle.dumps(one.use_task("entailment")))
    assert again.task.name == "entailment"
    assert again.use_task("caption").confidence is not None
    fresh = close.load(run).use_task("vqa")
    assert fresh.confidence is None  # of a task that is not calibrated
    assert pickle.loads(pickle.dumps(fresh)).use_task("caption").confidence is not None
    one.without_confidence()
    assert pickle.loads(pickle.dumps(one)).use_task("caption").confidence is None


def test_items_of_several_files_have_none_where_it_was_measured_on_single_ones(run, world, calibrated, caplog):
    shown = [row.image for row in list(RowFile(world / "val" / "eval.jsonl"))[:3]]
    captioner = close.load(run)
    assert calibrated["files"] == [1]
    one, two = captioner([shown[0], shown[1:]], num_beams=2)
    assert one.confidence is not None
    assert two.confidence is None
    assert "no confidence: it was measured on items of 1 files, not 2" in caplog.text
    with pytest.raises(RecipeError, match="items of 1 files, not 2"):
        captioner([shown[1:]], num_beams=2, min_confidence=0.5)
