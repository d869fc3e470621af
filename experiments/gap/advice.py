"""The advice of `close recommend` and the choice by text alone, judged by sweeps: adapters × noise × caption settings × seeds.

    python experiments/gap/advice.py                                     # on the embedded encoder, which the rule was made on
    python experiments/mini_world/train_encoder.py --seed 2 --width 160 --logit-scale 70 --out runs/third
    python experiments/gap/advice.py --encoder runs/third --out experiments/gap/advice_third.json       # the judgement
    python experiments/gap/advice.py --only single                       # in one process …, and `multiple` in another
    python experiments/gap/advice.py --record                            # only write down what is finished

The rule is close/gap/advice as committed; the record names the commit. The design is fractional: noise alone at six
strengths, the others where they may matter, and two lengths of training. What is advised (from captions, which have groups
anyway where several are targets; from groups of them; from unpaired pictures as well; from pairs) is trained too, as one more
arm. The best arm is the best *mean over seeds on test pictures*, which favours it; the advised arms count among them, the
image-trained one does not. Every run is scored by stand-ins too (`close.study.selection`), and the run that these choose for a
seed is compared with that seed's best, the arm that they choose with the best arm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gap_lab import CEILING, COSINES, SCORE, Lab, gather, judged, noise, rule, scored, selection, selection_table

from close.adapters import ADAPTERS
from close.adapters.specs import split_spec, stages_of
from close.data.rows import RowFile
from close.gap import recommend
from close.io.files import read_json, waiting, write_json
from close.io.plots import figure, save_png
from close.runs.row_vectors import embeddings_of
from close.study.export import cell
from close.tasks import get_task
from close.vectors.table import EmbeddingTable

SETTINGS = ("single", "multiple")
BEHIND: dict[str, tuple[list[Any], tuple[float, ...]]] = {
    "mean_shift": (["mean_shift"], (0.95, 0.84)),
    "centring": (["centring"], (0.84, 0.6)),
    "realign": (["realign"], (0.84,)),
    "shared": (["shared"], (0.84, 0.67)),
    "shared, mean_shift": (["shared", "mean_shift"], (0.84, 0.67)),
    "shared, centring": (["shared", "centring"], (0.84,)),
    "covariance": (["covariance"], (0.84,)),
    "ridge": ([{"linear": {"method": "ridge"}}], (0.84,)),
}
"""Adapters by title, and the noises that are swept behind them."""
SHORTER = (0.84, 0.67)
WANTED = {"texts": 0.9, "groups": 0.9, "unpaired": 0.95, "pairs": 0.95}
"""Share of the best swept score that the advice is to reach, by what it rests on."""


def advised(lab: Lab, captions: str) -> dict[str, dict[str, Any]]:
    """What the rule says from each kind of data, by kind; kept beside the runs."""
    place = lab.place / f"advice-{captions}-{rule()[:8]}.json"
    with waiting(Path(f"{place}.lock")):
        kept = read_json(place) if place.is_file() else {}
        if not kept or (captions == "single" and "texts" not in kept):
            rows = RowFile(lab.rows("train"))
            text = embeddings_of(rows, get_task("caption"), EmbeddingTable(lab.table("train", "text")))
            groups = np.array([row.group for row in rows])
            texts = text.main(range(len(rows)))
            images, own = (EmbeddingTable(lab.table("fit", modality))[:] for modality in ("image", "text"))
            # pairs: the fit scenes' captions are more texts, each of which belongs to its picture
            both = np.concatenate((texts, own))
            index = np.stack((len(texts) + np.arange(len(own)), np.arange(len(own))), axis=1)
            labels = np.concatenate((groups, [f"fit {i}" for i in range(len(own))]))
            given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
                **({"texts": ((texts,), {})} if captions == "single" else {}),
                "groups": ((texts,), {"groups": groups}),
                "unpaired": ((texts, images), {"pairs": "unpaired", "groups": groups}),
                "pairs": ((both, images), {"pairs": index, "groups": labels}),
            }
            for kind, (tables, more) in given.items():
                if kind not in kept:
                    kept[kind] = recommend(*tables, captions=captions, **more).to_dict()
            write_json(place, kept)
    return dict(read_json(place))


def changes_of(lab: Lab, advice: dict[str, Any]) -> dict[str, Any]:
    """The recipe's part of an advice, with the tables that its adapter is fitted on."""
    stages = fitted_on(lab, stages_of(advice["adapter"]))
    return {"adapter": [*stages, *noise(advice["cosine"])] or "none", "captions": advice["captions"]}


def fitted_on(lab: Lab, stages: list[Any]) -> list[Any]:
    """The stages, each with the tables that it learns from beside the training text."""
    found = []
    for stage in stages:
        name, own = split_spec(stage)
        fit = lab.fit.get(ADAPTERS[name].needs)
        found.append({name: {**own, "fit": fit}} if fit else stage)
    return found


