"""Rows of several sources or images: their mean, or a set, from the file to the text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import TrainerCallback

import close
from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import DataError, RecipeError
from close.model.sets import Sets
from close.retrieval.training import find
from close.runs.evaluate import evaluate
from close.runs.pipeline import load
from close.runs.recipe import Recipe
from close.runs.row_vectors import embeddings_of
from close.tasks import get_task
from close.training.examples import Collator, TextDataset
from close.training.train import train
from close.vectors.build import embed_images, embed_texts, images_of


def rows_of(folder: Path, pictures: Path) -> Path:
    """Nine rows of one to three sources and as many pictures."""
    texts, rows = tiny.sentences(27, seed=5), []
    for i in range(9):
        several = slice(3 * i, 3 * i + 1 + i % 3)
        names = [str(pictures / f"p{(i + j) % 12:02}.png") for j in range(1 + i % 3)]
        source, image = (one if len(one) > 1 else one[0] for one in (texts[several], names))
        rows.append({"id": f"r{i}", "source": source, "target": texts[3 * i], "image": image})
    return tiny.write_jsonl(folder / "several.jsonl", rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory, pictures) -> Path:
    return rows_of(tmp_path_factory.mktemp("several"), pictures)


@pytest.fixture(scope="module")
def runs(data, tiny_encoder, zoo, tmp_path_factory) -> dict[str, Path]:
    """A run of each way, on the same rows."""
    folder, made = tmp_path_factory.mktemp("ways"), {}
    for name, changes in {
        "mean": {},
        "set": {"several": "set"},
        "decoder": {"several": "set", "language_model": str(zoo("gpt2_still_dir")), "prefix": "fusion"},
    }.items():
        values = {
            "data": {"train": str(data)},
            "encoder": str(tiny_encoder),
            "language_model": str(zoo("t5_still_dir")),
            "training": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-2, "save_strategy": "no"},
        }
        if changes.get("prefix") == "fusion":
            changes["prefix"] = {"kind": "fusion", "length": 3, "layers": 1, "heads": 2}
        made[name] = train(Recipe.model_validate(values | changes), folder / name)
    return made


@cache
def one_by_one(run: Path, data: Path, side: str) -> dict[str, str]:
    """What the run's model says of each row alone, vectors put together by hand."""
    captioner = load(run)
    encoder, several, said = captioner.encoder, captioner.model.config.several, {}
    for row in RowFile(data):
        raw = encoder.text_features(row.source) if side == "text" else encoder.image_features(row.images)[0]
        vectors = F.normalize(raw if several == "set" else raw.mean(0, keepdim=True), dim=-1)
        embeds = vectors if len(vectors) == 1 else vectors[None]
        said[row.id] = captioner.answer(embeds, [""], modality=side, num_beams=1)[0].text
    return said


@pytest.mark.parametrize("name", ["mean", "set", "decoder"])
class TestUse:
    def test_the_run_knows(self, runs, name, cli):
        about = json.loads(cli("info", runs[name], "--json").out)
        assert about["several"] == ("mean" if name == "mean" else "set")
        assert load(runs[name]).model.config.vectors == (1 if name == "mean" else 3)

    def test_evaluated_rows(self, runs, data, name, tmp_path):
        for side in ("image", "text"):
            said = evaluate(runs[name], data, modality=side, folder=tmp_path / side, metrics=["bleu"], num_beams=1)
            lines = [json.loads(line) for line in (Path(said["folder"]) / "predictions.jsonl").read_text().splitlines()]
            wanted = one_by_one(runs[name], data, side)
            assert {line["id"]: line["text"] for line in lines} == wanted

    def test_items_of_several_files(self, runs, data, name):
        """Whatever the batches are; a list of files is a batch as it was."""
        captioner, rows = load(runs[name]), list(RowFile(data))[:7]
        wanted = list(one_by_one(runs[name], data, "image").values())[:7]
        items = [list(row.images) if len(row.images) > 1 else row.images[0] for row in rows]
        for size in (1, 2, 32):
            outputs = captioner(items, batch_size=size, num_beams=1)
            assert [output.text for output in outputs] == wanted
        assert outputs[2].item == " + ".join(map(str, rows[2].images))
        assert len(captioner(list(rows[2].images), num_beams=1)) == 3
        assert [output.text for output in captioner([rows[2].images], num_beams=1)] == [wanted[2]]

    def test_vectors_of_a_table(self, runs, data, name, tmp_path, cli):
        """Rows of one row are one item, by their ids; a mean is that of raw vectors."""
        encoder, wanted = load(runs[name]).encoder, one_by_one(runs[name], data, "image")
        embed_images(images_of(RowFile(data)), encoder, tmp_path / "table")
        ran = cli("caption", runs[name], "--vectors", tmp_path / "table", "--json", "--num-beams", 1)
        said = {line["item"]: line["text"] for line in map(json.loads, ran.out.splitlines())}
        assert said == wanted
        table = close.EmbeddingTable(tmp_path / "table")
        if name != "mean":
            three = [row.id for row in RowFile(data) if len(row.images) == 3]
            stacked = np.stack([[table[table.ids.index(f"{key}#{i}")] for i in range(3)] for key in three])
            outputs = load(runs[name]).embed_to_text(stacked, num_beams=1)
            assert [output.text for output in outputs] == [wanted[key] for key in three]


