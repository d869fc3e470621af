"""Ids on both sides: doubles, names, what is missing, and rows that share an image."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import put

from close.data.rows import RowFile
from close.errors import DataError
from close.evaluation.compare import compare
from close.evaluation.images import one_row_an_image
from close.evaluation.match import match
from close.evaluation.metrics import VqaReference
from close.evaluation.read import read_predictions, read_references
from close.evaluation.scores import score, score_files
from close.runs.evaluate import evaluate

THINGS = ["dog", "cat", "cup", "lamp", "book"]
NO_JAVA = {"tokenizer": "python", "metrics": ("bleu", "cider"), "samples": 0}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    notes = [
        {"id": 10 * i + n, "image_id": i, "caption": caption.format(thing)}
        for i, thing in enumerate(THINGS)
        for n, caption in enumerate(("a {} on a table", "one {} on a wooden table"))
    ]
    return put(tmp_path / "refs.json", {"images": [{"id": i} for i in range(5)], "annotations": notes})


def said(*things: str) -> list[dict[str, Any]]:
    return [{"image_id": THINGS.index(thing), "caption": f"a {thing} on a table"} for thing in things]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_equal_doubles_are_counted_once_and_told(tmp_path: Path, truth: Path, suffix: str) -> None:
    rows = said(*THINGS, "dog", "cat")
    if suffix == "jsonl":
        rows = [{"id": row["image_id"], "text": row["caption"]} for row in rows]
    scores = score_files(put(tmp_path / f"p.{suffix}", rows), truth, "caption", **NO_JAVA)
    once = score_files(put(tmp_path / "once.json", said(*THINGS)), truth, "caption", **NO_JAVA)
    assert scores["cider"] == once["cider"] > 500
    assert (scores["n"], scores["doubles"]) == (5, 2)
    assert "2 came twice" in scores["notes"]["predictions"]
    assert "doubles" not in once
    rows[-1] = rows[-1] | {"caption": "x", "text": "x"}
    with pytest.raises(DataError, match="keep one of them"):
        read_predictions(put(tmp_path / f"p.{suffix}", rows), "caption")


def test_cider_that_can_only_be_zero_says_so() -> None:
    one = score("caption", {"a": "a dog"}, {"a": ["a dog", "one dog"]}, **NO_JAVA)
    assert (one["cider"], "one image" in one["notes"]["cider"]) == (0, True)
    alike = score("caption", {"a": "a dog", "b": "a cat"}, {"a": ["a dog"], "b": ["a dog"]}, **NO_JAVA)
    assert (alike["cider"], "all alike" in alike["notes"]["cider"]) == (0, True)
    other = score("caption", {"a": "a dog", "b": "a cat"}, {"a": ["a dog"], "b": ["a cat"]}, **NO_JAVA)
    assert (other["cider"] > 0, other["notes"]) == (True, {})


QUESTIONS = {str(n): VqaReference(("the", "yes")) for n in range(4)}
LABELS = {str(n): "yes" for n in range(4)}
CAPTIONS = {str(n): [f"a {thing}"] for n, thing in enumerate(THINGS[:4])}


@pytest.mark.parametrize(
    ("task", "references", "score_name"),
    [("vqa", QUESTIONS, "accuracy"), ("entailment", LABELS, "accuracy"), ("caption", CAPTIONS, "bleu_1")],
)
def test_what_is_missing_is_skipped_counted_or_refused(task: str, references: Any, score_name: str) -> None:
    right = {key: value[0] if task == "caption" else "yes" for key, value in references.items()}
    part = {"0": right["0"], "1": right["1"], "x": "yes"}
    settings = NO_JAVA if task == "caption" else {"samples": 0}
    whole = score(task, right, references, missing="error", **settings)
    skip = score(task, part, references, missing="skip", **settings)
    zero = score(task, part, references, missing="zero", **settings)
    assert skip[score_name] == pytest.approx(whole[score_name], abs=1e-4)
    assert (skip["n"], skip["missing"], skip["extra"]) == (2, 2, 1)
    assert zero["n"] == 4
    assert zero.metrics[score_name].per_example.tolist()[2:] == pytest.approx([0, 0], abs=1e-3)
    assert zero[score_name] < skip[score_name]
    assert (
        "2 are missing and scored as if nothing was said; 1 have no reference and are left out"
        in (zero["notes"]["predictions"])
    )
    with pytest.raises(DataError, match="2 references lack a prediction and 1 predictions a reference"):
        score(task, part, references, missing="error", **settings)
    with pytest.raises(DataError, match="no prediction has a reference"):
        score(task, {"x": "yes"}, references, missing="skip", **settings)


def shared(tmp_path: Path, per: int = 3) -> Path:
    """Rows as `close convert coco` makes them: a caption each, several of one image."""
    rows = [
        {"id": f"{i}{n}", "image": f"{i}.png", "group": f"g{i}", "source": source.format(thing)}
        for i, thing in enumerate(THINGS)
        for n, source in enumerate(("a {} here", "one {} on a table", "some {} that is red")[:per])
    ]
    return put(tmp_path / "rows.jsonl", rows)


def test_rows_of_one_image_are_one_example(tmp_path: Path) -> None:
    rows = list(RowFile(shared(tmp_path)))
    merged = one_row_an_image(rows, "caption")
    assert [row.id for row in merged] == ["00", "10", "20", "30", "40"]
    assert merged[0].references == ("a dog here", "one dog on a table", "some dog that is red")
    assert one_row_an_image(rows, "vqa") == rows


@pytest.mark.parametrize("names", ["rows", "images"])
def test_scores_against_rows_that_share_images(tmp_path: Path, names: str) -> None:
    """Predictions under the rows' ids or the images' names: as against a file of all captions of each image."""
    truth = read_references(shared(tmp_path), "caption")
    captions = {thing: f"one {thing} here" for thing in THINGS}
    ids = {f"g{i}": t for i, t in enumerate(THINGS)}
    ids = {f"{i}{n}": t for i, t in enumerate(THINGS) for n in range(3)} if names == "rows" else ids
    found = score("caption", {key: captions[thing] for key, thing in ids.items()}, truth, **NO_JAVA)
    by_image = {t: [s.format(t) for s in ("a {} here", "one {} on a table", "some {} that is red")] for t in THINGS}
    assert found["cider"] == score("caption", captions, by_image, **NO_JAVA)["cider"]
    assert (found["n"], "15 rows are of 5 images" in found["notes"]["rows"]) == (5, True)


@pytest.mark.parametrize("per", [1, 2])
def test_image_ids_are_of_groups_whatever_rows_are_called(tmp_path: Path, truth: Path, per: int) -> None:
    """COCO's images and its annotations are both counted from one on: image 2 is not row 2, a caption of image 1."""
    notes = json.loads(truth.read_text())["annotations"]
    rows = [
        {"id": place, "group": note["image_id"], "source": note["caption"]}
        for place, note in enumerate(note for note in notes[::-1] if note["id"] % 10 < per)
    ]
    files = put(tmp_path / "p.json", said(*THINGS)), put(tmp_path / "rows.jsonl", rows)
    by_image = {str(i): [row["source"] for row in rows if row["group"] == i] for i in range(5)}
    expected = score("caption", read_predictions(files[0], "caption"), by_image, **NO_JAVA)["cider"]
    assert score_files(*files, "caption", **NO_JAVA)["cider"] == pytest.approx(expected)


