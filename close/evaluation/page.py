"""One finished evaluation, the comparison of two or more, or captions, as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from close.evaluation.metrics import METRICS
from close.evaluation.pictures import MOST, pictures_of, small_picture
from close.evaluation.saved import check_evaluation

__all__ = ["Figure", "captions_page", "comparison_page", "evaluation_page", "index_page"]

_PARTS = {
    "per_answer_type": "By answer type",
    "per_question_type": "By question type",
    "per_label": "Recall of each label",
}
_ELSEWHERE = ("scores", "examples", "met", "data_place")
"""No settings; the last is a path of this machine, and pages are sent round."""
_THUMBNAIL = 320


def evaluation_page(result: Mapping[str, Any]) -> str:
    """The page of what `scores.json` says: scores with intervals, parts, examples with pictures, settings; everything escaped.

    Raises:
        DataError: not an evaluation.
    """
    names = METRICS.labels
    check_evaluation(result, "the result", names)
    scores = result["scores"]
    return _template("page.html.j2").render(
        result=result,
        scores=scores,
        names=names,
        bars=_bars(scores, names),
        parts={title: scores[key] for key, title in _PARTS.items() if scores.get(key)},
        confusion=_confusion(scores.get("confusion")),
        examples=_examples(result.get("examples") or {}),
        settings=_flat({key: value for key, value in result.items() if key not in _ELSEWHERE}),
    )


def comparison_page(result: Mapping[str, Any]) -> str:
    """The page of what `compare` returns: differences with intervals and tests, and the examples that differ most."""
    shown, titles = result.get("examples") or {}, {"b_better": "B is better", "a_better": "A is better"}
    groups = [(title, [_drawn(one) for one in shown[key]]) for key, title in titles.items() if shown.get(key)]
    sign, names = METRICS.sign(shown.get("measure", "")), METRICS.labels
    return _template("comparison.html.j2").render(result=result, names=names, shown=shown, groups=groups, sign=sign)


@dataclass(frozen=True)
class Figure:
    """A drawing for a page: an SVG as it lies in a file, and what it shows in words."""

    svg: bytes
    caption: str

    @property
    def data(self) -> str:
        """In base 64, as an `img` takes it: nothing in it runs."""
        return base64.b64encode(self.svg).decode()


def index_page(
    result: Mapping[str, Any],
    *,
    title: str = "Runs side by side",
    over: str = "Intervals are over examples, by bootstrap.",
    groups: Sequence[Mapping[str, Any]] | None = None,
    claims: Sequence[str] = (),
    figures: Sequence[Figure] = (),
    whose: str = "",
) -> str:
    """The page of what `side_by_side` returns: scores with intervals, and the same pictures with what each says, to be filtered.

    Args:
        over: a sentence on what the intervals are over.
        groups: `name`, `scores`, `ci` and `notes` of each, in place of the result's own: a sweep's are over seeds.
        claims: sentences on what may be claimed, above the scores. figures: below them.
        whose: a sentence on which runs the examples are of.
    """
    names, shown = METRICS.labels, list(groups or result["groups"])
    keys = [key for key in names if any(key in group["scores"] for group in shown)]
    ends = [value for group in shown for key in keys for value in (group["scores"].get(key), *group["ci"].get(key, ()))]
    return _template("index.html.j2").render(
        result=result,
        title=title,
        over=over,
        names=names,
        keys=keys,
        groups=shown,
        claims=claims,
        figures=figures,
        whose=whose,
        top=max([1e-9, *(end for end in ends if end is not None)]),
        examples=[_drawn(one) for one in result["examples"]],
    )


def captions_page(outputs: Sequence[tuple[Sequence[str], Mapping[str, Any]]], title: str, about: str) -> str:
    """The page of what a run says of pictures: each with its text, its candidates and how sure the run is, to be filtered.

    Args:
        outputs: the files of each item, none where they are no pictures, and what `Output.to_dict` says.
        about: a line above the title.
    """
    sure = [_sureness(row) for _, row in outputs]
    least = sorted((value, place) for place, value in enumerate(sure) if value is not None)
    unsure = {place for _, place in least[: math.ceil(len(least) / 10)]} if len(least) > 1 else set()
    items = [_captioned(names, row, place in unsure) for place, (names, row) in enumerate(outputs)]
    calibrated = any(row.get("confidence") is not None for _, row in outputs)
    shares = (
        "the share of such texts that was right",
        "the mean log-probability of its tokens, which ranks what one run says",
    )
    return _template("captions.html.j2").render(
        title=title,
        about=about,
        items=items,
        note=f"Beside each name how sure the run is of its text: {shares[not calibrated]}.",
        unsure=len(unsure),
        silent=sum(item["silent"] for item in items),
    )


def _sureness(row: Mapping[str, Any]) -> float | None:
    """Of a row with a text."""
    if row.get("error") or not row["text"].strip():
        return None
    value: float | None = row["score"] if row.get("confidence") is None else row["confidence"]
    return value


def _captioned(names: Sequence[str], row: Mapping[str, Any], unsure: bool) -> dict[str, Any]:
    """An item of `captions_page`."""
    texts = [candidate["text"] for candidate in row.get("candidates", ())]
    hidden = "left out: less sure than was asked for" if row.get("left_out") else "said nothing"
    why = "it could not be read" if row.get("error") else hidden  # the error names places of this machine
    silent, value = not row["text"].strip(), _sureness(row)
    number = "" if value is None else f"{value:.0%}" if row.get("confidence") is not None else f"{value:.2f}"
    return _picture(names) | {
        "name": " + ".join(Path(part).name for part in row["item"].split(" + ")),
        "text": why if silent else row["text"],
        "silent": silent,
        "unsure": unsure,
        "sure": number,
        "others": [text for text in texts if text != row["text"]],
    }


def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("close.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value, key="": (
        f"{value:.{METRICS.digits(key)}f}" if isinstance(value, (int, float)) else "–"
    )
    environment.filters["change"] = lambda value, key="": f"{value:+.{METRICS.digits(key)}f}"
    return environment.get_template(name)


def _bars(scores: Mapping[str, Any], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Scores in the order of their names, each with its interval, placed on a scale of 0–100 or wider."""
    intervals = scores.get("ci", {})
    shown = {key: scores[key] for key in names if scores.get(key) is not None}
    ends = [*shown.values(), *(end for key in shown for end in intervals.get(key, ()))]
    top = max([100.0, *ends])
    return [
        {
            "key": key,
            "name": names[key],
            "value": value,
            "interval": intervals.get(key),
            "width": 100 * value / top,
            "from": 100 * intervals[key][0] / top if key in intervals else None,
            "to": 100 * intervals[key][1] / top if key in intervals else None,
        }
        for key, value in shown.items()
    ]


