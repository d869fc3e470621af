"""Several texts for one item: against transformers' own search, exact likelihoods and the encoder's own vectors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pyarrow import parquet

import close
from close.errors import RecipeError, UnknownNameError
from close.io.results import ResultFile
from close.runs.answering import TREES
from close.runs.pipeline import Candidate, CloseCaptioner
from close.runs.predict import decoding_of
from close.runs.recipe import Recipe
from close.tasks import Task
from close.training.train import train


@pytest.fixture(scope="module")
def run(train_small) -> Path:
    return train_small(epochs=4, learning_rate=2e-2, save_strategy="no")


@pytest.fixture(scope="module")
def captioner(run: Path) -> CloseCaptioner:
    return close.load(run, device="cpu")


def texts(output: Any) -> list[str]:
    return [candidate.text for candidate in output.candidates]


@pytest.mark.parametrize(("n", "beams"), [(3, 5), (7, 7)])
def test_the_best_of_the_search(captioner, pictures, n, beams):
    """What transformers finds with as many beams, each text once."""
    paths = sorted(pictures.iterdir())[:4]
    outputs = captioner(paths, n=n)
    prompt, mask = captioner.model.prompt(captioner.encoder.encode_image(paths), "image")
    wanted = captioner.model.language_model.generate(
        inputs_embeds=prompt,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=captioner.model.generation_config.max_new_tokens,
        return_dict_in_generate=True,
        output_scores=True,
    )
    said = captioner.tokenizer.batch_decode(wanted.sequences, skip_special_tokens=True)
    for row, output in enumerate(outputs):
        mine = slice(row * beams, (row + 1) * beams)
        found: dict[str, float] = {}
        for text, score in zip(said[mine], wanted.sequences_scores[mine].tolist(), strict=True):
            found.setdefault(text.strip(), score)
        assert texts(output) == list(found)[:n]
        assert [c.score for c in output.candidates] == pytest.approx(list(found.values())[:n], abs=1e-4)
        assert (output.text, output.score) == output.candidates[0][:2]
    assert [captioner(path, n=n).candidates for path in paths] == [
        tuple(Candidate(c.text, pytest.approx(c.score, abs=1e-4)) for c in output.candidates) for output in outputs
    ]
    assert [output.text for output in captioner(paths, num_beams=beams)] == [output.text for output in outputs]


def test_other_names_of_n(captioner, pictures):
    path = pictures / "p00.png"
    wanted = captioner(path, n=3)
    assert len(set(texts(wanted))) == 3
    assert captioner(path, num_return_sequences=3) == captioner(path, n=3, num_return_sequences=3) == wanted
    assert captioner(path, n=3, num_beams=1).candidates == captioner(path, n=3, num_beams=3).candidates
    assert (captioner(path).candidates, len(captioner(path, n=np.int64(1)).candidates)) == ((), 1)
    wrong: list[dict[str, Any]] = [
        {"n": 0},
        {"n": 101},
        {"n": True},
        {"n": 2.0},
        {"n": "2"},
        {"num_return_sequences": 0},
    ]
    for settings in (*wrong, {"n": 2, "num_return_sequences": 3}):
        with pytest.raises(RecipeError, match=r"^n is "):
            captioner(path, **settings)
    with pytest.raises(UnknownNameError, match="did you mean 'clip'"):
        captioner(path, rerank="clips")


def test_samples_are_drawn_until_they_differ(captioner, pictures):
    settings = {"n": 6, "do_sample": True, "num_beams": 1}
    torch.manual_seed(0)
    outputs = captioner(pictures, temperature=3.0, **settings)
    assert all(len(set(texts(output))) == 6 for output in outputs)
    for output in outputs:
        scores = [candidate.score for candidate in output.candidates]
        assert scores == sorted(scores, reverse=True)
    torch.manual_seed(0)
    assert captioner(pictures, temperature=3.0, **settings) == outputs
    few = captioner(pictures, top_k=2, max_new_tokens=1, **settings)  # two tokens, so two texts at most
    assert {len(output.candidates) for output in few} <= {1, 2}


@pytest.mark.parametrize("decode", ["tree", "score"])
def test_the_likeliest_labels(captioner, pictures, decode):
    labels = ["a red dog", "a red cat", "a dog", "red", "a blue boat by the sea"]
    path, settings = pictures / "p01.png", {"labels": labels, "decode": decode}
    likeliest = list(captioner(path, labels=labels, decode="score").probabilities)
    assert texts(captioner(path, n=3, **settings | {"decode": "score"})) == likeliest[:3]
    assert len(set(texts(captioner(path, n=3, **settings)))) == 3
    assert sorted(texts(captioner(path, n=20, **settings))) == sorted(labels)  # nothing else, and no label twice
    if decode == "tree":
        sampled = captioner(path, n=2, do_sample=True, num_beams=1, **settings)
        assert set(texts(sampled)) <= set(labels)


def test_ranked_by_the_encoder(captioner, pictures):
    paths = sorted(pictures.iterdir())[:5]
    plain, ranked = captioner(paths, n=4), captioner(paths, n=4, rerank="clip")
    for path, before, after in zip(paths, plain, ranked, strict=True):
        embed = captioner.encoder.encode_image(path)[0]
        wanted = {text: float(captioner.encoder.encode_text(text)[0] @ embed) for text in texts(before)}
        assert texts(after) == sorted(wanted, key=wanted.__getitem__, reverse=True)
        assert [c.cosine for c in after.candidates] == pytest.approx(sorted(wanted.values(), reverse=True), abs=1e-5)
        assert {c.text: c.score for c in after.candidates} == {c.text: c.score for c in before.candidates}
        assert (after.text, after.score) == after.candidates[0][:2]
    assert captioner(paths, rerank="clip") == captioner(paths, n=5, rerank="clip")  # one alone is not ranked
    assert any(texts(a) != texts(b) for a, b in zip(plain, ranked, strict=True))


def test_an_empty_text_comes_last(captioner, pictures):
    from close.runs.candidates import by_cosine, with_cosines

    embeds = captioner.encoder.encode_image(pictures / "p00.png")
    several = [[Candidate("", -0.1), Candidate("a dog", -3.0)]]
    ranked = by_cosine(with_cosines(several, embeds, captioner.encoder))
    assert [(c.text, c.cosine is None) for c in ranked[0]] == [("a dog", False), ("", True)]
    assert with_cosines([several[0][:1]], embeds, captioner.encoder) == [(Candidate("", -0.1),)]


def test_on_the_command_line(cli, run, captioner, pictures, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    one, command = (
        pictures / "p00.png",
        ("caption", run, pictures, tmp_path / "broken.png", "--n", 3, "--rerank", "clip"),
    )
    wanted = captioner(pictures, n=3, rerank="clip")
    printed = cli(*command)
    assert printed.code == 1
    rows = [line.split("\t") for line in printed.out.splitlines()]
    assert [row[3] for row in rows] == [text for output in wanted for text in texts(output)]
    assert [float(row[2]) for row in rows] == pytest.approx([c.cosine for o in wanted for c in o.candidates], abs=1e-3)
    told = [json.loads(line) for line in cli(*command, "--json").out.splitlines()]
    assert [[c["text"] for c in row["candidates"]] for row in told[:-1]] == [texts(output) for output in wanted]
    assert (told[0]["text"], set(told[0]["candidates"][0])) == (wanted[0].text, {"text", "score", "cosine"})
    for name in ("out.jsonl", "out.parquet"):
        assert cli(*command, "--out", tmp_path / name).code == 1
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == told
    found = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["candidates"] or None for row in found] == [row.get("candidates") for row in told]
    ranked = cli("caption", run, one, "--rerank", "clip").out.splitlines()
    assert [line.split("\t")[3] for line in ranked] == [captioner(one, n=5, rerank="clip").text]
    few = cli("caption", run, one, "--n", 5, "--sample", "--top-p", 1e-6)
    assert (few.code, len(few.out.splitlines())) == (0, 1)
    assert few.messages == ["note: 1 of 1 items have fewer than 5 distinct candidates"]


def test_samples_of_a_job_that_is_spread(cli, run, pictures, monkeypatch):
    command = ("caption", run, pictures, pictures / "p00.png", "--batch-size", 4, "--sample", "--seed", 7, "--json")
    alone = cli(*command)
    monkeypatch.setattr("close.cli.caption.pick_engine", lambda *_: lambda work, parts: map(work, parts))
    assert cli(*command).out == alone.out


def test_what_a_job_in_parts_tells_is_of_all_its_items(cli, run, pictures, tmp_path, monkeypatch):
    command = ("caption", run, pictures, "--batch-size", 4, "--sample", "--top-p", 1e-6, "--n", 2, "--out")
    assert cli(*command, tmp_path / "whole.jsonl").messages == [
        "note: 12 of 12 items have fewer than 2 distinct candidates"
    ]
    write, rows = ResultFile.write, []

    def stopped(results: ResultFile, row: dict[str, Any]) -> None:
        if len(rows) == 9:
            raise KeyboardInterrupt
        rows.append(row)
        write(results, row)

    with monkeypatch.context() as patch:
        patch.setattr(ResultFile, "write", stopped)
        assert cli(*command, tmp_path / "cut.jsonl").code == 130
    ran = cli(*command, tmp_path / "cut.jsonl")
    assert ran.messages == ["note: 12 of 12 items have fewer than 2 distinct candidates"]


@pytest.mark.parametrize("decode", ["score", "tree"])
def test_a_label_that_is_given_twice_is_one(captioner, pictures, decode):
    path, once = next(pictures.iterdir()), ["a red dog", "a cat", "a boat"]
    twice = ["a red dog", "a cat", "a red dog", "a boat", "a cat"]
    wanted, found = (captioner(path, labels=labels, decode=decode, n=5) for labels in (once, twice))
    assert found == wanted
    assert len(texts(found)) == 3
    assert found.probabilities is None or sum(found.probabilities.values()) == pytest.approx(1)
    assert captioner(path, labels=tuple(twice), decode=decode).text == wanted.text


@pytest.mark.parametrize("decode", ["score", "tree"])
def test_labels_that_have_no_place_behind_so_many_vectors(zoo, recipe, decode, tmp_path):
    run = train(recipe({"max_steps": 1}, language_model=str(zoo("gpt2_dir"))), tmp_path / "run")
    many = torch.nn.functional.normalize(torch.randn(1, 20, 16), dim=-1)
    with pytest.raises(RecipeError, match="behind a prompt of 80 tokens, and the language model has 64 places"):
        close.load(run, device="cpu").answer(many, [""], labels=["a dog", "a cat"], decode=decode)


ODD = ["  a red dog ", "a  CAT", "a bird 日本", "日本"]


@pytest.mark.parametrize("decode", ["score", "tree"])
def test_labels_are_said_as_they_were_given(captioner, pictures, decode):
    """Whatever a tokenizer makes of spaces, capitals, and pieces that it does not know."""
    assert sorted(texts(captioner(next(pictures.iterdir()), labels=ODD, decode=decode, n=9))) == sorted(ODD)


class Lowered(Task):
    """Its targets are those of every task, in lower case."""

    name, labels = "lowered", ("A Cat", "a red Dog")


class Named(Task):
    """Its answers are scored as those of VQA, and learnt as every task's targets."""

    name, metric = "named", "vqa"