def test_image_ids_that_are_names_of_rows_are_refused_where_these_are_groups_too(tmp_path: Path) -> None:
    rows = [{"id": n, "group": n // 2, "source": f"a {thing}"} for n, thing in enumerate(THINGS)]
    own = [{"image_id": row["id"], "caption": row["source"]} for row in rows[::2]]
    files = put(tmp_path / "p.json", own), put(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        DataError, match=r"image_id '2' is the 'group' of one image .* and '4' is a row's id alone; expected"
    ):
        score_files(*files, "caption", **NO_JAVA)
    lines = put(tmp_path / "p.jsonl", [{"id": one["image_id"], "text": one["caption"]} for one in own])
    assert score_files(lines, files[1], "caption", **NO_JAVA)["bleu_1"] == pytest.approx(100)


def test_rows_that_share_images_but_not_what_is_said_of_them(tmp_path: Path) -> None:
    both = match("caption", {"00": "a", "01": "b"}, read_references(shared(tmp_path), "caption"))
    assert both.references["01"] == ["one dog on a table"]
    assert "differs" in both.notes["rows"]


def test_evaluate_captions_each_image_once_and_treats_unreadable_ones_as_asked(
    run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    for i in range(5):
        Image.new("RGB", (32, 32), (50 * i, 0, 0)).save(tmp_path / f"{i}.png")
    data = shared(tmp_path)
    ran = cli("evaluate", run, data, "--num-beams", 1, "--out", tmp_path / "s.json", "--tokenizer", "python")
    assert ran.code == 0, ran
    assert "15 rows are of 5 images" in ran.err
    whole = json.loads((tmp_path / "s.json").read_text())
    assert (whole["rows"], whole["scores"]["n"], whole["missing"]) == (5, 5, None)
    assert len(whole["examples"]["best"][0]["references"]) == 3
    assert len((Path(whole["folder"]) / "predictions.jsonl").read_text().splitlines()) == 5
    assert compare(run, run, samples=100, tokenizer="python")["n"] == 5

    (tmp_path / "4.png").write_bytes(b"no picture")
    stopped = cli("evaluate", run, data, "--num-beams", 1)
    assert (stopped.code, "; --missing skip leaves such rows out" in stopped.err) == (1, True)
    with pytest.raises(DataError, match=r"4\.png") as told:  # as sweeps do, which have no such option
        evaluate(run, data)
    assert "--missing" not in str(told.value)
    mean: dict[str, float] = {}
    for missing, count in (("skip", 4), ("zero", 5)):
        asked = ("--num-beams", 1, "--missing", missing, "--metric", "clip_score", "--metric", "cider")
        ran = cli("evaluate", run, data, *asked, "--out", tmp_path / "s.json", "--tokenizer", "python")
        assert ran.code == 0, ran
        assert "1 are missing" in ran.err
        assert f"{'n':<22}{count:>8}" in ran.out.splitlines()
        found = json.loads((tmp_path / "s.json").read_text())
        assert (found["scores"]["n"], found["scores"]["missing"]) == (count, 1)
        assert found["unreadable"][0]["id"] == "40"
        mean[missing] = found["scores"]["clip_score"]
    assert mean["zero"] == pytest.approx(mean["skip"] * 4 / 5)  # nothing was said of the fifth
