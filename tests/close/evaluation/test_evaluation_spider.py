"""SPIDEr is the mean of CIDEr-D and SPICE, of each image."""

from __future__ import annotations

import numpy as np
import pytest

from close.evaluation.metrics import METRICS, caption_scores
from close.evaluation.metrics.base import Inputs, compute

TEXTS = {"a": "a dog barks in the rain", "b": "a loud bell rings", "c": "wind blows"}
REFERENCES = {
    "a": ["a dog barks while it rains", "a dog barks in rain"],
    "b": ["a bell rings loudly", "a loud bell rings"],
    "c": ["wind blows hard", "a strong wind"],
}


def test_it_is_the_mean_of_the_two_for_each_image() -> None:
    """SPICE's own program needs a download; of what it says of each image, the rest is arithmetic."""
    inputs = Inputs(list(TEXTS), TEXTS, REFERENCES, found={"spice": [0.5, 0.25, 0.0]})
    summed, _, notes = compute("caption", ["cider", "spice", "spider"], inputs)
    assert not notes
    values = {name: score.per_example for name, score in summed.items()}
    assert np.allclose(values["spice"], [50, 25, 0])
    assert np.allclose(values["spider"], (values["cider"] + values["spice"]) / 2)
    assert values["spider"].mean() > 50


def test_without_what_spice_needs_it_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    scores = caption_scores(TEXTS, REFERENCES, tokenizer="python", metrics=["cider", "spider"], samples=0)
    assert scores["spider"] is None
    assert "java" in scores["notes"]["spider"]
    assert "\n" not in scores["notes"]["spider"]
    assert scores["cider"] > 0
    assert "spider" not in METRICS.defaults("caption")
