"""The paper's ablations (Gu et al., ICCV 2023) on the mini world: noise, adapters, translations, and linear maps.

    python experiments/gap/ablation.py                                  # all of it; a stopped run continues
    python experiments/gap/ablation.py --only noise_single --threads 1  # in one process …
    python experiments/gap/ablation.py --only adapters                  # … and at the same time in another
    python experiments/gap/ablation.py --record                         # only write down what is finished

Every run takes the same number of steps. Runs that `advice.py` made in the same --work folder are not made again.
After a change of the mini world's captions start in another --work folder.
Writes ablation.json, .md and .png beside this file from all runs that are finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gap_lab import CEILING, COSINES, Lab, gather, noise, options, scored
from lab import write_record

from close.io.plots import figure, save_png
from close.study.export import cell
from close.study.results import interval

BEHIND = 0.84
"""Noise behind the adapters; the same for all, so that adapters are compared and not their tuning."""
BEHIND_RIDGE = (BEHIND, 0.75, 0.67)
SHIFTS = (0.2, 0.5, 0.8, 1.0, 2.0)
TITLES = {
    "noise_single": "Noise, single captioning (cosine that it leaves)",
    "noise_multiple": "Noise, multiple captioning (cosine that it leaves)",
    "adapters": f"Adapters, multiple captioning (with noise of cosine {BEHIND})",
    "translation": f"Translations of the text vectors, multiple captioning (with noise of cosine {BEHIND})",
    "paired": "Linear maps and the noise behind them, single captioning",
}
PAPER = {
    "noise_single": {"none": 16.4, "cosine 0.41": 80.5, "cosine 0.29": 95.4, "image": 113.2},
    "noise_multiple": {"none": 68.7, "cosine 0.67": 98.4, "cosine 0.41": 95.3, "image": 113.2},
    "adapters": {"none": 68.7, "noise alone": 94.3, "covariance": 106.5, "linear": 99.5, "image": 113.2},
    "translation": {"none moved": 94.4, "+Δ": 92.8, "−Δ": 84.3}
    | dict(zip((f"random {norm:g}" for norm in SHIFTS), (93.5, 92.5, 89.3, 87.2, 73.7), strict=True)),
    "paired": {},
}
"""CIDEr on COCO with ViT-L/14 and T5-base, where the paper has the row. Its noise cosines are .41, .29, .67 at d = 768."""
AGAINST = {"adapters": "noise alone", "translation": "none moved"}
"""What the arms of a part are compared with, seed by seed; of the others, no adapter."""


def parts(lab: Lab) -> dict[str, dict[str, dict[str, Any]]]:
    """The arms of each table."""
    unpaired, paired = lab.fit["unpaired"], lab.fit["paired"]
    single = {"none": {"adapter": "none"}}
    multiple = {"none": {"adapter": "none", "captions": "multiple"}}
    image = {"image": CEILING}

    def behind(spec: Any, captions: str = "multiple", cosine: float = BEHIND) -> dict[str, Any]:
        return {"adapter": [*([spec] if spec else []), *noise(cosine)], "captions": captions}

    def fitted(name: str, fit: dict[str, str], **own: Any) -> dict[str, Any]:
        return {name: {**own, "fit": fit}}

    shift = fitted("mean_shift", unpaired)
    ridge = fitted("linear", paired, method="ridge", alpha=0.1)
    residual = [ridge, fitted("covariance", paired)]  # the map, and noise like what it leaves of the gap
    return {
        "noise_single": single | {f"cosine {c:g}": {"adapter": noise(c)} for c in COSINES} | image,
        "noise_multiple": multiple
        | {f"cosine {c:g}": {"adapter": noise(c), "captions": "multiple"} for c in COSINES}
        | image,
        "adapters": multiple
        | {
            "noise alone": behind(None),
            "uniform ball (CapDec)": {"adapter": [{"uniform": {"cosine": BEHIND}}], "captions": "multiple"},
            "mean shift": behind(shift),
            "centring (C3)": behind(fitted("centring", unpaired)),
            "mean and std": behind(fitted("moments", unpaired)),
            "realign": behind(fitted("realign", unpaired)),
            "transport": behind(fitted("transport", unpaired)),
            "covariance": behind(fitted("covariance", paired)),
            "covariance × 3": behind(fitted("covariance", paired, scale=3.0)),
            "linear": behind(fitted("linear", paired)),
            "ridge": behind(fitted("linear", paired, method="ridge")),
            "procrustes": behind(fitted("linear", paired, method="procrustes")),
            "ridge and its residual": {"adapter": residual, "captions": "multiple"},
            "memory (DeCap)": {"adapter": "memory", "captions": "multiple"},
        }
        | image,
        "translation": {
            "none moved": behind(None),
            "+Δ": behind(shift),
            "−Δ": behind(fitted("mean_shift", unpaired, scale=-1.0)),
        }
        | {f"random {norm:g}": behind({"random_shift": {"norm": norm}}) for norm in SHIFTS},
        "paired": single
        | {f"ridge + {c:g}": behind(fitted("linear", paired, method="ridge"), "single", c) for c in BEHIND_RIDGE}
        | {
            f"procrustes + {BEHIND:g}": behind(fitted("linear", paired, method="procrustes"), "single"),
            f"least squares + {BEHIND:g}": behind(fitted("linear", paired), "single"),
            "ridge and its residual": {"adapter": residual},
        }
        | image,
    }


def compared(runs: dict[str, list[dict[str, Any]]], base: str) -> dict[str, Any]:
    """The arms' scores, and what each has more CIDEr on pictures than the base with the same seed."""
    arms = scored(runs)
    known = {run["seed"]: run["image"]["cider"] for run in runs.get(base, ())}
    for title, own in runs.items():
        more = [run["image"]["cider"] - known[run["seed"]] for run in own if run["seed"] in known]
        arms[title]["brings"] = {"against": base, "cider": interval(more)} if more and title != base else None
    return arms