def _confusion(table: Mapping[str, Mapping[str, int]] | None) -> dict[str, Any] | None:
    """Rows of (label, cells of (predicted, count, share of the row))."""
    if not table:
        return None
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    rows = [
        (label, [(column, row.get(column, 0), row.get(column, 0) / max(1, sum(row.values()))) for column in columns])
        for label, row in table.items()
    ]
    return {"columns": columns, "rows": rows}


def _examples(chosen: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    titles = {"best": "Best", "worst": "Worst", "random": "At random"}
    return [(title, [_drawn(one) for one in chosen[key]]) for key, title in titles.items() if chosen.get(key)]


def _drawn(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example with its pictures, what they show in words, and its references counted."""
    said, names = _counted(example["references"]), pictures_of(example)
    what = f"Picture{'s' * (len(names) > 1)} of {example['id']}"
    alt = what + (f": {said[0][0]}" if said else "")
    return dict(example) | _picture(names) | {"said": said, "alt": alt}


def _counted(references: list[str]) -> list[tuple[str, int]]:
    """References in order, equal ones together (the ten answers of VQA)."""
    return list(Counter(references).items())


def _picture(names: Sequence[str]) -> dict[str, str]:
    """A small copy of pictures inside the page, and which of them are not in it."""
    if not names:
        return {}
    small, absent = small_picture(names, _THUMBNAIL)
    gone = f"{', '.join(Path(name).name for name in absent)}: not found, or no picture" if absent else ""
    if small is None:
        return {"absent": gone}
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    more = f"{MOST} of {len(names)} pictures" if len(names) > MOST else ""
    return {"data": base64.b64encode(buffer.getvalue()).decode(), "more": "; ".join(filter(None, (more, gone)))}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as lines of dotted names."""
    lines: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            lines.append((f"{prefix}{key}", value))
    return lines
