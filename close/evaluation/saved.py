"""What a saved evaluation holds, checked: pages and comparisons read files that may come from anywhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, StrictStr, ValidationError

from close.errors import DataError
from close.evaluation.metrics import METRICS
from close.io.plain import read_plain

__all__ = ["changed_search", "check_evaluation", "made_otherwise", "made_with", "not_compared", "saved_scores"]

_SEARCH: dict[str, Any] = {
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_length": 0,
    "min_new_tokens": None,
    "max_new_tokens": None,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
}
"""Settings of generation that change texts, and what they are where nobody says them."""
Number = FiniteFloat | None
Pair = tuple[FiniteFloat, FiniteFloat]


class _Example(BaseModel):
    id: StrictStr
    prediction: StrictStr
    references: list[StrictStr]
    score: FiniteFloat
    image: StrictStr | None = None
    images: list[StrictStr] = []
    source: StrictStr | None = None
    context: StrictStr | None = None


class _Examples(BaseModel):
    measure: StrictStr = ""
    best: list[_Example] = []
    worst: list[_Example] = []
    random: list[_Example] = []


class _Length(BaseModel):
    mean: FiniteFloat
    sd: FiniteFloat
    min: int
    max: int


class _Diversity(BaseModel):
    vocabulary: int
    unique: FiniteFloat
    distinct_1: FiniteFloat
    distinct_2: FiniteFloat
    length: _Length
    novel: Number = None


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class _Scores(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0
    missing: int | None = None
    tokenizer: StrictStr | None = None
    ci: dict[str, Pair] = {}
    notes: dict[str, StrictStr] = {}
    confusion: dict[str, dict[str, int]] = {}
    diversity: _Diversity | None = None
    per_domain: dict[str, _Part] = {}
    per_answer_type: dict[str, Number] = {}
    per_question_type: dict[str, Number] = {}
    per_label: dict[str, Number] = {}


class _Evaluation(BaseModel):
    model_config = ConfigDict(extra="allow")
    scores: _Scores
    examples: _Examples = _Examples()
    run: StrictStr | None = None
    data: StrictStr | None = None
    task: StrictStr | None = None
    modality: StrictStr | None = None
    rows: int | None = None
    limit: int | None = None


def check_evaluation(result: Any, where: str, scores: Mapping[str, str]) -> None:
    """Refuse what is no evaluation.

    Args:
        where: what its errors begin with. scores: keys of scores, whose values are numbers.
    Raises:
        DataError: the first wrong or missing value.
    """
    if not isinstance(result, Mapping) or not isinstance(result.get("scores"), Mapping):
        raise DataError(f"{where}: not an evaluation, no 'scores'")
    try:
        _Evaluation.model_validate(dict(result) | {"examples": result.get("examples") or {}})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:200]
        raise DataError(f"{where}: {place}: {first['msg']}, found {str(first['input'])[:80]!r}") from None
    every = [("scores", result["scores"])]
    every += [(f"per_domain.{name}", part) for name, part in result["scores"].get("per_domain", {}).items()]
    for place, values in every:
        for key in scores:
            value = values.get(key)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300
            ):
                raise DataError(f"{where}: {place}.{key} is {str(value)[:80]!r}, expected a number")


def changed_search(found: Mapping[str, Any], run: Path) -> str:
    """In which settings an evaluation was searched otherwise than its run says by now, in words; empty where in none.

    Args:
        found: what its `scores.json` says. run: the run's folder.
    Raises:
        DataError: the run's settings of generation can't be read.
    """
    kept, own = found.get("generation"), run / "generation_config.json"
    if not isinstance(kept, Mapping) or not own.is_file():
        return ""
    then, now = (
        {**_SEARCH, **{key: one[key] for key in _SEARCH if one.get(key) is not None}} for one in (kept, read_plain(own))
    )
    return ", ".join(f"{key} {then[key]}, now {now[key]}" for key in _SEARCH if then[key] != now[key])


def made_with(found: Mapping[str, Any], run: Path) -> dict[str, set[str]]:
    """What decides an evaluation beside its run, its rows and its search: by name, what it goes by; none of what it doesn't say.

    Args:
        found: what its `scores.json` says. run: the run's folder, which says what its own memory is.
    Raises:
        DataError: the run's configuration can't be read.
    """
    vectors, decoding = (one if isinstance(one := found.get(key), Mapping) else {} for key in ("vectors", "decoding"))
    about = {"other vectors (--vectors)": {str(vectors.get("sum"))}}
    if not vectors and "images_key" in found:
        about["perhaps other pictures (sizes or times of their files differ)"] = {str(found["images_key"])}
    if "precision" in found:
        about["another precision (--precision)"] = {str(found["precision"])}
    if decoding:
        about["another decoding (--decode, --normalise)"] = {f"{decoding.get('how')} {decoding.get('normalise')}"}
        own = ["its own"] if decoding.get("answers") is None else []  # learnt, as another run's are from other rows
        about["other answers (--answers)"] = {str(decoding.get("labels_sha256")), *own}
    if searched := found.get("memory"):
        retrieve = read_plain(run / "config.json").get("retrieve") if (run / "config.json").is_file() else None
        memory = retrieve.get("memory") if isinstance(retrieve, Mapping) else None
        trained = isinstance(memory, Mapping) and memory.get("sha256") == searched
        about["another memory (--memory)"] = {str(searched), *(["its own"] if trained else [])}
    return about


def made_otherwise(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> str:
    """In what two evaluations differ beside their runs (`made_with`), in words; empty where in nothing that both say."""
    return ", ".join(what for what in one if what in other and one[what].isdisjoint(other[what]))


def saved_scores(found: Any) -> set[str]:
    """The scores of an evaluation that have a number: those that a loaded metric declares, and all that have an interval.

    Args:
        found: what its `scores.json` says.
    """
    values = found.get("scores") if isinstance(found, Mapping) else None
    if not isinstance(values, Mapping):
        return set()
    names = {*METRICS.labels, *(values["ci"] if isinstance(values.get("ci"), Mapping) else ())}
    return {key for key in names if isinstance(value := values.get(key), (int, float)) and not isinstance(value, bool)}


def not_compared(saved: Sequence[Collection[str]], compared: Collection[str]) -> dict[str, str]:
    """The scores of evaluations that a comparison leaves out, and why.

    Args:
        saved: of each evaluation the scores that it has (`saved_scores`).
    """
    every = set[str]().union(*saved)
    order = [key for key in METRICS.labels if key in every] + sorted(every - {*METRICS.labels})
    return {key: _why_left_out(key, saved) for key in order if key not in compared}


def _why_left_out(key: str, saved: Sequence[Collection[str]]) -> str:
    metric = next((one for one in METRICS if key in (score.key for score in one.scores)), None)
    if metric is None:
        return "no metric that is loaded makes it: name its plug-in (--plugin)"
    if not METRICS.score(key).single:
        return "it is of all examples together, and single ones have none"
    if "encoder" in metric.needs:
        return "it needs the encoder and the pictures of a run"
    if "java" in metric.needs:
        return "it needs Java, which a comparison does not start"
    if not all(key in have for have in saved):
        return "not all evaluations have it: evaluate with the same --metric"
    return "it can't be made again of the texts and these rows"
