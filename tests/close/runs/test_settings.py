"""Settings of generation as people write them: numbers of any kind, seeds, and what asks for nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import close
from close.errors import RecipeError
from close.model.draws import RowDraws
from close.runs.candidates import labels_sum
from close.runs.evaluate import evaluate
from close.runs.items import draw_seeds
from close.runs.pipeline import CloseCaptioner
from close.runs.predict import Decoding

DRAWN: dict[str, Any] = {"do_sample": True, "num_beams": 1, "temperature": 3.0}


@pytest.fixture(scope="module")
def captioner(train_small) -> CloseCaptioner:
    return close.load(train_small(epochs=4, learning_rate=2e-2, save_strategy="no"), device="cpu")


@pytest.fixture(scope="module")
def vectors(captioner: CloseCaptioner) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, captioner.model.config.embed_dim, generator=generator)
    return torch.nn.functional.normalize(rows, dim=-1)


def test_what_an_evaluation_draws_hangs_on_the_seed_and_the_row_alone(captioner, captions, tmp_path):
    def said(**settings: Any) -> list[str]:
        given: dict[str, Any] = {"modality": "text", "metrics": ["bleu"], "folder": tmp_path / "e", "limit": 9}
        found = evaluate(captioner, captions, **given | DRAWN | settings)
        lines = Path(found["folder"], "predictions.jsonl").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]

    wanted = said()
    assert said(batch_size=2) == said(seed=0) == wanted
    assert said(limit=5) == wanted[:5]
    assert said(seed=1) != wanted
    assert json.loads((tmp_path / "e" / "scores.json").read_text())["generation"]["seed"] == 1


@pytest.mark.parametrize("draws", [1, 3])
def test_draws_of_rows_are_those_of_multinomial(draws):
    shares = torch.rand(6, 50, generator=torch.Generator().manual_seed(0)).softmax(-1)
    own = [torch.Generator().manual_seed(seed) for seed in range(3)]
    parts = [*zip(shares.split(2), own, strict=True)]
    wanted = [torch.cat([torch.multinomial(part, draws, generator=one) for part, one in parts]) for _ in range(2)]
    with RowDraws(range(3)):
        found = [torch.multinomial(shares, num_samples=draws) for _ in range(2)]
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.5])
def test_shares_that_are_none_are_not_drawn_from(wrong):
    shares = torch.tensor([[0.5, 0.5], [0.5, wrong]])
    with pytest.raises(RuntimeError, match="probability tensor"), RowDraws([0, 1]):
        torch.multinomial(shares, 1)


def test_a_seed_is_a_number_or_one_for_each_item(captioner, vectors):
    def said(seed: Any) -> list[str]:
        return [one.text for one in captioner.embed_to_text(vectors, seed=seed, **DRAWN)]

    seeds = draw_seeds(7, map(str, range(4)), [""] * 4)
    assert said(7) == said(seeds) == said(tuple(seeds)) == said(np.int64(7))
    for wrong in (seeds[:3], iter(seeds), torch.Generator(), True, "a", 0.5, ["a"] * 4):
        with pytest.raises(RecipeError, match=r"seed is a whole number"):
            captioner.embed_to_text(vectors, seed=wrong, **DRAWN)
    with pytest.raises(RecipeError, match="seed is of what is drawn, and texts are searched for"):
        captioner.embed_to_text(vectors, seed=7)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (DRAWN | {"temperature": 2}, DRAWN | {"temperature": 2.0}),
        (DRAWN | {"temperature": np.float32(2)}, DRAWN | {"temperature": 2.0}),
        (DRAWN | {"do_sample": np.True_, "top_p": 1}, DRAWN),
        ({"num_beams": np.int64(2), "n": 5}, {"num_beams": 2, "n": 5}),
        ({"repetition_penalty": 2, "max_new_tokens": np.int64(5)}, {"repetition_penalty": 2.0, "max_new_tokens": 5}),
    ],
    ids=str,
)
def test_numbers_of_any_kind_are_numbers(captioner, vectors, given, plain):
    seed = {"seed": 0} if "do_sample" in given else {}
    wanted = captioner.embed_to_text(vectors, **seed, **plain)
    assert captioner.embed_to_text(vectors, **seed, **given) == wanted
    assert all(len(one.candidates) == given.get("n", 0) for one in wanted)


def test_a_setting_that_asks_for_nothing_may_be_given(captioner, vectors):
    neutral = {"guidance_scale": 1.0, "encoder_repetition_penalty": 1.0, "diversity_penalty": 0.0}
    wanted = captioner.embed_to_text(vectors)
    assert captioner.embed_to_text(vectors, encoder_no_repeat_ngram_size=0, **neutral) == wanted


@pytest.mark.parametrize("least", ["min_new_tokens", "min_length"])
def test_no_text_is_longer_than_the_longest(captioner, vectors, least):
    with pytest.raises(RecipeError, match=f"{least} is 30, and max_new_tokens 5: no text is as long"):
        captioner.embed_to_text(vectors, max_new_tokens=5, **{least: 30})


def test_a_label_is_not_cut_short(captioner, vectors):
    labels = ["a red dog on the grass", "a blue boat"]
    found = captioner.embed_to_text(vectors, labels=labels, max_new_tokens=1)
    assert found == captioner.embed_to_text(vectors, labels=labels)
    assert {one.text for one in found} <= set(labels)


def test_a_closed_set_is_the_same_in_any_order(captioner):
    labels = ["a dog", "a cat", "a boat"]
    sums = {
        str(Decoding(labels=tuple(order)).describe(captioner.task, None)["labels_sha256"])
        for order in (labels, labels[::-1])
    }
    assert sums == {labels_sum(labels)}
