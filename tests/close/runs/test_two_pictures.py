"""Two pictures and a statement (NLVR2): trained on two captions, asked of two pictures, served; and what is missing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import tiny
import torch
from torch.nn import functional as F

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import CloseError, DataError, RecipeError
from close.runs.evaluate import evaluate
from close.runs.pipeline import load
from close.runs.recipe import Recipe, checked
from close.runs.stand_ins import stand_ins
from close.study.selection import selection_score
from close.tasks import get_task
from close.training.plan import plan
from close.training.train import train
from close.vectors.cache import cached_table


def rows_of(pictures: Path, count: int = 12) -> list[dict]:
    texts = tiny.sentences(2 * count, seed=3)
    return [
        {
            "id": f"dev-{i // 2}-{i % 2}-0",
            "source": texts[2 * i : 2 * i + 2],
            "context": f"a {texts[2 * i].split()[1]} dog is in both",
            "label": ("true", "false")[i % 3 == 0],
            "image": [str(pictures / f"p{(i + j) % 12:02}.png") for j in (0, 5)],
            "meta": {"statement": f"dev-{i // 2}-0"},
        }
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory, pictures) -> Path:
    return tiny.write_jsonl(tmp_path_factory.mktemp("nlvr2") / "pairs.jsonl", rows_of(pictures))


@pytest.fixture(scope="module")
def run(data, tiny_encoder, zoo, tmp_path_factory) -> Path:
    values = {
        "task": "nlvr2",
        "data": {"train": str(data)},
        "encoder": str(tiny_encoder),
        "language_model": str(zoo("t5_pieces_dir")),
        "training": {"epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no"},
    }
    return train(Recipe.model_validate(values), tmp_path_factory.mktemp("two") / "run")


def test_texts_of_a_pair_are_no_captions_of_one_image(data, tiny_encoder, zoo, tmp_path):
    """An adapter that learns from groups finds none."""
    values = {
        "task": "nlvr2",
        "data": {"train": str(data)},
        "encoder": str(tiny_encoder),
        "language_model": str(zoo("t5_pieces_dir")),
        "training": {"max_steps": 1, "batch_size": 4, "save_strategy": "no"},
    }
    with pytest.raises(DataError, match=r"0 groups have two texts or more, and adapter 'shared' needs at least 2"):
        plan(Recipe.model_validate(values | {"adapter": "shared"}), tmp_path / "run")
    text = cached_table(RowFile(data), load_encoder(str(tiny_encoder)), "text").path
    for adapter in ("shared", {"shared": {"fit": {"text": str(text), "groups": str(data)}}}):
        with pytest.raises(DataError, match="0 groups have two texts or more"):
            train(Recipe.model_validate(values | {"adapter": adapter}), tmp_path / "run")


def by_hand(run: Path, row: dict, *, swapped: bool = False) -> dict[str, float]:
    """Probabilities of the labels, from both pictures' vectors side by side."""
    captioner = load(run)
    files = row["image"][::-1] if swapped else row["image"]
    vectors = F.normalize(captioner.encoder.image_features(files)[0], dim=-1)
    (answer,) = captioner.answer(vectors[None], [row["context"]], decode="score")
    return dict(answer.probabilities)


def test_a_recipe_of_two_pictures_keeps_them_apart():
    """Unless it says otherwise, whatever it begins from."""
    data = {"data": {"train": "x"}}
    assert Recipe.model_validate({"task": "nlvr2", **data}).several == "set"
    assert Recipe.model_validate({"task": "nlvr2", "several": "mean", **data}).several == "mean"
    assert Recipe.model_validate({"task": "vqa", **data}).several == "mean"
    assert "several" not in Recipe.model_validate({"task": "nlvr2", **data}).model_fields_set
    parts = [{"task": name, "train": "x"} for name in ("nlvr2", "vqa")]
    with pytest.raises(RecipeError, match="nlvr2, vqa some are about one image and some about more"):
        checked({"task": parts}, "recipe")
    assert checked({"task": parts, "several": "set"}, "recipe").several == "set"


def test_begun_from_captions_they_stay_apart(recipe, data, tmp_path):
    captions = train(recipe({"max_steps": 1}), tmp_path / "captions")
    own = {"task": "nlvr2", "data": {"train": str(data)}, "init_from": str(captions), "training": {"max_steps": 1}}
    run = train(Recipe.model_validate(own), tmp_path / "run")
    assert load(captions).model.config.several == "mean"
    assert load(run).model.config.several == "set"
    assert (
        load(train(Recipe.model_validate(own | {"several": "mean"}), tmp_path / "mean")).model.config.several == "mean"
    )