class Stated(Lowered):
    """Its targets are what it makes of a row itself."""

    def targets(self, row: Any) -> tuple[str, ...]:
        return (row.label,)


def test_labels_are_read_in_the_case_that_was_learnt(zoo, captions, tiny_encoder, pictures, tmp_path, monkeypatch):
    values = {"data": {"train": str(captions)}, "encoder": str(tiny_encoder), "language_model": str(zoo("gpt2_dir"))}
    values["training"] = {"max_steps": 1, "batch_size": 16, "save_strategy": "no"}
    photo, written, lower = next(pictures.iterdir()), ["A red Dog", "a Cat"], ["a red dog", "a cat"]
    (tmp_path / "labels.txt").write_text("\n".join(written))
    for lowercase in (True, False):
        run = train(Recipe.model_validate(values | {"lowercase": lowercase}), tmp_path / f"{lowercase}")
        captioner = close.load(run, device="cpu")
        for decode in ("tree", "score"):
            said = [captioner(photo, labels=labels, decode=decode, n=2).candidates for labels in (written, lower)]
            assert sorted(one.text for one in said[0]) == written
            assert ([one.score for one in said[0]] == [one.score for one in said[1]]) == lowercase
        from_file = decoding_of(captioner, captioner.task, None, False, tmp_path / "labels.txt", None).labels
        assert from_file == tuple(lower if lowercase else written)
        rows = tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": "x", "target": "a Dog", "context": "?"}])
        monkeypatch.setattr("close.runs.predict.training_file", lambda *_, rows=rows: (rows, None))
        learnt = decoding_of(captioner, Named(), "tree", False, None, None).labels
        assert learnt == (("a dog",) if lowercase else ("a Dog",))
    with pytest.raises(RecipeError, match="reads labels in lower case, where 'dog' and 'Dog' are the same"):
        close.load(tmp_path / "True", device="cpu")(photo, labels=["dog", "Dog"])
    for task, decode in itertools.product((Lowered, Stated), ("tree", "score")):
        found = []
        for captioner.lowercase in (True, False):
            captioner.task = task()
            found.append(captioner(photo, decode=decode, n=2).candidates)
        assert sorted(one.text for one in found[0]) == sorted(task.labels)
        assert (found[0] == found[1]) == (task is Stated)  # what a task makes of a row itself is learnt as it is


@pytest.mark.parametrize("labels", ["yes", 3, ["a", 3], ["a", ""], ["a", None], {"a": 1}])
@pytest.mark.parametrize("decode", ["score", "tree", "free"])
def test_labels_that_are_none(captioner, pictures, labels, decode):
    with pytest.raises(RecipeError, match="labels"):
        captioner(next(pictures.iterdir()), labels=labels, decode=decode)


def test_trees_of_a_few_closed_sets_are_kept(captioner, pictures):
    photo = next(pictures.iterdir())
    for number in range(TREES + 3):
        captioner(photo, labels=["red", f"green {number}"])
        captioner(photo, labels=["red", "blue"])
    assert len(captioner._trees) == TREES
    assert list(captioner._trees)[-2:] == [(True, "red", f"green {TREES + 2}"), (True, "red", "blue")]
