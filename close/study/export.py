"""A sweep's table as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from close.evaluation.metrics import METRICS
from close.evaluation.metrics.diversity import FAR
from close.study.claims import sentence

__all__ = [
    "MODALITIES",
    "captions_of",
    "cell",
    "claimed",
    "csv_of",
    "drawn_score",
    "fed",
    "latex_of",
    "scores_of",
    "several_settings",
    "table_of",
]

MODALITIES = {"image": "images in", "text": "text in", "tuning": "images of --tune in", "selection": "stand-ins in"}
DRAWN = ("text", "selection", "image")
"""What the figure shows, in the order in which it is drawn."""
FEW = 3
"""Seeds below which values are shown as they are: an interval of two is wider than any score."""
TOLD = 2
"""Scores of which a table says in words what may be claimed."""


def table_of(summary: dict[str, Any]) -> str:
    """The table as Markdown, what its numbers and the figures mean below it; of several settings the methods come first."""
    head, rows = _cells(summary)
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    drawn = [f"{name}.png shows {caption}" for name, caption in captions_of(summary).items()]
    return "\n".join([*_methods(summary), *lines, "", *_notes(summary), *drawn]) + "\n"


def _methods(summary: dict[str, Any]) -> list[str]:
    """Of methods that were tried in several settings, the first score of each."""
    if not several_settings(summary):
        return []
    score, found = next(iter(summary["claims"].items()))
    form = f".{METRICS.digits(score)}f"
    lines = [f"| method | {score} over {len(found['settings'])} settings | worst | tuned |", "|---|---|---|---|"]
    for name, one in found["methods"].items():
        over = f"{one['mean']:{form}}" + (f" [{one['ci'][0]:{form}}, {one['ci'][1]:{form}}]" if one["ci"] else "")
        ends = [one["worst"], one.get("tuned")]
        cells = [f"{end['mean']:{form}} ({end['setting']})" if end else "–" for end in ends]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | {over} | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


def latex_of(summary: dict[str, Any]) -> str:
    """The table as LaTeX, with the rules of the package booktabs, what its numbers mean below it."""
    head, rows = _cells(summary)
    body = [" & ".join(map(_escaped, line)) + r" \\" for line in rows]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
            r"\toprule",
            " & ".join(map(_escaped, head)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par{{\footnotesize {_escaped(note)}}}" for note in _notes(summary)),
            "",
        ]
    )


def csv_of(summary: dict[str, Any]) -> str:
    """Every score of every arm in a line of its own: mean, 95 % interval, share recovered, and the value of each seed.

    Of fewer than three seeds there is no interval, as in the other tables. A column says which vectors were given.
    """
    arms = summary["arms_scored"]
    seeds = list(dict.fromkeys(seed for arm in arms.values() for seed in arm["seeds"]))
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    given = summary.get("vectors")
    head = ["method", "input", "score", "mean", "low", "high", "recovered", *(["vectors"] if given else [])]
    lines.writerow([*head, *(f"seed {seed}" for seed in seeds)])
    for name, arm in arms.items():
        for modality in MODALITIES:
            for key, score in arm.get(modality, {}).items():
                recovered = arm.get("recovered_share", {}).get(key) if modality == "image" else None
                values = dict(zip(arm["seeds"], score["values"], strict=True))
                low, high = (score["ci"] if len(score["values"]) >= FEW else None) or (None, None)
                told = [
                    name,
                    modality,
                    key,
                    score["mean"],
                    low,
                    high,
                    recovered,
                    *([given.get(modality)] if given else []),
                ]
                lines.writerow([*told, *map(values.get, seeds)])
    return out.getvalue()


def cell(score: Mapping[str, Any] | None, digits: int = 1) -> str:
    """`interval` as text: mean ± half the interval; of fewer than three seeds, their values."""
    if score is None:
        return "–"
    if len(score["values"]) < FEW:
        return ", ".join(f"{value:.{digits}f}" for value in score["values"])
    return f"{score['mean']:.{digits}f} ± {score['ci'][1] - score['mean']:.{digits}f}"


def _cells(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows, as text."""
    arms = summary["arms_scored"]
    columns = [(modality, key) for modality in MODALITIES for key in scores_of(arms, modality)]
    shares = list(next(iter(arms.values())).get("recovered_share", {}))[:2]
    head = ["method", *(f"{key}, {MODALITIES[modality]}" for modality, key in columns)]
    head += [f"recovered {key}" for key in shares]
    told = any("length_ratio" in arm for arm in arms.values())
    head += ["length ÷ references"] if told else []
    rows = []
    for name, arm in arms.items():
        found = arm.get("recovered_share", {})
        cells = (cell(arm.get(modality, {}).get(key), METRICS.digits(key)) for modality, key in columns)
        rows.append([name, *cells])
        rows[-1] += [f"{found[key]:.2f}" if found.get(key) is not None else "–" for key in shares]
        rows[-1] += [f"{arm['length_ratio']:.2f}" if "length_ratio" in arm else "–"] if told else []
    return head, rows


def scores_of(arms: dict[str, Any], modality: str) -> list[str]:
    """The scores that are shown: all for images in, the first one for the others; none where there are none."""
    keys = next((list(arm[modality]) for arm in arms.values() if modality in arm), [])
    return keys if modality == "image" else keys[:1]


