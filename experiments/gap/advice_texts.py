"""The advice of `close recommend` from captions alone, of which nobody knows which belong together: the commonest case.

    python experiments/gap/advice_texts.py                      # 3,000 captions, one of each scene, and 300 of them: 48 runs
    python experiments/gap/advice_texts.py --only 300           # in one process …, and 3000 in another
    python experiments/gap/advice_texts.py --record             # only write down what is finished

Without groups or pictures only noise can be advised, so it is judged against noise alone at six strengths and none: by its
share of the best mean over seeds on test pictures, which favours the best.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gap_lab import CEILING, COSINES, SCORE, Lab, gather, judged, noise, scored

from close.adapters.specs import split_spec, stages_of
from close.data.rows import RowFile
from close.gap import recommend
from close.io.files import waiting, write_text
from close.io.plots import figure, save_png
from close.runs.row_vectors import embeddings_of
from close.study.export import cell
from close.tasks import get_task
from close.vectors.cache import cached_table

SIZES = ("3000", "300")
WANTED = 0.95
"""Share of the best noise that the advice is to reach."""


def captions_of(lab: Lab, size: str) -> Path:
    """So many training captions, each of another scene, without what says so."""
    place = lab.args.work / "data" / f"captions-{lab.sizes['train']}-{size}.jsonl"
    with waiting(Path(f"{place}.lock")):
        if not place.exists():
            first = {row.group: row.source for row in reversed(list(RowFile(lab.rows("train"))))}
            some = list(first.values())[: max(20, round(int(size) * min(lab.args.scale, 1.0)))]
            write_text(place, "".join(json.dumps({"source": text}) + "\n" for text in some))
    return place


def judge(lab: Lab, size: str) -> dict[str, Any]:
    """Scores of all noises, and the advice's share of the best."""
    rows = RowFile(captions_of(lab, size))
    text = embeddings_of(rows, get_task("caption"), cached_table(rows, lab.encoder, "text")).main(range(len(rows)))
    advice = recommend(text, captions="single").to_dict()
    data = {"data": {"train": str(captions_of(lab, size).resolve())}}
    arms: dict[str, dict[str, Any]] = {"none": {"adapter": "none"}}
    arms |= {f"noise {cosine:g}": {"adapter": noise(cosine)} for cosine in (*COSINES, 0.54)}
    arms["advised"] = {"adapter": [*stages_of(advice["adapter"]), *noise(advice["cosine"])] or "none"}
    found = gather(lab, {name: changes | data for name, changes in arms.items()} | {"image": CEILING})
    table = scored(found)
    able = {name: arm["image"][SCORE]["mean"] for name, arm in table.items() if name != "image"}
    if "advised" not in able:
        return {}
    best = max(able, key=lambda name: able[name])
    share = able["advised"] / max(able[best], 1e-9)
    kept = {key: advice[key] for key in ("adapter", "cosine", "reasons")}
    said = kept | {"score": able["advised"], "share_of_best": share, "wanted": WANTED, "reached": share >= WANTED}
    return {"captions": len(rows), "arms": table, "best": best, "best_score": able[best], "advice": said}


def markdown(record: dict[str, Any]) -> str:
    """The verdicts, then every arm."""
    lines = ["| captions | advice | CIDEr | best | share | wanted |", "|---|---|---|---|---|---|"]
    for found in record["settings"].values():
        said = found["advice"]
        stages = [split_spec(stage)[0] for stage in stages_of(said["adapter"])]
        advice = ", ".join([*stages, f"noise {said['cosine']:g}"])
        lines.append(
            f"| {found['captions']:,} | {advice} | {said['score']:.1f} | {found['best']} {found['best_score']:.1f} "
            f"| {said['share_of_best']:.3f} | {said['wanted']} {'✓' if said['reached'] else '✗'} |"
        )
    names = list(dict.fromkeys(name for found in record["settings"].values() for name in found["arms"]))
    lines += [
        "",
        "| CIDEr on pictures | " + " | ".join(f"{f['captions']:,}" for f in record["settings"].values()) + " |",
    ]
    lines += ["|---" * (1 + len(record["settings"])) + "|"]
    for name in names:
        arms = [found["arms"].get(name) for found in record["settings"].values()]
        lines.append(f"| {name} | " + " | ".join(cell(arm["image"][SCORE]) if arm else "–" for arm in arms) + " |")
    return "\n".join(lines) + "\n"


def plot(record: dict[str, Any], path: Path) -> None:
    """CIDEr on pictures against the noise, with the advice marked."""
    drawn = figure(7, 4.2)
    axes = drawn.subplots()
    for found, colour in zip(record["settings"].values(), ("#1f7a63", "#c58b2a"), strict=False):
        points = {1.0: found["arms"]["none"]}
        points |= {float(name[6:]): arm for name, arm in found["arms"].items() if name.startswith("noise ")}
        scores = [points[cosine]["image"][SCORE] for cosine in sorted(points)]
        halves = [score["ci"][1] - score["mean"] if score["ci"] else 0 for score in scores]
        means = [score["mean"] for score in scores]
        axes.errorbar(
            sorted(points),
            means,
            yerr=halves,
            fmt="o-",
            capsize=2,
            color=colour,
            label=f"{found['captions']:,} captions",
        )
        said = found["advice"]
        axes.plot(said["cosine"], said["score"], "D", ms=9, mfc="none", mec=colour, label="advised")
    axes.invert_xaxis()
    axes.set_xlabel("cosine that the noise leaves (more noise →)")
    axes.set_ylabel("CIDEr on pictures")
    axes.legend(frameon=False)
    save_png(drawn, path)


def main() -> None:
    judged(__doc__ or "", SIZES, "advice_texts.json", judge, markdown, plot)


if __name__ == "__main__":
    main()
