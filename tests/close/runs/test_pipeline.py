"""A saved run in use: every kind of item, honest scores, errors that name the item."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import IO, get_args, get_overloads, get_type_hints

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import GenerationConfig

import close
from close.encoders import load_encoder
from close.errors import CloseError, DataError, MismatchError, MissingError, RecipeError, UnknownNameError
from close.runs.candidates import DRAWING
from close.runs.evaluate import evaluate
from close.runs.pipeline import CloseCaptioner, Item, Output
from close.runs.recipe import Recipe
from close.training.train import train
from close.vectors.table import EmbeddingTable

TEXTS = tiny.sentences(8)


@pytest.fixture(scope="module")
def run(train_small) -> Path:
    return train_small(epochs=4, learning_rate=2e-2, save_strategy="no")


@pytest.fixture(scope="module")
def captioner(run: Path) -> CloseCaptioner:
    return close.load(run, device="cpu")


@pytest.fixture(scope="module")
def questions(tiny_encoder: Path, zoo, tmp_path_factory: pytest.TempPathFactory) -> CloseCaptioner:
    folder = tmp_path_factory.mktemp("vqa")
    rows = [
        {"source": text, "context": f"what {kind}?", "target": text.split()[place]}
        for text in TEXTS
        for kind, place in (("colour", 1), ("thing", 2))
    ]
    values = {
        "task": "vqa",
        "data": {"train": str(tiny.write_jsonl(folder / "vqa.jsonl", rows))},
        "encoder": str(tiny_encoder),
        "language_model": str(zoo("t5_still_dir")),
        "adapter": "none",
        "training": {"epochs": 150, "batch_size": 16, "learning_rate": 2e-2, "save_strategy": "no"},
    }
    return close.load(train(Recipe.model_validate(values), folder / "run"))


def test_every_form_of_one_picture(captioner, pictures):
    path = pictures / "p00.png"
    picture = Image.open(path)
    wanted = captioner(path)
    assert wanted.item == str(path)
    for same in (str(path), picture, np.asarray(picture)):
        assert (captioner(same).text, captioner(same).score) == (wanted.text, pytest.approx(wanted.score, abs=1e-5))
    assert str(wanted) == wanted.text
    encoder = captioner.encoder
    about = f"task='caption', encoder={captioner.model.config.encoder!r}, device='cpu'"
    assert repr(captioner) == f"CloseCaptioner({captioner.name!r}, {about})"
    about = f"embed_dim={encoder.embed_dim}, device='cpu', precision='fp32'"
    assert repr(encoder) == f"{type(encoder).__name__}({encoder.name!r}, {about})"
    assert wanted.to_dict() == {"text": wanted.text, "score": wanted.score, "item": str(path), "error": None}


def test_a_run_stays_the_same_wherever_one_goes(captioner, pictures, tmp_path, monkeypatch):
    shutil.copytree(captioner.name, tmp_path / "here" / "run")
    monkeypatch.chdir(tmp_path / "here")
    loaded = close.load("run")
    monkeypatch.chdir(tmp_path)
    assert loaded.name == "run"
    assert [one.folder for one in (loaded, deepcopy(loaded))] == [(tmp_path / "here" / "run").resolve()] * 2
    assert deepcopy(loaded)(pictures / "p00.png") == loaded(pictures / "p00.png")
    shutil.copytree(captioner.name, "run")  # another one of that name
    rows = tiny.write_jsonl(
        tmp_path / "rows.jsonl", [{"image": str(pictures / "p00.png"), "target": "a red dog", "source": "a red dog"}]
    )
    found = evaluate(loaded, rows, tokenizer="python", metrics=["cider"])
    assert Path(found["folder"]) == loaded.folder / "evaluations" / "rows-image"
    assert not Path("run/evaluations").exists()
    shutil.rmtree(loaded.folder)
    with pytest.raises(MissingError, match="the run is not there any more"):
        evaluate(loaded, rows, tokenizer="python", metrics=["cider"])


def test_lists_and_folders(captioner, pictures):
    paths = sorted(pictures.iterdir())
    outputs = captioner(pictures)
    assert [output.item for output in outputs] == [str(path) for path in paths]
    for listed in (captioner(paths), captioner([str(pictures)]), captioner(paths, batch_size=5)):
        assert [output.text for output in listed] == [output.text for output in outputs]
        assert np.allclose([o.score for o in listed], [o.score for o in outputs], atol=1e-4)
    assert [type(captioner([paths[0]])), len(captioner([paths[0]]))] == [list, 1]
    assert captioner(tuple(paths[:2])) == captioner(paths[:2])


def test_threads_that_share_one_get_what_each_gets_alone(captioner, pictures):
    def said(job: tuple[int, Path]) -> str:
        settings = {"do_sample": True, "num_beams": 1, "temperature": 3.0, "seed": job[0]}
        return captioner.outputs([job[1]], context="", batch_size=1, **settings)[0].text

    jobs = [*enumerate(4 * sorted(pictures.iterdir()))]
    alone = [said(job) for job in jobs]
    with ThreadPoolExecutor(8) as threads:
        assert [*threads.map(said, jobs)] == alone


DRAWN = [
    {"num_beams": 1},
    {"num_beams": 3},
    {"num_beams": 1, "n": 3},
    {"num_beams": 1, "labels": ["a red dog", "a cat", "boats"]},
]


@pytest.mark.parametrize("settings", DRAWN, ids=str)
def test_what_is_drawn_hangs_on_the_seed_and_the_item_alone(captioner, pictures, settings):
    paths = sorted(pictures.iterdir())[:7]
    settings = {"do_sample": True, "temperature": 3.0, **settings}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    wanted = captioner(paths, seed=0, **settings)
    for batch_size in (1, 3):
        found = captioner(paths, seed=0, batch_size=batch_size, **settings)
        assert [(one.text, *texts(one)) for one in found] == [(one.text, *texts(one)) for one in wanted]
    assert torch.equal(torch.get_rng_state(), before)  # which is the user's
    others = captioner(paths, seed=1, **settings)
    assert [(one.text, *texts(one)) for one in others] != [(one.text, *texts(one)) for one in wanted]


def texts(output: Output) -> list[str]:
    return [candidate.text for candidate in output.candidates]


@pytest.mark.parametrize("opened", [False, True])
def test_one_picture_given_eight_times_is_drawn_eight_times(captioner, pictures, opened):
    path = pictures / "p00.png"
    items = [Image.open(path) if opened else path for _ in range(8)]
    settings = {"do_sample": True, "num_beams": 1, "temperature": 3.0, "seed": 0}
    said = [output.text for output in captioner(items, batch_size=4, **settings)]
    assert len(set(said)) == 8
    assert said == [output.text for output in captioner(items, batch_size=3, **settings)]


def test_an_array_of_vectors_is_drawn_of_row_by_row(captioner, pictures):
    vectors = captioner.encoder.encode_image([pictures / "p00.png"]).expand(4, -1)
    settings = {"do_sample": True, "num_beams": 1, "temperature": 3.0, "seed": 0}
    said = [output.text for output in captioner.embed_to_text(vectors, batch_size=2, **settings)]
    assert len(set(said)) == 4
    assert said == [output.text for output in captioner.embed_to_text(vectors, **settings)]


def test_probabilities_that_are_none_are_told_whoever_draws(captioner, pictures):
    def broken(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores * float("nan")

    with pytest.raises(CloseError, match="the next token's probabilities are NaN"):
        captioner(pictures / "p00.png", do_sample=True, num_beams=1, seed=0, logits_processor=[broken])


def test_another_encoder_is_refused_and_one_known_by_nothing_is_not(run, zoo):
    captioner = close.load(run)
    other = load_encoder(str(zoo("hf_clip_dir")))
    with pytest.raises(MismatchError, match="was trained with encoder"):
        captioner.use_encoder(other)
    captioner.model.config.encoder_fingerprint = sha256().hexdigest()[:32]  # what encoders without weights once had
    captioner.use_encoder(other)
    assert captioner.encoder is other


def log_probability(captioner: CloseCaptioner, path: Path, ids: torch.Tensor) -> torch.Tensor:
    """Of each token after the first, by a forward pass over the whole sequence."""
    embeds = captioner.encoder.encode_image(path)
    with torch.inference_mode():
        logits = captioner.model(embeds, "image", decoder_input_ids=ids[None, :-1]).logits[0]
    return logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0]


@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 4}, {"do_sample": True, "num_beams": 1}])
def test_the_score_is_the_mean_log_probability(captioner, pictures, settings):
    for path in sorted(pictures.iterdir())[:4]:
        torch.manual_seed(0)
        output = captioner(path, **settings)
        torch.manual_seed(0)
        embeds = captioner.encoder.encode_image(path)
        ids = captioner.model.generate(embeds, **settings)[0]
        ends = (ids == captioner.tokenizer.eos_token_id).nonzero().flatten().tolist()
        ids = ids[: ends[0] + 1] if ends else ids
        found = log_probability(captioner, path, ids)
        assert output.score == pytest.approx(found.mean().item(), abs=1e-4)
        assert output.text == captioner.tokenizer.decode(ids, skip_special_tokens=True)


def test_scores_do_not_know_the_batch(captioner, pictures):
    together = captioner(pictures, num_beams=1)
    alone = [captioner(path, num_beams=1) for path in sorted(pictures.iterdir())]
    assert [output.text for output in together] == [output.text for output in alone]
    assert np.allclose([o.score for o in together], [o.score for o in alone], atol=1e-4)


def test_generation_settings(captioner, pictures):
    path = pictures / "p00.png"
    assert len(captioner(path, max_new_tokens=2, num_beams=1).text.split()) <= 2
    torch.manual_seed(1)
    sampled = {captioner(path, do_sample=True, num_beams=1, temperature=5.0).text for _ in range(5)}
    assert len(sampled) > 1
    for wrong in (
        {"num_beam": 3},
        {"num_beams": 0},
        {"do_sample": True, "num_beams": 1, "temperature": 0.0},
        {"generation_config": GenerationConfig(num_beams=1)},
    ):
        with pytest.raises((RecipeError, UnknownNameError)) as told:
            captioner(path, **wrong)
        assert "\n" not in str(told.value)
    with pytest.raises(UnknownNameError, match="unknown setting 'seed'") as told:
        captioner.answer(captioner.encoder.encode_image(path), [""], seed=3)
    assert "'seed'?" not in str(told.value)


def test_a_text_ends_before_its_end_whatever_token_that_is(captioner, pictures):
    """Of a chat, one that its tokenizer does not count as special."""
    path = pictures / "p00.png"
    said = captioner(path, num_beams=1).text.split()
    end = captioner.tokenizer.convert_tokens_to_ids(said[-1])
    assert captioner(path, num_beams=1, eos_token_id=end).text.split() == said[: said.index(said[-1])]


@pytest.mark.parametrize("seed", [None, 3])
def test_an_evaluation_moves_no_generator(captioner, captions, tmp_path, seed):
    captioner.encoder.encode_text(["a dog"])  # loading it draws
    before = torch.get_rng_state()
    evaluate(captioner, captions, modality="text", folder=tmp_path / "e", limit=2, metrics=["bleu"], seed=seed)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_metric_alone_is_one_and_a_slip_is_told_with_what_was_meant(captioner, captions, tmp_path):
    where = {"modality": "text", "folder": tmp_path / "e", "limit": 2}
    assert evaluate(captioner, captions, **where, metrics="bleu")["metrics"] == ["bleu"]
    with pytest.raises(UnknownNameError, match="'tokeniser': did you mean 'tokenizer'"):
        evaluate(captioner, captions, **where, tokeniser="python")


@pytest.mark.parametrize("number", [0, -1, 2.0, True])
def test_batches_and_limits_are_at_least_one(captioner, captions, pictures, tmp_path, number):
    where = {"modality": "text", "folder": tmp_path / "e"}
    with pytest.raises(RecipeError, match="limit is a whole number of at least 1, not"):
        evaluate(captioner, captions, **where, limit=number)
    with pytest.raises(RecipeError, match="batch_size is a whole number of at least 1, not"):
        evaluate(captioner, captions, **where, batch_size=number)
    with pytest.raises(RecipeError, match="batch_size is a whole number of at least 1, not"):
        captioner(pictures, batch_size=number)
    assert not [*tmp_path.glob("e/*")]


def test_a_limit_may_be_numpys(captioner, captions, tmp_path):
    found = evaluate(captioner, captions, modality="text", folder=tmp_path / "e", metrics=["bleu"], limit=np.int64(2))
    assert found["rows"] == 2


def test_a_loaded_run_is_opened_no_other_way(captioner, captions, tmp_path):
    for given in ({"memory": captions}, {"encoder": "mini"}, {"device": "cpu"}, {"precision": "int8"}):
        with pytest.raises(RecipeError, match=f"loaded already, and {next(iter(given))} is said when that is done"):
            evaluate(captioner, captions, modality="text", folder=tmp_path / "e", **given)
    with pytest.raises(RecipeError, match="of answers that are given as a list, give so many"):
        evaluate(captioner, captions, modality="text", folder=tmp_path / "e", answers=["a", "b"], top_answers=1)
    with pytest.raises(RecipeError, match="length_penalty ranks beams"):
        evaluate(captioner, captions, modality="text", folder=tmp_path / "e", num_beams=1, length_penalty=2.0)
    assert not list(tmp_path.iterdir())


def test_settings_that_would_change_nothing_are_refused(captioner, pictures):
    path = pictures / "p00.png"
    for setting in ("top_p", "temperature", "top_k"):
        with pytest.raises(RecipeError, match=f"{setting} says how a text is drawn.*do_sample=True"):
            captioner(path, **{setting: 1})
    with pytest.raises(RecipeError, match="length_penalty ranks beams, and there is one"):
        captioner(path, num_beams=1, length_penalty=2.0)
    with pytest.raises(RecipeError, match="length_penalty ranks beams"):
        captioner(path, do_sample=True, num_beams=1, n=3, length_penalty=2.0)
    assert len(captioner(path, num_beams=1, n=3, length_penalty=2.0).candidates) == 3  # there are three beams
    for setting, instead in (
        ("max_length", "give max_new_tokens"),
        ("guidance_scale", "a prompt is vectors"),
        ("encoder_no_repeat_ngram_size", "a prompt is vectors"),
        ("encoder_repetition_penalty", "a prompt is vectors"),
        ("diversity_penalty", "no groups of beams"),
    ):
        with pytest.raises(RecipeError, match=f"^{setting} is not heeded here: .*{instead}"):
            captioner(path, **{setting: 2})
    assert captioner(path, top_p=None, num_beams=1, length_penalty=None).text == captioner(path, num_beams=1).text


@pytest.mark.parametrize(
    ("setting", "values", "limits"),
    [
        ("num_beams", ("4", 0, 2.5, 101, True, -1), "a whole number from 1 to 100"),
        ("max_new_tokens", (2.5, 0, 5000), "a whole number from 1 to 4096"),
        ("min_new_tokens", (-1, "2"), "a whole number from 0 to 4096"),
        ("no_repeat_ngram_size", (2.5,), "a whole number from 0 to 4096"),
        ("length_penalty", (1000, float("nan"), float("inf"), "1"), "a number from -10 to 10"),
        ("top_p", (90, -0.1, float("nan")), "a number from 0 to 1"),
        ("epsilon_cutoff", (3, 1), "a number from 0 to 0.999"),
        ("typical_p", (0,), "a number from 0.001 to 1"),
        ("repetition_penalty", (True, 0, -1.0), "a number from 0.01 to 100"),
        ("temperature", (0.0, float("inf")), "a number from 0.001 to 100"),
        ("do_sample", ("no", 1), "True or False"),
    ],
)
def test_settings_that_are_none(captioner, pictures, setting, values, limits):
    drawn = {"do_sample": True, "num_beams": 1} if setting in DRAWING else {}
    for value in values:
        with pytest.raises(RecipeError, match=f"^{setting} is {limits}, not {re.escape(repr(value))}$"):
            captioner(pictures / "p00.png", **drawn | {setting: value})


@pytest.mark.parametrize("fault", [TypeError("'NoneType' object is not callable"), ValueError(""), ZeroDivisionError()])
def test_a_fault_inside_the_model_is_no_matter_of_settings(captioner, pictures, monkeypatch, fault):
    def fails(*args, **kwargs):
        raise fault

    monkeypatch.setattr(type(captioner.model), "prompt", fails)
    with pytest.raises(type(fault)) as raised:
        captioner(pictures / "p00.png")
    assert not isinstance(raised.value, CloseError)


def test_a_fault_of_the_processor_is_no_unreadable_file(captioner, pictures, monkeypatch):
    def fails(item):
        raise ValueError("")

    monkeypatch.setattr(captioner.encoder, "prepare", fails)
    with pytest.raises(ValueError) as raised:
        captioner([pictures / "p00.png"])
    assert not isinstance(raised.value, CloseError)


def test_one_bad_item_of_many(captioner, pictures, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    paths = [pictures / "p00.png", tmp_path / "gone.png", pictures / "p01.png", tmp_path / "text.png"]
    outputs = captioner(paths, batch_size=2)
    assert [output.error is None for output in outputs] == [True, False, True, False]
    assert [output.text for output in outputs[::2]] == [captioner(path).text for path in paths[::2]]
    assert "gone.png" in str(outputs[1].error)
    assert "text.png" in str(outputs[3].error)
    assert (outputs[1].text, np.isnan(outputs[1].score)) == ("", True)
    with pytest.raises(DataError, match=r"gone\.png"):
        captioner(tmp_path / "gone.png")


def test_content_for_names(captioner, pictures):
    """Bytes, open files, generators and columns of names say what the files themselves say."""
    paths = sorted(pictures.iterdir())[:3]
    wanted = [output.text for output in captioner(paths)]
    content = paths[0].read_bytes()
    with paths[0].open("rb") as file:
        for one in (content, bytearray(content), io.BytesIO(content), file, file, Path(paths[0])):
            output = captioner(one)
            assert (type(output), output.text) == (Output, wanted[0])
    several = (
        (path for path in paths),
        [path.read_bytes() for path in paths],
        iter([io.BytesIO(path.read_bytes()) for path in paths]),
        {str(path): 0 for path in paths},
        np.array([str(path) for path in paths]),
        np.array([str(path) for path in paths], dtype=object),
    )
    for items in several:
        assert [output.text for output in captioner(items)] == wanted
    with pytest.raises(DataError, match="can't be read"):
        captioner(b"no picture")
    with paths[0].open(encoding="latin-1") as text, pytest.raises(DataError, match=r"p00\.png can't be read"):
        captioner(text)


def test_items_without_a_name_are_told_apart(captioner, pictures):
    path = pictures / "p00.png"
    opened, made = Image.open(path), Image.new("RGB", (40, 30))
    items = [opened, made, np.asarray(made), path.read_bytes(), io.BytesIO(b"no picture"), path]
    outputs = captioner(items, batch_size=2)
    size = f"{len(path.read_bytes()):,}"
    assert [output.item for output in outputs] == [
        *(str(path), "Image 2 (40×30)", "ndarray 3 (30×40×3)", f"bytes 4 ({size} bytes)", "BytesIO 5", str(path))
    ]
    assert [output.error is None for output in outputs] == [True, True, True, True, False, True]


def test_what_comes_back_has_a_type():
    one, several = map(get_type_hints, get_overloads(CloseCaptioner.__call__))
    assert (one["return"], several["return"]) == (Output, list[Output])
    assert set(get_args(one["items"])) >= {str, os.PathLike[str], bytes, IO[bytes], Image.Image, torch.Tensor}
    assert several["items"] == Iterable[Item]


def test_nothing_to_do(captioner, tmp_path):
    assert captioner([]) == captioner(iter(())) == []
    with pytest.raises(DataError, match="an item is an empty text"):  # and no other name of the working directory
        captioner("")
    with pytest.raises(DataError, match="an item is None: expected a file's name"):
        captioner(None)
    with pytest.raises(DataError, match="no file in this folder"):
        captioner(tmp_path)


def test_contexts(questions, pictures):
    paths = sorted(pictures.iterdir())[:3]
    asked = questions(paths, ["what colour?", "what thing?", "what colour?"])
    assert [output.text for output in asked] == [
        questions(path, question).text
        for path, question in zip(paths, ["what colour?", "what thing?", "what colour?"], strict=True)
    ]
    with pytest.raises(DataError, match="2 contexts for 3 items"):
        questions(paths, ["what?", "where?"])
    for context, named in ((3, "3"), ([None, "what?", "where?"], "None")):
        with pytest.raises(DataError, match=f"a context is a text, not {named}"):
            questions(paths, context)


def test_of_each_task_that_was_learnt_without_contexts_that_is_told(captioner, pictures, caplog, monkeypatch):
    monkeypatch.setattr(captioner, "without_context", {"caption", "vqa"})
    monkeypatch.setattr(captioner, "task", captioner.task)
    for task in ("caption", "vqa", "vqa"):
        captioner.use_task(task)(sorted(pictures.iterdir())[0], "what is it?")
    assert [record.message.partition(" learnt ")[2].split()[0] for record in caplog.records] == ["caption", "vqa"]


def test_contexts_that_a_run_has_never_read_are_told(captioner, questions, pictures, caplog):
    path = sorted(pictures.iterdir())[0]
    for _ in range(2):
        captioner(path, "in the style of a pirate")
    assert [record.message.partition(":")[0].split(" learnt ")[1] for record in caplog.records] == [
        "caption without contexts"
    ]
    caplog.clear()
    questions(path, "what colour?")
    assert not caplog.records


def test_it_says_what_it_has_learnt(questions, tiny_encoder):
    """Fed the embeddings it was trained on, the other side of the gap; the question decides what is said of them."""
    embeds = load_encoder(str(tiny_encoder)).encode_text(TEXTS)
    for question, place in (("what colour?", 1), ("what thing?", 2)):
        said = questions.generate(embeds, [question] * 8, modality="text")
        assert sum(text == wanted.split()[place] for (text, _), wanted in zip(said, TEXTS, strict=True)) >= 7


def test_half_precision(run, captioner, pictures):
    half = close.load(run, precision="bf16")
    assert next(half.model.language_model.parameters()).dtype == torch.bfloat16
    assert all(output.error is None for output in half(pictures))
    with pytest.raises(RecipeError, match="precision"):
        close.load(run, precision="fp8")
    with pytest.raises(RecipeError, match="device"):
        close.load(run, device="gpu")


def test_a_fitted_adapter_travels_with_the_run(recipe, captions, tiny_encoder, tmp_path, pictures):
    encoder = load_encoder(str(tiny_encoder))
    about = {"encoder": encoder.name, "fingerprint": encoder.fingerprint}
    sides = {
        "text": encoder.encode_text(tiny.sentences(30)),
        "image": encoder.encode_image(sorted(pictures.iterdir())),
    }
    fit = {
        side: str(EmbeddingTable.from_numpy(rows.numpy(), tmp_path / side, modality=side, **about).path)
        for side, rows in sides.items()
    }
    run = train(recipe(adapter=[{"centring": {"fit": fit}}, {"gaussian": {"cosine": 0.5}}]), tmp_path / "run")
    for side in fit:
        (tmp_path / side / "vectors.npy").unlink()  # nothing but the run is needed
    for precision in ("fp32", "bf16"):
        model = close.load(run, precision=precision).model
        prompt, _ = model.prompt(sides["image"], "image")
        centred = F.normalize(sides["image"] - sides["image"].mean(0), dim=-1)
        weight, bias = model.prefix.linear.weight.float(), model.prefix.linear.bias.float()
        wanted = (centred @ weight.T + bias).view(12, 4, -1)
        assert torch.allclose(prompt.float(), wanted, atol=1e-5 if precision == "fp32" else 2e-2)


def test_tasks_by_name(questions, pictures):
    with pytest.raises(UnknownNameError, match="did you mean 'caption'"):
        questions.use_task("captoin")


def test_errors_belong_to_the_family(tmp_path):
    with pytest.raises(CloseError) as told:
        close.load(tmp_path / "gone")
    assert told.type is MissingError
