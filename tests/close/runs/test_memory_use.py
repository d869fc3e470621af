"""A run that searches a memory, in use: what it finds for what it is given, in which memory, and what is told."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import CloseError, DataError, MissingError, RecipeError
from close.runs.calibrate import calibrate
from close.runs.card import Shown
from close.runs.evaluate import evaluate
from close.runs.merge import merge
from close.runs.pipeline import CloseCaptioner, load
from close.runs.publish import pack
from close.runs.recipe import Recipe
from close.serve.served import load_runs
from close.study.selection import selection_score
from close.training.train import train
from close.vectors.build import embed_texts

K = 3
WAYS: dict[str, dict[str, Any]] = {
    "vectors": {"into": "vectors", "noise": 0.67},
    "alone": {"into": "vectors", "main": False, "raw": True, "noisy": True},
    "captions": {"into": "captions"},
    "words": {"into": "words", "at_least": 1},
    "both": {"into": ["vectors", "captions"], "noise": 0.67},
}


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Texts of another domain."""
    rows = [{"id": f"o{i}", "source": text} for i, text in enumerate(tiny.sentences(20, seed=11))]
    return tiny.write_jsonl(tmp_path_factory.mktemp("others") / "others.jsonl", rows)


@pytest.fixture(scope="module")
def make(tiny_encoder, zoo, tmp_path_factory):
    """A run that retrieves, in a folder with the rows that are its memory."""

    def make(way: str, embed: bool = False, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp(way)
        rows = tiny.write_jsonl(folder / "captions.jsonl", tiny.caption_rows(32))
        values = {
            "data": {"train": str(rows)},
            "encoder": str(tiny_encoder),
            "language_model": str(zoo("t5_still_dir")),
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "save_strategy": "no"},
            "retrieve": {"k": K, **WAYS[way], **changes.pop("retrieve", {})},
        }
        return train(Recipe.model_validate(values | changes), folder / "run", embed_memory=embed)

    return make


@pytest.fixture(scope="module")
def runs(make) -> dict[str, Path]:
    return {way: make(way) for way in WAYS}


def found_by_hand(run: Path, memory: Path, queries: torch.Tensor) -> tuple[torch.Tensor, list[list[str]]]:
    """The raw vectors and the words of the K texts nearest to each query."""
    texts = list(dict.fromkeys(text for row in RowFile(memory) for text in row.source))
    raw = load(run).encoder.text_features(texts)
    best = (queries @ F.normalize(raw, dim=-1).T).topk(K).indices
    return raw[best], [[texts[place] for place in row] for row in best.tolist()]