def test_captions_of_each_stand_in_for_the_pictures_where_there_are_none(data, tiny_encoder, zoo, tmp_path):
    told = [{k: v for k, v in json.loads(line).items() if k != "image"} for line in data.read_text().splitlines()]
    val = tiny.write_jsonl(tmp_path / "told.jsonl", told)
    values = {
        "task": "nlvr2",
        "data": {"train": str(data), "val": str(val)},
        "encoder": str(tiny_encoder),
        "language_model": str(zoo("t5_pieces_dir")),
        "training": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "metric_for_best": "accuracy"},
    }
    for several in ("set", "mean"):
        run = train(Recipe.model_validate(values | {"several": several}), tmp_path / several)
        best = json.loads((run / "run.json").read_text())["best"]
        captioner = load(run)
        shape = stand_ins(list(RowFile(val)), get_task("nlvr2"), captioner.encoder, several=several).vectors.shape
        assert shape == ((12, 2, 16) if several == "set" else (12, 16))
        assert selection_score(run, val, num_beams=1)["scores"]["accuracy"] == pytest.approx(best["score"])


def test_the_pictures_count_in_their_order(run, data):
    row = json.loads(data.read_text().splitlines()[0])
    captioner = load(run)
    assert captioner.model.config.vectors == 2
    (output,) = captioner([row["image"]], row["context"], decode="score")
    assert output.probabilities == pytest.approx(by_hand(run, row), abs=1e-5)
    assert output.item == " + ".join(row["image"])
    (swapped,) = captioner([row["image"][::-1]], row["context"], decode="score")
    assert swapped.probabilities == pytest.approx(by_hand(run, row, swapped=True), abs=1e-5)
    assert abs(swapped.probabilities["true"] - output.probabilities["true"]) > 1e-6
    vectors = captioner.encoder.encode_image(row["image"])
    (same,) = captioner.embed_to_text(vectors[None], row["context"], decode="score")
    assert same.probabilities == pytest.approx(output.probabilities, abs=1e-5)


def test_evaluated_on_pictures_and_on_captions(run, data, tmp_path):
    """Accuracy by hand, and the share of statements that are right for every pair, as NLVR2's script counts it."""
    lines = list(map(json.loads, data.read_text().splitlines()))
    for side in ("image", "text"):
        found = evaluate(run, data, modality=side, folder=tmp_path / side, decode="score")
        said = {one["id"]: one for one in map(json.loads, (tmp_path / side / "predictions.jsonl").open())}
        right = {row["id"]: said[row["id"]]["text"] == row["label"] for row in lines}
        assert found["scores"]["accuracy"] == pytest.approx(100 * sum(right.values()) / len(right))
        whole = [all(right[f"dev-{i}-{j}-0"] for j in (0, 1)) for i in range(6)]
        assert found["scores"]["consistency"] == pytest.approx(100 * sum(whole) / 6)
    found = {one["id"]: one for one in map(json.loads, (tmp_path / "image" / "predictions.jsonl").open())}
    assert found["dev-0-1-0"]["probabilities"] == pytest.approx(by_hand(run, lines[1]), abs=1e-5)


def test_two_files_on_the_command_line(run, data, cli, told):
    row = json.loads(data.read_text().splitlines()[0])
    ran = cli("caption", run, *row["image"], "--together", "--context", row["context"], "--json")
    (line,) = map(json.loads, ran.out.splitlines())
    assert line["text"] == load(run)([row["image"]], row["context"])[0].text
    assert line["text"] in ("true", "false")
    message = told("caption", run, *row["image"], "--context", row["context"])
    assert "'nlvr2' takes 2 an item, together and in their order, and found 1" in message
    assert row["image"][0] in message


