"""Runs to serve, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from browser import CHROMIUM, chromium


@pytest.fixture(scope="session")
def pair(captions, tiny_encoder, zoo, tmp_path_factory) -> list[Path]:
    """A captioner, and a run of two tasks on the same encoder."""
    from close.runs.recipe import Recipe
    from close.training.train import train

    folder = tmp_path_factory.mktemp("served")
    models = {"encoder": str(tiny_encoder), "language_model": str(zoo("t5_pieces_dir")), "adapter": "none"}
    training = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-2, "save_strategy": "no"}
    rows = [
        {"source": text, "context": f"a {text.split()[1]} thing?", "label": "entailment"} for text in tiny.sentences(16)
    ]
    asked = str(tiny.write_jsonl(folder / "entailment.jsonl", rows))
    tasks = [{"task": "caption", "train": str(captions)}, {"task": "entailment", "train": asked}]
    return [
        train(
            Recipe.model_validate({"data": {"train": str(captions)}, "training": training, **models}), folder / "one"
        ),
        train(Recipe.model_validate({"task": tasks, "training": training, **models}), folder / "two"),
    ]


@pytest.fixture(scope="session")
def files(pictures) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(pictures.iterdir())]


@pytest.fixture(scope="module")
def mini_run(tmp_path_factory) -> Path:
    """A captioner and judge of the embedded world, hardly trained."""
    from close.mini import export
    from close.runs.recipe import Recipe
    from close.training.train import train

    folder = tmp_path_factory.mktemp("mini")
    export(folder / "data", "train", 6)
    tasks = [{"task": name, "train": str(folder / "data" / f"{file}.jsonl")} for name, file in
             (("caption", "captions"), ("entailment", "entailment"))]  # fmt: skip
    training = {"epochs": 1, "batch_size": 16, "save_strategy": "no"}
    return train(Recipe.model_validate({"task": tasks, "training": training}), folder / "mine")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Skips where there is no Chromium that shows a page."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    try:
        with chromium(tmp_path_factory.mktemp("probe")) as tab:
            assert tab.js("1 + 1") == 2
    except (OSError, AssertionError) as error:
        pytest.skip(f"Chromium does not run here: {error}")
    with chromium(tmp_path_factory.mktemp("browser")) as tab:
        yield tab
