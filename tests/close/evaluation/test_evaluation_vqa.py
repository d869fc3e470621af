"""VQA accuracy against the official script's own scores, and against a slow literal reading of its rules."""

import json
import os
import random
import re
from pathlib import Path

import pytest

from close.data.rows import Row
from close.errors import DataError
from close.evaluation.metrics.vqa import VqaReference, normalize_answer, vqa_accuracy, vqa_scores
from close.evaluation.scores import score_rows
from close.tasks import get_task


def official_cases() -> list[dict]:
    folder = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = folder / "vqa_official_cases.jsonl"
    if not path.exists():
        pytest.skip("the official cases are not here")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_all_official_cases() -> None:
    cases = official_cases()
    assert len(cases) == 1000
    wrong = [c for c in cases if abs(vqa_accuracy(c["prediction"], c["answers"]) - c["accuracy"]) > 1e-9]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Dog", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("black-and-white", "black and white"),
        ("black - white", "black white"),  # a sign beside a space goes, without leaving one
        ("red/blue, green", "red blue green"),
        ("1,000", "1000"),  # a comma between digits: all signs go without a space
        ("1,000 red/blue", "1000 redblue"),
        ("3.5", "3.5"),
        ("U.S.", "us"),
        ("yes.", "yes"),
        ("5.a.m", "5am"),  # the pattern's digit before is none at all
        ("dont", "don't"),
        ("DONT", "don't"),
        ("it's", "it's"),
        ("its", "its"),
        ("im", "im"),  # the table has "Im", after lower-casing
        ("couldnt've", "couldn't've"),
        ("couldntve", "couldntve"),
        ("somebody'd", "somebodyd"),  # backwards in the table
        ("y'allll", "y'all'll"),
        ("the a an", ""),
        ("#1 $5 50% a&b 5:30 o'clock *", "#1 $5 50% a&b 5:30 o'clock *"),  # signs that it does not know
        ("." * 40, "." * 8),  # its flag stands where the count goes: 32 full stops at most
    ],
)
def test_quirks(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_nothing_is_normalised_where_all_agree() -> None:
    assert vqa_accuracy("The dog.", ["dog"] * 10) == 0
    assert vqa_accuracy("the dog.", ["dog"] * 9 + ["cat"]) == 100
    assert vqa_accuracy("dog\n", ["dog\t"] * 10) == 100  # line breaks, tabs and outer space always go


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (9, 100)])
def test_leave_one_out(matches: int, accuracy: float) -> None:
    answers = ["dog"] * matches + [f"other {n}" for n in range(10 - matches)]
    assert vqa_accuracy("dog", answers) == pytest.approx(accuracy)


def test_one_answer_only() -> None:
    assert vqa_accuracy("dog", ["dog"]) == 100
    assert vqa_accuracy("cat", ["dog"]) == 0


def slow(text: str) -> str:
    """The rules as the script words them, patterns included, one after the other."""
    period, comma = re.compile(r"(?!<=\d)(\.)(?!\d)"), re.compile(r"(\d)(\,)(\d)")
    out = text
    for sign in [
        ";",
        "/",
        "[",
        "]",
        '"',
        "{",
        "}",
        "(",
        ")",
        "=",
        "+",
        "\\",
        "_",
        "-",
        ">",
        "<",
        "@",
        "`",
        ",",
        "?",
        "!",
    ]:
        if (sign + " " in text or " " + sign in text) or re.search(comma, text) is not None:
            out = out.replace(sign, "")
        else:
            out = out.replace(sign, " ")
    out = period.sub("", out, count=int(re.UNICODE))
    numbers = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}
    numbers |= {"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
    kept = []
    for word in out.lower().split():
        word = numbers.get(word, word)
        if word not in ("a", "an", "the"):
            kept.append(word)
    return " ".join(kept)


def test_signs_numbers_and_articles_against_the_slow_reading() -> None:
    draw = random.Random(0)
    pieces = [*';/[]"{}()=+\\_-><@`,?!.', *"0123456789", " ", " ", "a", "the", "two", "ten", "dog", "é", "#", "$", ":"]
    for _ in range(20000):
        text = "".join(draw.choices(pieces, k=draw.randrange(1, 12)))
        assert normalize_answer(text) == slow(text), text


def question(answers: list[str], kind: str, first: str) -> VqaReference:
    return VqaReference(tuple(answers), kind, first)


def test_scores_by_type() -> None:
    questions = {
        "1": question(["yes"] * 10, "yes/no", "is the"),
        "2": question(["2"] * 3 + ["3"] * 7, "number", "how many"),
        "3": question(["red"] * 10, "other", "what color"),
        "4": question(["no"] * 10, "yes/no", "is there"),
    }
    scores = vqa_scores({"1": "yes", "2": "two", "3": "blue", "4": "yes"}, questions)
    assert scores["accuracy"] == pytest.approx((100 + 90 + 0 + 0) / 4)
    assert scores["per_answer_type"] == pytest.approx({"number": 90, "other": 0, "yes/no": 50})
    assert scores["per_question_type"] == pytest.approx({"how many": 90, "is the": 100, "is there": 0, "what color": 0})
    assert scores["n"] == 4
    assert scores["ci"] == {}  # of so few
    assert json.loads(json.dumps(scores)) == scores


def test_the_same_questions_on_both_sides() -> None:
    questions = {"1": VqaReference(("a",) * 10), "2": VqaReference(("a",) * 10)}
    with pytest.raises(DataError, match="1 questions have no prediction and 0 predictions no question"):
        vqa_scores({"1": "a"}, questions)
    with pytest.raises(DataError, match="'3'"):
        vqa_scores({"1": "a", "2": "a", "3": "a"}, questions)
    with pytest.raises(DataError, match="has no answers"):
        vqa_scores({"1": "a"}, {"1": VqaReference(())})
    with pytest.raises(DataError, match="no questions"):
        vqa_scores({}, {})


def test_too_few_annotators_for_100_are_told() -> None:
    found = score_rows(get_task("vqa"), [Row("1", answers=("red",) * 2), Row("2", answers=("red",) * 10)], ["red"] * 2)
    assert found[0]["accuracy"] == pytest.approx((100 / 3 + 100) / 2)
    assert found[0]["notes"]["accuracy"].startswith("1 of 2 questions have 2 or 3 answers")
    assert "66.7 is the most that can be reached" in found[0]["notes"]["accuracy"]
    assert "notes" not in vqa_scores({"1": "red"}, {"1": VqaReference(("red",) * 10)})


def test_targets_are_no_annotators_and_any_of_them_is_right() -> None:
    rows = [Row(str(n), target=("two", "2 dogs")) for n in range(3)]
    found, _ = score_rows(get_task("vqa"), rows, ["2", "the two dogs", "dogs"])
    assert found.metrics["accuracy"].per_example.tolist() == [100, 100, 0]
    assert "notes" not in found
