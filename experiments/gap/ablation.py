"""The paper's ablations (Gu et al., ICCV 2023) on the mini world: adapters, noise, translations, and what data an adapter takes.

    python experiments/gap/ablation.py                                  # all of it; a stopped run continues
    python experiments/gap/ablation.py --only noise_single --threads 1  # in one process …
    python experiments/gap/ablation.py --only adapters data             # … and at the same time in another
    python experiments/gap/ablation.py --record                         # only write down what is finished

Every run takes the same number of steps, and is scored by texts that stand in for images too (`close.study.selection`).
After a change of the mini world's captions start in another --work folder.
Writes ablation.json, .md and .png beside this file from all runs that are finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gap_lab import CEILING, COSINES, Lab, gather, noise, options, scored, selection, selection_table
from lab import write_record

from close.io.plots import figure, save_png
from close.study.export import cell

BEHIND = 0.84
"""Noise behind the adapters; the same for all, so that adapters are compared and not their tuning."""
MORE = (0.67, 0.55, 0.41)
"""More noise behind a shift; the first of it also behind centring."""
BEHIND_RIDGE = (BEHIND, 0.75, 0.67)
BEHIND_SHARED = (0.95, BEHIND, 0.75, 0.67)
SHIFTS = (0.2, 0.5, 0.8, 1.0, 2.0)
TITLES = {
    "noise_single": "Noise, single captioning (cosine that it leaves)",
    "noise_multiple": "Noise, multiple captioning (cosine that it leaves)",
    "adapters": f"Adapters, multiple captioning (with noise of cosine {BEHIND})",
    "translation": f"Translations of the text vectors, multiple captioning (with noise of cosine {BEHIND})",
    "data": f"What data the adapter takes, single captioning (with noise of cosine {BEHIND})",
    "unpaired": "Unpaired adapters and the noise behind them, single captioning",
    "paired": "Linear maps and the noise behind them, single captioning",
    "shared": "What captions of one image share, and the noise behind it, single captioning",
    "shared_multiple": f"The same in multiple captioning (with noise of cosine {BEHIND})",
}
PAPER = {
    "noise_single": {"none": 16.4, "cosine 0.41": 80.5, "cosine 0.29": 95.4, "image": 113.2},
    "noise_multiple": {"none": 68.7, "cosine 0.67": 98.4, "cosine 0.41": 95.3, "image": 113.2},
    "adapters": {"none": 68.7, "noise alone": 94.3, "covariance": 106.5, "linear": 99.5, "image": 113.2},
    "translation": {"none moved": 94.4, "+Δ": 92.8, "−Δ": 84.3}
    | dict(zip((f"random {norm:g}" for norm in SHIFTS), (93.5, 92.5, 89.3, 87.2, 73.7), strict=True)),
    "data": {},
    "unpaired": {},
    "paired": {},
    "shared": {},
    "shared_multiple": {},
}
"""CIDEr on COCO with ViT-L/14 and T5-base, where the paper has the row. Its noise cosines are .41, .29, .67 at d = 768."""


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
        "data": single
        | {
            "text: noise": behind(None, "single"),
            "unpaired: mean shift": behind(shift, "single"),
            "unpaired: centring": behind(fitted("centring", unpaired), "single"),
            "unpaired: realign": behind(fitted("realign", unpaired), "single"),
            "pairs: covariance": behind(fitted("covariance", paired), "single"),
            "pairs: ridge": behind(fitted("linear", paired, method="ridge"), "single"),
            "pairs: ridge and its residual": {"adapter": residual},
            "pairs: noise of the pairs alone": {"adapter": fitted("covariance", paired)},
        }
        | image,
        "unpaired": single
        | {
            f"{title} + {c:g}": behind(fitted(name, unpaired), "single", c)
            for title, name, more in (("mean shift", "mean_shift", MORE), ("centring", "centring", MORE[:1]))
            for c in (BEHIND, *more)
        }
        | image,
        "paired": single
        | {f"ridge + {c:g}": behind(fitted("linear", paired, method="ridge"), "single", c) for c in BEHIND_RIDGE}
        | {
            f"procrustes + {BEHIND:g}": behind(fitted("linear", paired, method="procrustes"), "single"),
            f"least squares + {BEHIND:g}": behind(fitted("linear", paired), "single"),
            "ridge and its residual": {"adapter": residual},
        }
        | image,
        "shared": single
        | {
            f"{title} + {c:g}": {"adapter": ["shared", *then, *noise(c)]}
            for title, then in (("shared", []), ("shared, mean shift", [shift]))
            for c in BEHIND_SHARED
        }
        | image,
        "shared_multiple": multiple
        | {
            title: {"adapter": ["shared", *then, *noise(BEHIND)], "captions": "multiple"}
            for title, then in (
                ("shared", []),
                ("shared, mean shift", [shift]),
                ("shared, centring", [fitted("centring", unpaired)]),
            )
        }
        | image,
    }


def markdown(record: dict[str, Any]) -> str:
    """Selection by text, then one table a part."""
    lines = [*selection_table(record["selection"]), ""]
    for part, arms in record["parts"].items():
        rows = [f"### {TITLES[part]}", ""]
        rows += ["| | CIDEr, pictures in | attribute accuracy % | recovered CIDEr | CIDEr, text in | paper |"]
        rows += ["|---|---|---|---|---|---|"]
        for title, arm in arms.items():
            share = (arm.get("recovered_share") or {}).get("cider")
            cells = [cell(arm["image"]["cider"]), cell(arm["image"]["attribute_accuracy"])]
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
    found = {part: gather(lab, arms[part], select=True) for part in TITLES}
    if not any(found.values()):
        raise SystemExit("no run is finished here yet")
    record = {"parts": {part: scored(runs) for part, runs in found.items() if runs}, "selection": {}, **lab.about()}
    for captions in ("single", "multiple"):
        runs, known = {}, {}
        for part in TITLES:
            for title, own in arms[part].items():
                changes = {"captions": "single"} | own
                # parts share arms: each counts once
                if title in found[part] and changes["captions"] == captions and changes not in known.values():
                    known[f"{part}: {title}"] = changes
                    runs[f"{part}: {title}"] = found[part][title]
        record["selection"][captions] = selection(known, runs)
    write_record(args.out, record, markdown, plot)


if __name__ == "__main__":
    main()