def _notes(summary: dict[str, Any]) -> list[str]:
    """What the table's numbers mean, and what was chosen."""
    arms = summary["arms_scored"]
    counts = sorted({len(arm["seeds"]) for arm in arms.values()})
    seeds = f"{counts[0]} seed{'s' * (counts[0] != 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    notes = []
    if counts[-1] >= FEW:
        notes.append(f"± is half the 95 % interval of the mean over {seeds} (Student's t).")
    if counts[0] < FEW:
        notes.append(f"Of fewer than {FEW} seeds each one's value is shown ({seeds}): they give no interval.")
    if any("recovered_share" in arm for arm in arms.values()):
        chance = "image is no better than none, whatever chance may do to one seed"
        chance = "image − none is within chance" if counts[0] > 1 else chance
        notes.append(f"Recovered is (method − none) / (image − none), of the means; – where {chance}.")
    notes += fed(summary)
    if learnt := dict.fromkeys(one for told in summary.get("fitted_on", {}).values() for one in told):
        notes.append(f"Fitted: {'; '.join(learnt)}.")
    if scored := next((arm["examples"] for arm in arms.values() if "examples" in arm), None):
        notes.append(
            f"Images in: {scored['image']:,} images, each against the captions of all its rows; "
            f"text in: {scored['text']:,} rows, each against its own."
        )
    if len(counts) > 1:
        notes.append("What is recovered and chosen is of the seeds that all arms have.")
    off = [name for name, arm in arms.items() if not 1 / FAR <= arm.get("length_ratio", 1.0) <= FAR]
    if off and "length_matched_on" not in summary:
        whose = "all arms" if len(off) == len(arms) > 1 else ", ".join(off)
        notes.append(
            f"Captions of {whose} are much longer or shorter than references, and scores pay for it: "
            "--match-length PHOTOS compares arms that tell as much as their training texts."
        )
    if photos := summary.get("length_matched_on"):
        short = [name for name, arm in arms.items() if not arm.get("length_reached", True)]
        told = f"; no penalty does it for all runs of {', '.join(short)}" if short else ""
        notes.append(f"Each run's texts are made as long as its training texts, on {photos}{told}.")
    notes += claimed(summary)
    if chosen := summary.get("selected"):
        notes.append(f"Chosen by text: {chosen['arm']}" + _share_of_best(chosen))
    return notes


def fed(summary: Mapping[str, Any]) -> list[str]:
    """Of which tables' vectors scores are, in a sentence; nothing where the encoder read all that was looked at."""
    given = summary.get("vectors", {})
    told = [f"{MODALITIES[name]}: {given[name]}" for name in MODALITIES if name in given]
    return [f"Of vectors that were given, with nothing read by the encoder ({'; '.join(told)})."] if told else []


def claimed(summary: Mapping[str, Any]) -> list[str]:
    """What may be claimed, a sentence each of the first scores; nothing where nothing was compared."""
    found = list(summary.get("claims", {}).items())[:TOLD]
    return [sentence(one, score, METRICS.digits(score)) for score, one in found]


def several_settings(summary: Mapping[str, Any]) -> bool:
    """Whether methods were compared in several settings."""
    return any(len(found["settings"]) > 1 for found in summary.get("claims", {}).values())


def drawn_score(arms: dict[str, Any]) -> tuple[list[str], str]:
    """What the figure of arms shows: the inputs, and the score of the last of them."""
    shown = [modality for modality in DRAWN if scores_of(arms, modality)]
    return shown, scores_of(arms, shown[-1])[0]


def captions_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """What each figure shows, by its name."""
    arms = summary["arms_scored"]
    _, key = drawn_score(arms)
    found = {}
    if several_settings(summary):
        methods = next(iter(summary["claims"].values()))["methods"].values()
        tuned = ", diamonds the tuned setting" if any("tuned" in one for one in methods) else ""
        score = METRICS.score(next(iter(summary["claims"]))).label
        found["methods"] = (
            f"{score}, images in: black the mean over settings with its nested 95 % interval, ticks each run{tuned}."
        )
    few = min(len(arm["seeds"]) for arm in arms.values()) < FEW
    marks = "points are means, ticks each seed's value" if few else "means with 95 % intervals over seeds"
    ends = {"none": "dotted without an adapter", "image": "dashed trained on images"}
    lines = ", ".join(line for name, line in ends.items() if "image" in arms.get(name, ()))
    lines = f"; vertical lines are of images in, {lines}" if lines else ""
    return found | {"sweep": f"{METRICS.score(key).label}: {marks}{lines}."}


def _share_of_best(chosen: dict[str, Any]) -> str:
    if "score" not in chosen:
        return ""
    form, share = f".{METRICS.digits(chosen['by'])}f", chosen["share_of_best"]
    top = f"({chosen['best']}: {chosen['best_score']:{form}})"
    of = f"where there is better {top}" if share is None else f"{100 * share:.1f} % of the best {top}"
    if share is None and chosen["score"] == chosen["best_score"]:
        of = "the best"
    return f"; {chosen['by']} {chosen['score']:{form}} on images, {of}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
}


def _escaped(text: str) -> str:
    return re.sub(r"[\\~^±−–&%$#_{}]", lambda found: _LATEX.get(found[0], "\\" + found[0]), text)