def sweep_arms(lab: Lab, captions: str) -> dict[str, dict[str, Any]]:
    """The fractional design."""
    short = {"training": {"max_steps": max(1, lab.steps // 2)}}
    arms: dict[str, dict[str, Any]] = {"none": {"adapter": "none", "captions": captions}}
    arms |= {f"noise {c:g}": {"adapter": noise(c), "captions": captions} for c in COSINES}
    for title, (stages, cosines) in BEHIND.items():
        own = fitted_on(lab, stages)
        arms |= {f"{title} + {c:g}": {"adapter": [*own, *noise(c)], "captions": captions} for c in cosines}
    arms |= {f"noise {c:g}, half the steps": arms[f"noise {c:g}"] | short for c in SHORTER}
    return arms


def judge(lab: Lab, captions: str) -> dict[str, Any]:
    """Scores of all arms, the advice's share of the best, the selection's share of the best."""
    advice = advised(lab, captions)
    arms = sweep_arms(lab, captions)
    for kind, said in advice.items():
        arms[f"advised from {kind}"] = changes_of(lab, said)
    found = gather(lab, arms | {"image": CEILING}, select=True)
    table = scored(found)
    able = {name: arm["image"][SCORE]["mean"] for name, arm in table.items() if name != "image"}
    if not able:
        return {}
    best = max(able, key=lambda name: able[name])
    result: dict[str, Any] = {"arms": table, "best": best, "best_score": able[best], "advice": {}, "selection": {}}
    for kind, said in advice.items():
        if (name := f"advised from {kind}") in able:
            share = able[name] / able[best]
            result["advice"][kind] = {
                "adapter": said["adapter"] or "none",
                "cosine": said["cosine"],
                "score": able[name],
            }
            result["advice"][kind] |= {"share_of_best": share, "wanted": WANTED[kind], "reached": share >= WANTED[kind]}
            result["advice"][kind] |= {"reasons": said["reasons"]}
    result["selection"] = selection(arms | {"image": CEILING}, found)
    return result


def markdown(record: dict[str, Any]) -> str:
    """The verdicts, then every arm."""
    lines = ["| captions | rests on | advice | CIDEr | best swept | share | wanted |", "|---|---|---|---|---|---|---|"]
    for captions, found in record["settings"].items():
        best = f"{found['best']} {found['best_score']:.1f}"
        for kind, said in found["advice"].items():
            adapter = ", ".join(split_spec(stage)[0] for stage in stages_of(said["adapter"]))
            advice = f"{adapter} + {said['cosine']:g}" if adapter != "none" else f"noise {said['cosine']:g}"
            lines.append(
                f"| {captions} | {kind} | {advice} | {said['score']:.1f} | {best} | {said['share_of_best']:.3f} "
                f"| {said['wanted']} {'✓' if said['reached'] else '✗'} |"
            )
    lines += ["", *selection_table({captions: found["selection"] for captions, found in record["settings"].items()})]
    for captions, found in record["settings"].items():
        lines += ["", f"### {captions} captioning", ""]
        lines += [
            "| | CIDEr, pictures in | attribute accuracy % | recovered CIDEr | CIDEr, text in |",
            "|---|---|---|---|---|",
        ]
        for name, arm in found["arms"].items():
            share = (arm.get("recovered_share") or {}).get(SCORE)
            cells = [cell(arm["image"][SCORE]), cell(arm["image"]["attribute_accuracy"])]
            cells += ["–" if share is None else f"{share:.2f}", cell(arm["text"][SCORE])]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(record: dict[str, Any], path: Path) -> None:
    """CIDEr on pictures against the noise, for every adapter, with the advice marked."""
    settings = record["settings"]
    drawn = figure(max(9, 5.2 * len(settings)), 4.4)
    colours = {
        "noise": "#1f7a63",
        "mean_shift": "#c58b2a",
        "centring": "#5b6bb5",
        "covariance": "#a34f6b",
        "realign": "#7f8c3a",
        "shared": "#c0392b",
        "shared, mean_shift": "#e07b39",
        "shared, centring": "#8e5bb5",
        "ridge": "#34495e",
    }
    marks = {"texts": "^", "groups": "v", "unpaired": "s", "pairs": "D"}
    for axes, (captions, found) in zip(
        drawn.subplots(1, len(settings), squeeze=False)[0], settings.items(), strict=True
    ):
        arms = found["arms"]
        for place, (family, colour) in enumerate(colours.items()):
            join = " " if family == "noise" else " + "
            points = {1.0: arms["none"]} if family == "noise" and "none" in arms else {}
            names = [n for n in arms if n.startswith(family + join) and "half" not in n]
            points |= {float(name.removeprefix(family + join)): arms[name] for name in names}
            if points:
                scores = [points[c]["image"][SCORE] for c in sorted(points)]
                halves = [s["ci"][1] - s["mean"] if s["ci"] else 0 for s in scores]
                label = "noise alone" if family == "noise" else f"{family} + noise"
                axes.errorbar(
                    [c + 0.006 * (place - 4) * (place > 0) for c in sorted(points)],  # side by side
                    [s["mean"] for s in scores],
                    yerr=halves,
                    fmt="o-",
                    capsize=2,
                    color=colour,
                    label=label,
                )
        for kind, said in found["advice"].items():
            axes.plot(
                said["cosine"], said["score"], marks[kind], ms=9, mfc="none", mec="black", label=f"advised: {kind}"
            )
        if "image" in arms:
            axes.axhline(
                arms["image"]["image"][SCORE]["mean"], color="#5d6b7e", ls="--", lw=1, label="trained on images"
            )
        axes.invert_xaxis()
        axes.set_xlabel("cosine that the noise leaves (more noise →)")
        axes.set_ylabel("CIDEr on pictures")
        axes.set_title(f"{captions} captioning", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save_png(drawn, path)


def main() -> None:
    judged(__doc__ or "", SETTINGS, "advice.json", judge, markdown, plot)


if __name__ == "__main__":
    main()