def test_one_item_that_cant_be_read(runs, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    outputs = load(runs["set"])([[pictures / "p00.png", broken], pictures / "p01.png"], num_beams=1)
    assert str(broken) in outputs[0].error
    assert not outputs[1].error
    with pytest.raises(DataError, match="empty list"):
        load(runs["set"])([[], pictures / "p01.png"])


def test_folders_together_on_the_command_line(runs, pictures, tmp_path, cli, refused):
    """A folder is an item; a stopped file goes on; a table knows its items."""
    for name, numbers in {"a": (0, 1, 2), "b": (3, 4)}.items():
        (tmp_path / name).mkdir()
        for i in numbers:
            (tmp_path / name / f"{i}.png").write_bytes((pictures / f"p{i:02}.png").read_bytes())
    ran = cli("caption", runs["set"], tmp_path / "a", tmp_path / "b", "--together", "--json", "--num-beams", 1)
    said = [json.loads(line) for line in ran.out.splitlines()]
    items = [sorted((tmp_path / name).iterdir()) for name in "ab"]
    assert [line["text"] for line in said] == [output.text for output in load(runs["set"])(items, num_beams=1)]
    out = tmp_path / "out.jsonl"
    cli("caption", runs["set"], tmp_path / "a", tmp_path / "b", "--together", "--out", out, "--num-beams", 1)
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [line["text"] for line in said]
    assert "--together" in refused("caption", runs["set"], "--vectors", out, "--together")


class TestTraining:
    def test_sets_stay_apart_in_a_batch(self, data, tiny_encoder, tmp_path):
        """Vectors in the rows' order, the first where there are fewer, and a mask of those that are their own."""
        rows, encoder = RowFile(data), load_encoder(str(tiny_encoder))
        table = embed_texts(rows, encoder, tmp_path / "table")
        dataset = TextDataset(rows, get_task("caption"), table, several="set")
        batch = Collator(tiny.word_tokenizer(), "text", 32)([dataset[i] for i in range(3)])
        assert batch["embeds"].shape[:2] == (3, 3)
        assert batch["embeds_mask"].tolist() == [[True, False, False], [True, True, False], [True, True, True]]
        assert torch.allclose(batch["embeds"][1, :2], encoder.encode_text(list(rows[1].source)), atol=1e-6)
        assert torch.equal(batch["embeds"][0, 1:], batch["embeds"][0, :1].expand(2, -1))
        alone = Collator(tiny.word_tokenizer(), "text", 32)([dataset[0]])
        assert alone["embeds"].shape == (1, table.dim)
        assert "embeds_mask" not in alone
        found = [dataset[i] | {"neighbours": np.asarray(table[: 3 - i])} for i in range(3)]
        batch = Collator(tiny.word_tokenizer(), "text", 32)(found)
        assert batch["neighbours"].shape == (3, 3, table.dim)
        assert batch["neighbours_mask"].sum(1).tolist() == [3, 2, 1]
        assert Collator(tiny.word_tokenizer(), "text", 32)(found[2:])["neighbours"].shape == (1, 1, table.dim)

    @pytest.mark.parametrize(
        "options", [{}, {"save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": 2}]
    )
    def test_goes_on_to_the_same_bits(self, recipe, data, tmp_path, options):
        made = recipe({"epochs": 2, "batch_size": 3, **options}, data={"train": str(data)}, several="set")
        train(made, tmp_path / "whole")

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 4 - bool(options):
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path / "run", callbacks=[Stop()])
        train(made, tmp_path / "run", resume=True)
        weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")]
        assert weights[0] == weights[1]

    def test_small_batches_accumulated_are_one_big_batch(self, recipe, data, zoo, tmp_path):
        """Padding of a set differs between them; noise belongs to rows and vectors."""
        found = []
        for size, steps in ((9, 1), (3, 3)):
            options = {
                "optim": "sgd",
                "lr_scheduler_type": "constant",
                "epochs": 1,
                "batch_size": size,
                "gradient_accumulation_steps": steps,
            }
            made = recipe(options, data={"train": str(data)}, several="set", language_model=str(zoo("t5_still_dir")))
            found.append(load_file(train(made, tmp_path / f"{size}") / "model.safetensors"))
        for name, weight in found[0].items():
            assert torch.allclose(weight, found[1][name], atol=1e-5), name

    def test_images_and_what_is_missing(self, recipe, data, tmp_path):
        made = recipe({"epochs": 1, "batch_size": 8}, data={"train": str(data)}, several="set", train_on="image")
        run = train(made, tmp_path / "run")
        assert load(run).model.config.vectors == 3
        rows = [json.loads(line) for line in data.read_text().splitlines()]
        rows[1]["image"][1] = "gone.png"
        with pytest.raises(DataError, match="r1"):
            train(
                recipe(data={"train": str(tiny.write_jsonl(tmp_path / "gone.jsonl", rows))}, train_on="image"),
                tmp_path / "other",
            )

    def test_too_many_for_the_language_model(self, recipe, zoo, tmp_path):
        """Told before anything is embedded."""
        rows = [{"id": str(i), "source": tiny.sentences(12, seed=i), "target": "a dog"} for i in range(4)]
        path = tiny.write_jsonl(tmp_path / "many.jsonl", rows)
        model = {"language_model": str(zoo("gpt2_still_dir")), "several": "set"}
        with pytest.raises(RecipeError, match="too few"):
            train(recipe(data={"train": str(path)}, **model), tmp_path / "run")

    def test_another_way_is_refused(self, recipe):
        with pytest.raises(Exception, match="several"):
            recipe(several="both")

    def test_a_run_that_begins_from_one_takes_its_way(self, recipe, runs, data, tmp_path):
        made = recipe({"epochs": 1, "batch_size": 8}, data={"train": str(data)}).dump()
        kept = {key: made[key] for key in ("data", "training")} | {"init_from": str(runs["set"])}
        run = train(Recipe.model_validate(kept), tmp_path / "run")
        assert load(run).model.config.several == "set"


