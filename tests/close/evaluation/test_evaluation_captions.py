"""Caption scores against pycocoevalcap itself, run the way its own example runs it."""

import json
import random
import shutil
import sys
import time
from typing import Any

import numpy as np
import pytest

from close.errors import CloseError, DataError, MissingError, UnknownNameError
from close.evaluation.bootstrap import pooled
from close.evaluation.metrics import METRICS, caption_scores
from close.evaluation.metrics import tokens as ptb_tokens

java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR and the reference tokenizer need Java")
NO_JAVA = ("bleu", "rouge_l", "cider")

NOUNS = ["dog", "cat", "man's hat", "bus", "T-shirt", "clock tower", "horse", "table (red)", "St. Bernard"]
VERBS = ["sits on", "isn't near", "runs past", "looks at", "stands by"]


def made_up(count: int, seed: int = 0) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Predictions and references that overlap more or less."""
    draw = random.Random(seed)

    def say() -> str:
        return f"A {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)}{draw.choice(['.', '', ', too.'])}"

    references = {f"i{n}": [say() for _ in range(draw.choice([1, 3, 5]))] for n in range(count)}
    return {key: draw.choice([draw.choice(refs), say(), ""]) for key, refs in references.items()}, references


def tokens_of_pycocoevalcap(predictions: dict[str, str], references: dict[str, list[str]]) -> tuple[Any, Any]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({key: [{"caption": c} for c in refs] for key, refs in references.items()})
    return gts, tokenizer.tokenize({key: [{"caption": predictions[key]}] for key in references})


def by_pycocoevalcap(predictions: dict[str, str], references: dict[str, list[str]]) -> dict[str, Any]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts, res = tokens_of_pycocoevalcap(predictions, references)
    bleu, per_image = Bleu(4).compute_score(gts, res, verbose=0)
    scores = {f"bleu_{n}": (bleu[n - 1], per_image[n - 1]) for n in range(1, 5)}
    return scores | {"rouge_l": Rouge().compute_score(gts, res), "cider": Cider().compute_score(gts, res)}


@java
@pytest.mark.parametrize("tokenizer", ["java", "python"])
def test_equal_to_pycocoevalcap_with_its_own_tokenizer(tokenizer: str) -> None:
    predictions, references = made_up(120)
    scores = caption_scores(predictions, references, tokenizer=tokenizer, metrics=NO_JAVA)
    for name, (value, per_image) in by_pycocoevalcap(predictions, references).items():
        assert scores[name] == pytest.approx(100 * value, abs=1e-6), name
        np.testing.assert_allclose(scores.metrics[name].per_example, 100 * np.array(per_image), atol=1e-6, err_msg=name)
    assert scores["tokenizer"] == tokenizer


def test_a_case_counted_by_hand() -> None:
    scores = caption_scores(
        {"x": "the cat sat", "y": "a red bus"},
        {"x": ["the cat sat down"], "y": ["a blue bus", "one red bus"]},
        tokenizer="python",
        metrics=["bleu", "rouge_l"],
        samples=0,
    )
    short = np.exp(1 - 7 / 6)  # 6 words said, closest references have 4 + 3
    assert scores["bleu_1"] == pytest.approx(100 * 6 / 6 * short, abs=1e-5)
    assert scores["bleu_2"] == pytest.approx(100 * np.sqrt(6 / 6 * 3 / 4) * short, abs=1e-5)
    f = [(1 + 1.44) * p * r / (r + 1.44 * p) for p, r in ((1, 3 / 4), (2 / 3, 2 / 3))]
    assert scores["rouge_l"] == pytest.approx(100 * np.mean(f))
    assert scores["cider"] is None
    assert scores["ci"] == {}


def test_keys_and_plain_values() -> None:
    scores = caption_scores(*made_up(20), tokenizer="python", metrics=NO_JAVA, samples=50)
    assert list(scores) == [
        *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "meteor", "spice"),
        *("n", "tokenizer", "ci", "missing", "notes", "diversity", "length_ratio"),
    ]
    assert json.loads(json.dumps(scores)) == scores
    assert set(scores["ci"]) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
    assert all(low <= scores[name] <= high for name, (low, high) in scores["ci"].items())


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    caption_scores(*made_up(20), tokenizer="auto", metrics=NO_JAVA)
    assert capfd.readouterr() == ("", "")


def test_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    scores = caption_scores(*made_up(20), metrics=METRICS.defaults("caption"), samples=0)
    assert scores["tokenizer"] == "python"
    assert scores["meteor"] is None
    assert "java" in scores["notes"]["meteor"]
    assert "java" in scores["notes"]["spice"]
    with pytest.raises(MissingError, match="java"):
        caption_scores(*made_up(20), tokenizer="java")


@java
def test_auto_is_java_where_java_is_and_says_so() -> None:
    assert caption_scores(*made_up(5), metrics=["bleu"], samples=0)["tokenizer"] == "java"


def test_a_caption_that_is_too_much_for_meteor_costs_no_other_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of equal words end the program, of which Java only says where it stood."""

    def ends(*_: Any) -> str:
        raise CloseError("java ended with 1: at Aligner.resolve")

    monkeypatch.setattr(sys.modules["close.evaluation.metrics.meteor"], "run_java", ends)  # a function has its name
    scores = caption_scores(*made_up(5), tokenizer="python", metrics=["bleu", "meteor"], samples=0)
    assert scores["meteor"] is None
    assert scores["notes"]["meteor"] == "the METEOR program failed (java ended with 1: at Aligner.resolve)"
    assert scores["bleu_1"] > 0