def by_hand(run: Path, memory: Path, queries: torch.Tensor) -> list[str]:
    """What the run's model says of each query with what is found for it, put together here."""
    captioner, (raw, texts) = load(run), found_by_hand(run, memory, queries)
    retrieve = captioner.model.config.retrieve
    said = []
    for query, vectors, words in zip(queries, raw, texts, strict=True):
        prompt: dict[str, Any] = {}
        if "vectors" in retrieve["into"]:
            prompt = {"neighbours": (vectors if retrieve["raw"] else F.normalize(vectors, dim=-1))[None]}
        if "captions" in retrieve["into"]:
            prompt |= captioner.prompts([f"Similar images show {'; '.join(words)}."])
        if "words" in retrieve["into"]:
            content = [word for text in words for word in text.split() if word in (*tiny.COLOURS, *tiny.THINGS)]
            kept = [word for word in dict.fromkeys(word for text in words for word in text.split()) if word in content]
            prompt = captioner.prompts([f"There are {', '.join(kept)} in image."])
        ids = captioner.model.generate(query[None], "image", **prompt, num_beams=1)
        said.append(captioner.tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    return said


@pytest.fixture(scope="module")
def shown(pictures) -> list[Path]:
    return sorted(pictures.iterdir())[:5]


@pytest.mark.parametrize("way", ["vectors", "alone", "captions", "both"])
class TestWays:
    def test_says_what_is_found_by_hand(self, runs, way, shown, others):
        """In the memory that it was trained with, in another one, of files and of vectors."""
        memory = runs[way].parent / "captions.jsonl"
        queries = load(runs[way]).encoder.encode_image(shown)
        wanted = by_hand(runs[way], memory, queries)
        captioner = load(runs[way])
        assert [output.text for output in captioner(shown, num_beams=1, batch_size=2)] == wanted
        assert [output.text for output in captioner.embed_to_text(queries, num_beams=1)] == wanted
        exchanged = load(runs[way], memory=others)
        assert [output.text for output in exchanged(shown, num_beams=1)] == by_hand(runs[way], others, queries)

    def test_rows_of_a_file(self, runs, way, shown, tmp_path, others):
        data = tiny.write_jsonl(
            tmp_path / "data.jsonl",
            [{"id": path.name, "image": str(path), "source": f"a red dog {path.stem}"} for path in shown],
        )
        said = evaluate(runs[way], data, folder=tmp_path / "out", num_beams=1, memory=others)
        lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
        queries = load(runs[way]).encoder.encode_image(shown)
        assert [line["text"] for line in lines] == by_hand(runs[way], others, queries)
        assert said["memory"] == RowFile(others).sha256

    def test_texts_do_not_find_themselves(self, runs, way):
        """Rows of the memory itself, given as texts: their neighbours are other texts."""
        captioner = load(runs[way])
        texts = [row.source[0] for row in RowFile(runs[way].parent / "captions.jsonl")][:4]
        queries = captioner.encoder.encode_text(texts)
        items, contexts = captioner.memory.found(_sets(queries), [""] * 4, "text")
        if items.neighbours is not None:
            near = F.normalize(items.neighbours, dim=-1) @ queries[:, :, None]
            assert near.shape == (4, K, 1)
            assert near.max() < 1 - 1e-6
        assert not any(text in context for text, context in zip(texts, contexts, strict=True) if len(text) > 20)
        outputs = captioner.embed_to_text(queries, modality="text", num_beams=1)
        assert len(outputs) == 4

    def test_candidates_and_their_order(self, runs, way, shown):
        outputs = load(runs[way])(shown[:2], n=3, rerank="clip")
        for output in outputs:
            cosines = [one.cosine for one in output.candidates if one.cosine is not None]
            assert cosines == sorted(cosines, reverse=True)
            assert len({one.text for one in output.candidates}) == len(output.candidates)


def _sets(vectors: torch.Tensor) -> Any:
    from close.model.sets import Sets

    return Sets(vectors)


def test_words_are_those_that_were_found(runs, shown):
    captioner = load(runs["words"])
    queries = captioner.encoder.encode_image(shown)
    _, contexts = captioner.memory.found(_sets(queries), ["what is it?"] * len(shown), "image")
    _, texts = found_by_hand(runs["words"], runs["words"].parent / "captions.jsonl", queries)
    for context, found in zip(contexts, texts, strict=True):
        assert context.startswith("what is it? There are ")
        said = context.removeprefix("what is it? There are ").removesuffix(" in image.").split(", ")
        assert set(said) <= {word for text in found for word in text.split()}
        assert said


def test_calibrated_for_one_memory(runs, pictures, others, tmp_path, cli, caplog):
    data = tiny.write_jsonl(
        tmp_path / "val.jsonl",
        [{"id": f"{i}", "image": str(tiny.picture(tmp_path / "images" / f"{i}.png", i)), "references": ["a red dog", "a dog"]}
         for i in range(44)],
    )  # fmt: skip
    run = tmp_path / "run"
    shutil.copytree(runs["vectors"], run)
    shutil.copy(runs["vectors"].parent / "captions.jsonl", tmp_path / "captions.jsonl")
    ran = cli("calibrate", run, data, "--metric", "rouge_l", "--num-beams", 1)
    assert ran.code == 0, ran.err
    assert load(run)(pictures / "p00.png", num_beams=1).confidence is not None
    assert load(run, memory=others)(pictures / "p00.png", num_beams=1).confidence is None
    assert "memory" in caplog.text


class TestPlaces:
    def test_info_tells_it(self, runs, cli):
        about = json.loads(cli("info", runs["vectors"], "--json").out)
        assert about["retrieve"]["k"] == K
        assert about["memory_is"]["where"] == "by reference"
        assert about["memory_is"]["path"].endswith("captions.jsonl")

    def test_on_the_command_line(self, runs, shown, others, cli, tmp_path):
        ran = cli("caption", runs["captions"], *shown, "--memory", others, "--num-beams", 1, "--json")
        said = [json.loads(line)["text"] for line in ran.out.splitlines()]
        assert said == by_hand(runs["captions"], others, load(runs["captions"]).encoder.encode_image(shown))
        embed_texts(RowFile(others), load(runs["vectors"]).encoder, tmp_path / "table")
        for memory in (others, tmp_path / "table"):
            ran = cli("caption", runs["vectors"], *shown, "--memory", memory, "--num-beams", 1, "--json")
            said = [json.loads(line)["text"] for line in ran.out.splitlines()]
            assert said == by_hand(runs["vectors"], others, load(runs["vectors"]).encoder.encode_image(shown))

    @pytest.mark.parametrize("way", ["vectors", "captions"])
    def test_inside_the_run(self, make, way, shown, tmp_path, cli, told):
        """Embedded in training, or put in later; the rows may go."""
        run = make(way, embed=True)
        before = [output.text for output in load(run)(shown, num_beams=1)]
        (run.parent / "captions.jsonl").unlink()
        moved = shutil.copytree(run, tmp_path / "elsewhere")
        assert [output.text for output in load(moved)(shown, num_beams=1)] == before
        assert json.loads(cli("info", moved, "--json").out)["memory_is"]["where"] == "in this folder"
        assert "already" in told("merge", moved, tmp_path / "again")
        for place in (moved, moved / "memory"):  # as a memory of others
            assert [output.text for output in load(run, memory=place)(shown, num_beams=1)] == before

    def test_put_in_later_and_exchanged(self, runs, shown, others, tmp_path):
        run = runs["captions"]
        wanted = [output.text for output in load(run)(shown, num_beams=1)]
        assert [output.text for output in load(merge(run, tmp_path / "whole"))(shown, num_beams=1)] == wanted
        other = load(merge(run, tmp_path / "other", memory=others))
        assert [output.text for output in other(shown, num_beams=1)] == by_hand(
            run, others, load(run).encoder.encode_image(shown)
        )

    def test_in_another_process(self, runs, shown, others):
        import pickle

        exchanged = load(runs["vectors"], memory=others)
        again: CloseCaptioner = pickle.loads(pickle.dumps(exchanged))
        assert [one.text for one in again(shown, num_beams=1)] == [one.text for one in exchanged(shown, num_beams=1)]


def test_searched_in_another_encoder(make, zoo, shown, others, tmp_path):
    """IFCap: neighbours are found by one encoder, and are vectors of another."""
    run = make("vectors", retrieve={"encoder": str(zoo("hf_clip_dir")), "noise": None})
    other, captioner = load_encoder(str(zoo("hf_clip_dir"))), load(run)
    texts = list(dict.fromkeys(row.source[0] for row in RowFile(run.parent / "captions.jsonl")))
    best = (other.encode_image(shown) @ other.encode_text(texts).T).topk(K).indices
    vectors = captioner.encoder.encode_text(texts)[best]
    queries = captioner.encoder.encode_image(shown)
    ids = captioner.model.generate(queries, "image", neighbours=vectors, num_beams=1)
    wanted = [text.strip() for text in captioner.tokenizer.batch_decode(ids, skip_special_tokens=True)]
    assert [output.text for output in captioner(shown, num_beams=1, batch_size=2)] == wanted
    with pytest.raises(CloseError, match="searches its memory in encoder"):
        captioner.embed_to_text(queries)
    with pytest.raises(CloseError, match="searches its memory in another encoder"):
        load_runs([run])
    rows = [{"id": path.name, "image": str(path), "source": "a red dog"} for path in shown]
    evaluate(captioner, tiny.write_jsonl(tmp_path / "rows.jsonl", rows), folder=tmp_path / "out", num_beams=1)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == wanted


def test_what_the_other_encoder_can_not_read_is_told(make, zoo, shown):
    captioner = load(make("captions", retrieve={"encoder": str(zoo("hf_clip_dir"))}))
    search = captioner.memory.search()
    read = search.image_batches

    def gone(items: Any, size: int) -> Any:
        for features, errors in read(items, size):
            features[0] = float("nan")
            yield features, errors | {0: DataError("gone.png: no such file")}

    search.image_batches = gone
    outputs = captioner(shown, num_beams=1)
    assert [output.error for output in outputs] == ["gone.png: no such file"] + [None] * (len(shown) - 1)
    with pytest.raises(DataError, match="a vector to search with is not finite"):
        captioner.memory.finder(torch.full((1, search.embed_dim), float("nan")), "image")


def test_merged_elsewhere_it_searches_and_is_as_sure(make, zoo, tmp_path):
    """In its other encoder, wherever that lies from there, and with its calibration."""
    run = make("vectors", retrieve={"encoder": str(zoo("hf_clip_dir")), "noise": None})
    files = [tiny.picture(tmp_path / f"{i}.png", i) for i in range(44)]
    told = [{"image": str(path), "source": text} for path, text in zip(files, tiny.sentences(44), strict=True)]
    rows = tiny.write_jsonl(tmp_path / "rows.jsonl", told)
    calibrate(run, rows, num_beams=1, metric="rouge_l")
    before = load(run)(files[:5], num_beams=1)
    assert None not in [output.confidence for output in before]
    out = merge(run, tmp_path / "elsewhere" / "deeper" / "whole")
    assert load(out)(files[:5], num_beams=1) == before
    assert load(merge(run, tmp_path / "other", memory=rows))(files[0], num_beams=1).confidence is None
    captions = [{"source": text, "group": str(i // 2)} for i, text in enumerate(tiny.sentences(12))]
    assert selection_score(run, tiny.write_jsonl(tmp_path / "val.jsonl", captions), num_beams=1)["rows"] == 6


def test_a_table_is_read_by_its_columns(make, shown, tmp_path):
    """The training rows are the memory, and what of them is text was said in the recipe."""
    table = tmp_path / "table.csv"
    table.write_text("first,second\n" + "".join(f"{i},{text}\n" for i, text in enumerate(tiny.sentences(20))))
    run = make("captions", data={"train": str(table), "columns": {"source": "second"}})
    assert load(run)(shown[0], num_beams=1).error is None


def test_judged_by_a_score_while_it_is_trained(make, captions):
    training = {"epochs": 2, "batch_size": 16, "metric_for_best": "bleu_4", "metric_rows": 8, "eval_strategy": "epoch"}
    data = {"train": str(captions), "val": str(captions)}
    run = make("captions", training={**training, "save_strategy": "epoch", "learning_rate": 1e-2}, data=data)
    assert json.loads((run / "run.json").read_text())["best"]["metric"] == "bleu_4"


class TestBadInput:
    """One line each."""

    def test_memories_that_do_not_fit(self, runs, zoo, shown, others, tmp_path, told):
        few = tiny.write_jsonl(tmp_path / "few.jsonl", tiny.caption_rows(2))
        other = load_encoder(str(zoo("hf_clip_dir")))
        embed_texts(RowFile(others), other, tmp_path / "other")
        embed_texts(RowFile(others), load(runs["vectors"]).encoder, tmp_path / "table")
        np.save(tmp_path / "plain.npy", np.ones((30, 8), np.float32))
        for way, memory, says in (
            ("vectors", few, "2 different texts"),
            ("vectors", tmp_path / "other", "encoder"),
            ("captions", tmp_path / "table", "words"),
            ("vectors", tmp_path / "nowhere.jsonl", "no such"),
            ("vectors", shown[0], str(shown[0])),
            ("vectors", tmp_path / "plain.npy", "plain.npy: neither rows"),
            ("vectors", shown[0].parent, "neither rows"),
            ("vectors", runs["captions"], "a run that holds none"),
        ):
            assert says in told("caption", runs[way], shown[0], "--memory", memory)

    def test_a_memory_that_changed_or_is_gone(self, runs, shown, tmp_path, told, cli):
        run, rows = shutil.copytree(runs["vectors"], tmp_path / "run"), tmp_path / "captions.jsonl"
        message = told("caption", run, shown[0])
        assert "captions.jsonl" in message
        assert "--memory" in message
        assert json.loads(cli("info", run, "--json").out)["memory_is"]["gone"]
        tiny.write_jsonl(rows, tiny.caption_rows(20, seed=3))
        assert "changed" in told("caption", run, shown[0])
        assert cli("caption", run, shown[0], "--memory", rows).code == 0

    def test_a_memory_in_the_run_that_is_not_its_own(self, make, others, shown, tmp_path, told):
        """Of rows and tables each must be what the run was saved with: the vectors of other texts are other neighbours."""
        run = make("vectors", embed=True)
        table = embed_texts(RowFile(others), load(run).encoder, tmp_path / "table")

        def gone(place: Path) -> None:
            shutil.rmtree(place) if place.is_dir() else place.unlink()

        def another(place: Path) -> None:
            gone(place)
            shutil.copytree(table.path, place) if place.name == "table" else shutil.copy(others, place)

        for number, (part, change) in enumerate(
            [("table", another), ("rows.jsonl", another), ("table", gone), ("rows.jsonl", gone)]
        ):
            copy = shutil.copytree(run, tmp_path / f"copy{number}")
            change(copy / "memory" / part)
            message = told("caption", copy, shown[0])
            assert f"is not what {copy} was saved with; copy the run anew" in message

    @pytest.mark.parametrize(
        "changed",
        [{"encoder": 5}, {"memory": "x"}, {"memory": {"reference": 3}}, {"memory": {"reference": "x", "columns": 3}},
         {"memory": {"reference": "x", "columns": {"source": []}}}, {"k": "5"}, {"into": 3}],
    )  # fmt: skip
    def test_a_configuration_that_was_damaged(self, runs, shown, others, tmp_path, told, changed):
        run = shutil.copytree(runs["vectors"], tmp_path / "run")
        values = json.loads((run / "config.json").read_text())
        values["retrieve"] |= changed
        (run / "config.json").write_text(json.dumps(values))
        for command in (("info", run), ("caption", run, shown[0]), ("caption", run, shown[0], "--memory", others)):
            assert "can't be" in told(*command)

    def test_a_configuration_that_names_no_memory(self, runs, shown, others, tmp_path, told, cli):
        run = shutil.copytree(runs["vectors"], tmp_path / "run")
        values = json.loads((run / "config.json").read_text())
        values["retrieve"]["memory"] = None
        (run / "config.json").write_text(json.dumps(values))
        assert "give one (--memory)" in told("caption", run, shown[0])
        assert json.loads(cli("info", run, "--json").out)["memory_is"]["gone"]
        assert cli("caption", run, shown[0], "--memory", others).code == 0

    def test_a_memory_is_not_put_into_a_run_that_is_finished(self, make, told, cli):
        for embed in (False, True):
            run = make("vectors", embed=embed)
            command = ("train", run / "recipe.yaml", "--out", run, "--resume", "--embed-memory")
            if embed:
                assert cli(*command).code == 0
            else:
                assert "was finished without its memory in it: close merge" in told(*command)

    def test_a_run_that_searches_none(self, train_small, shown, others, tmp_path, told):
        run = train_small(epochs=1, save_strategy="no")
        assert "retrieve" in told("caption", run, shown[0], "--memory", others)
        recipe = Recipe.model_validate({"data": {"train": str(others)}})
        with pytest.raises(CloseError, match="retrieve"):
            train(recipe, tmp_path / "run", embed_memory=True)


def test_served_with_another_memory(runs, shown, others):
    served = load_runs([runs["captions"]], device="cpu", memory=others)["run"].captioner
    queries = served.encoder.encode_image(shown)
    assert [output.text for output in served(shown, num_beams=1)] == by_hand(runs["captions"], others, queries)


def test_a_memory_is_served_to_those_that_search_one(runs, train_small, others):
    without = train_small(epochs=1, save_strategy="no")
    two = load_runs([without.rename(without.with_name("none")), runs["captions"]], device="cpu", memory=others)
    assert [bool(served.captioner.memory) for served in two.values()] == [False, True]
    assert two["run"].captioner.memory.given == others
    with pytest.raises(RecipeError, match="no run here searches a memory: none were trained without 'retrieve'"):
        load_runs([without.with_name("none")], device="cpu", memory=others)


def test_word_lists_of_ones_own_go_with_the_run(make, zoo, shown, tmp_path, monkeypatch):
    """Into it, onto the hub, and into what is merged; those of a run of before, which names them, too."""
    lists = tmp_path / "lists" / "mine.toml"
    lists.parent.mkdir()
    lists.write_text('function = "a the"\nmodifiers = "red"\nadverb_endings = []\ninflections = []\n')
    run, text = make("words", retrieve={"language": str(lists)}, tune="none"), lists.read_text()
    config = json.loads((run / "config.json").read_text())
    assert config["retrieve"]["language"] == "words.toml"
    before = load(run)(shown, num_beams=1)
    old = shutil.copytree(run, run.with_name("old"))
    (old / "words.toml").unlink()
    named = {**config["retrieve"], "language": os.path.relpath(lists, old)}
    (old / "config.json").write_text(json.dumps(config | {"retrieve": named}))
    for number, one in enumerate((run, old)):
        parcel = pack(one, Shown("me/birds"))
        what = parcel.files["words.toml"]
        assert (what if isinstance(what, bytes) else what.read_bytes()).decode() == text
        config_there = parcel.files["config.json"]
        assert isinstance(config_there, bytes)
        assert json.loads(config_there)["retrieve"]["language"] == "words.toml"
        merge(one, tmp_path / f"{number}")
    lists.unlink()
    assert load(run)(shown, num_beams=1) == load(tmp_path / "0")(shown, num_beams=1) == before
    assert load(tmp_path / "1")(shown, num_beams=1) == before
    with pytest.raises(MissingError, match=r"mine\.toml: no such file, the word lists that .*old finds words by"):
        pack(old, Shown("me/birds"))
    lists.write_text(text)
    monkeypatch.setattr(
        "close.runs.recipe_file.seen_from", lambda place, folder: None
    )  # nothing in common but the root
    apart = make("words", retrieve={"language": str(lists)}, tune="none")
    assert (apart / "words.toml").read_text() == text