@pytest.mark.parametrize("several", ["mean", "set"])
def test_a_memory_is_searched_with_the_same_vector_in_training_and_in_use(recipe, data, tmp_path, monkeypatch, several):
    """Of a set the mean of its unit vectors, which are all that there is in use."""
    asked: dict[str, Any] = {}

    def spy(memory: Any, queries: Any, *args: Any, **kwargs: Any) -> Any:
        asked["training"] = torch.from_numpy(queries.main(range(9)))
        return find(memory, queries, *args, **kwargs)

    monkeypatch.setattr("close.training.retrieving.find", spy)
    made = recipe({"max_steps": 1}, data={"train": str(data)}, several=several, retrieve={"k": 2, "noise": None})
    captioner = load(train(made, tmp_path / "run"))
    rows = RowFile(data)
    table = embed_texts(rows, captioner.encoder, tmp_path / "table")
    used = embeddings_of(rows, get_task("caption"), table, several).batch(range(9)).main
    assert torch.allclose(asked["training"], used, atol=1e-6)


def test_main_is_the_unit_mean_of_what_counts():
    vectors = F.normalize(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    main = Sets(vectors, mask).main
    assert torch.allclose(main[0], F.normalize(vectors[0, :2].sum(0), dim=-1))
    assert torch.allclose(main[1], vectors[1, 0])