def test_bleu_of_a_resample_is_bleu_of_the_repeated_examples() -> None:
    """What the bootstrap does in one product of matrices, done slowly: score the resampled examples themselves."""
    predictions, references = made_up(30)
    scores = caption_scores(predictions, references, tokenizer="python", metrics=["bleu"], samples=0)
    drawn = np.random.default_rng(3).integers(0, 30, 30)
    again = {f"{n}": scores.ids[i] for n, i in enumerate(drawn)}
    slow = caption_scores(
        {n: predictions[key] for n, key in again.items()},
        {n: references[key] for n, key in again.items()},
        tokenizer="python",
        metrics=["bleu"],
        samples=0,
    )
    for name, measure in scores.metrics.items():
        weights = np.bincount(drawn, minlength=30).astype(float)
        assert measure.combine(weights @ measure.statistics) == pytest.approx(slow[name], abs=1e-9)


@java
def test_meteor_of_a_resample_is_meteor_of_the_repeated_examples() -> None:
    """The program itself, on the resampled examples, against the formula on resampled statistics; and each example."""
    from pycocoevalcap.meteor.meteor import Meteor

    predictions, references = made_up(60)
    measure = caption_scores(predictions, references, metrics=["meteor"], samples=0).metrics["meteor"]
    drawn = np.random.default_rng(3).integers(0, 60, 60)
    keys = [list(references)[i] for i in drawn]
    gts, res = tokens_of_pycocoevalcap(
        {f"{n}": predictions[key] for n, key in enumerate(keys)},
        {f"{n}": references[key] for n, key in enumerate(keys)},
    )
    value, per_image = Meteor().compute_score(gts, res)
    weights = np.bincount(drawn, minlength=60).astype(float)
    assert measure.combine(weights @ measure.statistics) == pytest.approx(100 * value, abs=1e-6)
    np.testing.assert_allclose(measure.per_example[drawn], 100 * np.array(per_image), atol=1e-6)


def test_the_closest_of_two_references_as_near_is_the_shorter() -> None:
    """Lengths 2 and 6 about 4: as pycocoevalcap takes them, without the penalty of what is too short."""
    scores = caption_scores(
        {"x": "a b c d"}, {"x": ["a b c d e f", "a b"]}, tokenizer="python", metrics=["bleu"], samples=0
    )
    measure = scores.metrics["bleu_1"]
    assert measure.statistics[0, 8:].tolist() == [4, 2]
    assert scores["bleu_1"] == pytest.approx(100, abs=1e-4)


