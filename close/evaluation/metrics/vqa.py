"""VQA accuracy as the official script counts it, quirks included, since every published number contains them.

Goyal et al. (2017), "Making the V in VQA Matter"; Antol et al. (2015), "VQA: Visual Question Answering".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from close.errors import DataError
from close.evaluation.bootstrap import Scores, SummedScore, intervals, mean_score
from close.evaluation.images import pictured
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score
from close.evaluation.metrics.ids import about_id
from close.evaluation.metrics.words import composed

__all__ = ["VqaReference", "normalize_answer", "official_accuracy", "vqa_accuracy", "vqa_scores"]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS = 32  # the script hands re.UNICODE (32) to `sub` where the count goes
_ARTICLES = frozenset(("a", "an", "the"))
_DIGITS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(_DIGITS.split())}

_SHORT_FORMS = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
 he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
 needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
 someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
 there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
 when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
 wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"""


def _misspelt() -> dict[str, str]:
    """What the script mends: short forms that lack one of their apostrophes."""
    table: dict[str, str] = {}
    for word in _SHORT_FORMS.split():
        places = [i for i, letter in enumerate(word) if letter == "'"]
        table |= {word[:i] + word[i + 1 :]: word for i in places}
    # Its table has three entries that follow no rule, one of them backwards.
    return table | {"ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at", "somebody'd": "somebodyd"}


_CONTRACTIONS = _misspelt()


@dataclass(frozen=True)
class VqaReference:
    """What the annotators said of one question.

    Attributes:
        answers: ten in VQA 2.0.
        answer_type: yes/no, number, other. question_type: the question's first words.
        either: whether any of the answers is right, since they are no annotators'.
    """

    answers: tuple[str, ...]
    answer_type: str | None = None
    question_type: str | None = None
    either: bool = False


def normalize_answer(text: str) -> str:
    """An answer as the official script compares it: signs, articles, number words and short forms made alike."""
    return _words(_signs(text))


def _signs(text: str) -> str:
    """Take signs out, or make them spaces; which of the two is decided on the text as it came."""
    comma = _COMMA_IN_NUMBER.search(text) is not None
    result = text
    for sign in _PUNCTUATION:
        beside_space = f"{sign} " in text or f" {sign}" in text
        result = result.replace(sign, "" if beside_space or comma else " ")
    return _FULL_STOP.sub("", result, count=_FULL_STOPS)


def _words(text: str) -> str:
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Accuracy (0–100) of one prediction: the mean, over leaving each annotator out, of min(matches / 3, 1).

    Nothing is normalised where all annotators agree. A single answer is compared with as it is.
    """
    said, given = _plain(prediction), [_plain(answer) for answer in answers]
    if len(set(given)) > 1:
        said, given = normalize_answer(said), [normalize_answer(answer) for answer in given]
    matches = [answer == said for answer in given]
    if len(matches) == 1:
        return 100.0 * matches[0]
    total = sum(matches)
    return 100 * sum(min(1.0, (total - match) / 3) for match in matches) / len(matches)


def _plain(text: str) -> str:
    return composed(text).replace("\n", " ").replace("\t", " ").strip()


def vqa_scores(
    predictions: Mapping[str, str], questions: Mapping[str, VqaReference], *, samples: int = 1000, seed: int = 0
) -> Scores:
    """Score predictions (question id to answer); as officially, every question needs one and no other may be there.

    Returns:
        `accuracy` (0–100), `per_answer_type`, `per_question_type` (type to accuracy), `n`, `ci` (`accuracy` to [low, high]),
        and `notes` where 100 can't be reached for want of annotators.
    Raises:
        DataError: questions and predictions are not the same set, a question has no answers, or there is none.
    """
    _same_questions(predictions, questions)
    ids = list(questions)
    right = official_accuracy(Inputs(ids, predictions, questions))
    values = right["accuracy"].per_example
    scores = {
        "accuracy": right["accuracy"].value,
        "per_answer_type": _by_type(values, [questions[key].answer_type for key in ids]),
        "per_question_type": _by_type(values, [questions[key].question_type for key in ids]),
        "n": len(ids),
        "ci": intervals(right, clusters=pictured(ids, questions), samples=samples, seed=seed),
    }
    return Scores(scores | _about_few(questions), ids, right)


@METRICS.register(
    Metric(
        "vqa_accuracy",
        "vqa",
        (Score("accuracy", "Accuracy", headline=True),),
        primary=True,
        default=True,
        source="Antol et al., ICCV 2015",
    )
)
def official_accuracy(inputs: Inputs) -> dict[str, SummedScore]:
    """The official VQA accuracy of each question."""
    return {"accuracy": mean_score([_accuracy(inputs.predictions[i], inputs.references[i]) for i in inputs.ids])}


def _accuracy(said: str, question: VqaReference) -> float:
    if not question.either:
        return vqa_accuracy(said, question.answers)
    return 100.0 * (normalize_answer(_plain(said)) in [normalize_answer(_plain(answer)) for answer in question.answers])


def _about_few(questions: Mapping[str, VqaReference]) -> dict[str, Any]:
    """What can be reached at all, where too few annotators are asked for three of the others to agree."""
    few = [key for key, one in questions.items() if 2 <= len(one.answers) <= 3 and not one.either]
    if not few:
        return {}
    best = np.mean([max(_accuracy(answer, one) for answer in one.answers) for one in questions.values()])
    told = (
        f"{len(few):,} of {len(questions):,} questions have 2 or 3 answers, of which the official score leaves one out"
    )
    return {"notes": {"accuracy": f"{told}: {best:.1f} is the most that can be reached"}}


def _same_questions(predictions: Mapping[str, str], questions: Mapping[str, VqaReference]) -> None:
    if not questions:
        raise DataError("there are no questions to score")
    missing = [key for key in questions if key not in predictions]
    foreign = [key for key in predictions if key not in questions]
    if missing or foreign:
        raise DataError(
            f"{len(missing)} questions have no prediction and {len(foreign)} predictions no question"
            f" (first: {(missing + foreign)[0]!r}); the official score needs the same set on both sides"
            + (about_id(foreign[0], questions) if foreign else "")
        )
    for key, question in questions.items():
        if not question.answers:
            raise DataError(f"question {key!r} has no answers")


def _by_type(values: Any, types: Sequence[str | None]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for value, kind in zip(values, types, strict=True):
        if kind is not None:
            groups[kind].append(float(value))
    return {kind: float(np.mean(group)) for kind, group in sorted(groups.items())}
