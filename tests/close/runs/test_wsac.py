"""WSAC's recipe with tiny weights: from Clotho's table of captions to scores of its recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from close.adapters.gaussian import std_to_cosine
from close.data.rows import RowFile
from close.encoders import load_encoder
from close.runs.evaluate import evaluate
from close.runs.pipeline import load
from close.runs.recipe import load_recipe
from close.training.train import train
from close.vectors.cache import cached_table

RECIPE = Path(__file__).parents[3] / "experiments" / "senses" / "wsac.yaml"


def clotho(folder: Path, name: str, count: int) -> Path:
    """A table as Clotho's, and its recordings."""
    texts, lines = tiny.sentences(5 * count), ["file_name," + ",".join(f"caption_{i}" for i in range(1, 6))]
    for place in range(count):
        tiny.sound(folder / f"{name} {place}.wav", seed=place)
        lines.append(",".join([f"{name} {place}.wav", *texts[5 * place : 5 * place + 5]]))
    table = folder / f"clotho_captions_{name}.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def test_from_captions_to_scores_of_recordings(zoo, tmp_path):
    rows, test = clotho(tmp_path, "development", 4), clotho(tmp_path, "evaluation", 2)
    clap, gpt2 = str(zoo("hf_clap_dir")), str(zoo("gpt2_dir"))
    own = Path(shutil.copy(RECIPE, tmp_path / "wsac.yaml"))
    encoder = load_encoder(clap, device="cpu")
    texts = cached_table(RowFile(rows), encoder, "text")
    own.write_text(own.read_text().replace("text: M", f"text: {texts.path}"))
    recipe = load_recipe(own, [f"encoder={clap}", f"language_model={gpt2}", "training.epochs=1"])
    noise = recipe.adapter[1]
    variance = 1e-3  # of WavCaps' 1,024 dimensions
    assert std_to_cosine(variance**0.5, 1024) == pytest.approx(noise["gaussian"]["cosine"], abs=5e-3)
    run = train(recipe, tmp_path / "run")
    captioner = load(run)
    heard, stored = (
        F.normalize(torch.from_numpy(np.asarray(table[:])), dim=-1)
        for table in (cached_table(RowFile(test), encoder, "image"), texts)
    )
    wanted = F.normalize(torch.softmax(100 * heard @ stored.T, dim=-1) @ stored, dim=-1)  # their projection
    torch.testing.assert_close(captioner.model.adapter(heard, "image"), wanted, atol=1e-5, rtol=0)
    found = evaluate(run, test, metrics=["cider"], num_beams=1)
    assert found["rows"] == 2