def test_predictions_of_some_images_only() -> None:
    predictions, references = made_up(30)
    some = {key: predictions[key] for key in list(predictions)[5:15]}
    part = caption_scores(some, references, tokenizer="python", metrics=NO_JAVA, samples=0)
    alone = caption_scores(some, {key: references[key] for key in some}, tokenizer="python", metrics=NO_JAVA, samples=0)
    assert (part["n"], part["missing"], alone["missing"]) == (10, 20, 0)
    assert part["cider"] == alone["cider"]
    assert part.ids == [key for key in references if key in some]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({"a": "x"}, {"b": ["y"]}, "'a' has no reference"),
        ({"a": "x"}, {"a": []}, "'a' has no reference"),
        ({}, {"a": ["y"]}, "no predictions"),
        ({"a": None}, {"a": ["y"]}, "expected a caption"),
    ],
)
def test_what_can_not_be_scored(predictions: Any, references: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        caption_scores(predictions, references, tokenizer="python", metrics=NO_JAVA)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="'cider'"):
        caption_scores(*made_up(3), metrics=["cidr"])
    with pytest.raises(UnknownNameError, match="'java'"):
        caption_scores(*made_up(3), tokenizer="jva")


def test_one_image_and_empty_captions_are_no_reason_to_fail() -> None:
    scores = caption_scores({"a": ""}, {"a": ["A dog."]}, tokenizer="python", metrics=NO_JAVA, samples=10)
    assert scores["cider"] == 0
    assert scores["bleu_4"] == 0
    assert np.isfinite([end for ends in scores["ci"].values() for end in ends]).all()


def test_only_a_share_has_the_exact_interval_of_one() -> None:
    """CIDEr can pass 100: nothing is known of how far, where it is 0 throughout."""
    ids = [*"abcdefghijkl"]
    scores = caption_scores(
        dict.fromkeys(ids, "cat"), {i: [f"A dog {i}."] for i in ids}, tokenizer="python", metrics=NO_JAVA
    )
    assert scores["ci"]["cider"] == [0, 0]
    assert pooled([scores.metrics["cider"]] * 2).scale == (0, None)
    assert scores["ci"]["rouge_l"] == [0, pytest.approx(100 * (1 - 0.025 ** (1 / 12)))]


def test_line_breaks_inside_captions_keep_the_lines_apart() -> None:
    odd = {"a": "a dog\r\nruns", "b": "a\u2028cat\x0bsits"}
    for tokenizer in ["python", *(["java"] if shutil.which("java") else [])]:
        tokens = ptb_tokens.java_tokens if tokenizer == "java" else ptb_tokens.python_tokens
        assert tokens({key: [text] for key, text in odd.items()}) == {"a": ["a dog runs"], "b": ["a cat sits"]}


def test_speed() -> None:
    """5,000 predictions with 5 references take less than a minute; a fifth of them less than a fifth of it."""
    predictions, references = made_up(1000)
    references = {key: (refs * 5)[:5] for key, refs in references.items()}
    start = time.process_time()
    caption_scores(predictions, references, tokenizer="python", metrics=NO_JAVA)
    assert time.process_time() - start < 12


def test_lengths_beside_the_references() -> None:
    """Mean words of what is said over the mean of the references; told where scores pay for it."""
    said = {"a": "a dog on a beach", "b": "a cat"}
    for references, ratio, told in (
        ({"a": ["a dog", "a big dog"], "b": ["a cat sits"]}, 3.5 / 2.75, True),
        ({"a": ["a dog on the sand"], "b": ["cats"]}, 3.5 / 3, False),
        ({"a": ["a dog"] * 2, "b": ["one two three four five six seven eight nine ten"]}, 3.5 / 6, True),
    ):
        scores = caption_scores(said, references, tokenizer="python", metrics=["bleu"], samples=0)
        assert scores["length_ratio"] == pytest.approx(ratio)
        assert ("length_ratio" in scores["notes"]) == told