class TestMissing:
    """One of two: told in a line that names it, before anything is embedded."""

    def rows(self, pictures, tmp_path, **changes) -> Path:
        rows = rows_of(pictures, 4)
        return tiny.write_jsonl(tmp_path / "rows.jsonl", [*rows[:2], rows[2] | changes, rows[3]])

    @pytest.mark.parametrize("key", ["source", "image"])
    def test_in_a_row(self, run, pictures, tmp_path, recipe, key):
        one = rows_of(pictures, 4)[2][key][0]
        path = self.rows(pictures, tmp_path, **{key: one})
        with pytest.raises(DataError, match=f"rows.jsonl: row 'dev-1-0-0': '{key}': .* takes 2 .* found 1"):
            train(recipe(task="nlvr2", data={"train": str(path)}), tmp_path / "run")
        with pytest.raises(DataError, match=f"row 'dev-1-0-0': '{key}'"):
            evaluate(run, path, folder=tmp_path / "scores")

    def test_a_label_or_a_statement(self, pictures, tmp_path, recipe):
        for changes, message in (
            ({"label": "maybe"}, "label 'maybe', expected one of true"),
            ({"context": ""}, "'context'"),
        ):
            path = self.rows(pictures, tmp_path, **changes)
            with pytest.raises(DataError, match=message):
                train(recipe(task="nlvr2", data={"train": str(path)}), tmp_path / "run")

    def test_a_file_that_is_gone(self, run, pictures, tmp_path, told):
        gone = str(tmp_path / "gone.png")
        path = self.rows(pictures, tmp_path, image=[str(pictures / "p00.png"), gone])
        assert gone in told("evaluate", run, path, "--out", tmp_path / "scores.json")
        found = evaluate(run, path, folder=tmp_path / "scores", missing="skip")
        assert [found["rows"], found["scores"]["n"]] == [4, 3]
        (output,) = load(run)([[pictures / "p00.png", gone]], "a dog is in both", num_beams=1)
        assert gone in str(output.error)

    def test_vectors(self, run):
        captioner = load(run)
        with pytest.raises(DataError, match="takes 2 an item"):
            captioner.embed_to_text(torch.ones(3, captioner.model.config.embed_dim), "a dog is in both")


@pytest.mark.skipif(not importlib.util.find_spec("fastapi"), reason="the serve extra is not installed")
def test_served(run, data, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "serve"))
    from asking import serving

    from close.serve.limits import Limits

    row = json.loads(data.read_text().splitlines()[0])
    files = [(Path(name).name, Path(name).read_bytes()) for name in row["image"]]
    asked = {"context": row["context"], "decode": "score", "together": "true"}
    with serving([run], Limits()) as (ask, *_):
        (output,) = ask("/v1/caption", asked, files=files).json["outputs"]
        assert output["probabilities"] == pytest.approx(by_hand(run, row), abs=1e-4)
        assert output["item"] == " + ".join(name for name, _ in files)
        texts = {"context": row["context"], "decode": "score", "together": True, "texts": row["source"]}
        (output,) = ask("/v1/caption", texts).json["outputs"]
        captioner = load(run)
        vectors = captioner.encoder.encode_text(row["source"])
        (wanted,) = captioner.embed_to_text(vectors[None], row["context"], modality="text", decode="score")
        assert output["probabilities"] == pytest.approx(dict(wanted.probabilities), abs=1e-4)
        alone = ask("/v1/caption", {"context": row["context"]}, files=files)
        assert (alone.status, "takes 2 an item" in alone.json["error"]) == (422, True)
        broken = ask("/v1/caption", asked, files=[files[0], ("broken.png", b"no picture")])
        assert broken.status == 422
        assert "broken.png" in broken.json["error"]


def test_a_statement_is_asked_for(run, data, pictures, told):
    files = [str(pictures / f"p{i:02}.png") for i in range(2)]
    assert "task 'nlvr2' asks something of each item" in told("caption", run, *files, "--together")
    captioner = load(run)
    with pytest.raises(RecipeError, match="item 2 has none"):
        captioner([files, files], ["a dog is in both", " "])


def test_labels_that_the_task_has_not_are_told_before_work(run, data, pictures, tmp_path):
    rows = rows_of(pictures)
    bad = tiny.write_jsonl(tmp_path / "bad.jsonl", [rows[0], rows[1] | {"label": "yes"}])
    with pytest.raises(DataError, match=r"bad\.jsonl: row 'dev-0-1-0': label 'yes', expected one of true, false"):
        evaluate(run, bad)
    assert evaluate(run, tiny.write_jsonl(tmp_path / "good.jsonl", [rows[0], rows[1] | {"label": "True"}]))["rows"] == 2


def test_metrics_that_there_are_not_are_told_before_work(run, data, tmp_path):
    for name, what in (("acuracy", "unknown metric"), ("cider", "scores caption, not entailment")):
        with pytest.raises(CloseError, match=what):
            evaluate(run, data, metrics=[name], folder=tmp_path / "scores")
        assert not (tmp_path / "scores").exists()