def markdown(record: dict[str, Any]) -> str:
    """One table a part."""
    lines: list[str] = []
    for part, arms in record["parts"].items():
        rows = [f"### {TITLES[part]}", ""]
        base = f"against {AGAINST.get(part, 'none')}, within a seed"
        rows += [f"| | CIDEr, pictures in | {base} | attribute accuracy % | recovered CIDEr | CIDEr, text in | paper |"]
        rows += ["|---|---|---|---|---|---|---|"]
        for title, arm in arms.items():
            share = (arm.get("recovered_share") or {}).get("cider")
            more = cell((arm["brings"] or {}).get("cider"))
            cells = [cell(arm["image"]["cider"]), more, cell(arm["image"]["attribute_accuracy"])]
            cells += ["–" if share is None else f"{share:.2f}", cell(arm["text"]["cider"])]
            rows.append(f"| {title} | " + " | ".join(cells) + f" | {PAPER[part].get(title, '')} |")
        lines += [*rows, ""]
    return "\n".join(lines)


def plot(record: dict[str, Any], path: Path) -> None:
    """Every part's CIDEr with its interval over seeds."""
    shown = record["parts"]
    heights = [len(arms) for arms in shown.values()]
    drawn = figure(8, 0.9 * len(shown) + 0.28 * sum(heights))
    axes = drawn.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, (part, arms) in zip(axes, shown.items(), strict=True):
        for modality, colour, up in (("text", "#9aa8bb", 0.14), ("image", "#1f7a63", -0.14)):
            scores = [arm[modality]["cider"] for arm in arms.values()]
            halves = [score["ci"][1] - score["mean"] if score["ci"] else 0 for score in scores]
            places = [row + up for row in range(len(scores))]
            kind = "pictures in" if modality == "image" else "text in"
            panel.errorbar(
                [s["mean"] for s in scores], places, xerr=halves, fmt="o", color=colour, capsize=2, label=kind
            )
        panel.set_yticks(range(len(arms)), list(arms), fontsize=8)
        panel.set_ylim(len(arms) - 0.5, -0.5)
        panel.set_title(TITLES[part], fontsize=9, loc="left")
        panel.grid(axis="x", color="#e3e7ee", linewidth=0.8)
        panel.set_axisbelow(True)
    axes[-1].set_xlabel("CIDEr: mean and 95 % interval over seeds")
    axes[0].legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def main() -> None:
    args = options(__doc__ or "", list(TITLES), "ablation.json")
    lab = Lab(args)
    arms = parts(lab)
    if not args.record:
        for part in args.only:
            gather(lab, arms[part])
    args.record = True
    found = {part: gather(lab, arms[part]) for part in TITLES}
    if not any(found.values()):
        raise SystemExit("no run is finished here yet")
    tables = {part: compared(runs, AGAINST.get(part, "none")) for part, runs in found.items() if runs}
    record = {"parts": tables, **lab.about()}
    write_record(args.out, record, markdown, plot)


if __name__ == "__main__":
    main()
