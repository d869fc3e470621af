"""Every fitted adapter on few rows and on many: does it harm?

    python experiments/shared/few.py --data ../shared/data/flickr40_clip_vitb32 ../shared/data/coco250_clip_vitb16
    python experiments/shared/few.py --encoder runs/other --work runs/shared-other --out other.json

An adapter is fitted on so many rows (texts, pictures, pairs, or groups), and tried on pictures that it has not seen:
`cosine`: of a caption with its own picture, both as the model would get them; `centred`: the same less the means of what is
tried; `agreement`: of the linear decoder of `close recommend`, which learns from all training texts, with the best noise behind.
Each less what it is without an adapter; mean, half of a 95 % interval over draws (which share pictures), and the least.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from worlds import World, around, options, record, spread, unit

from close.adapters import RowNoise, build_adapter, row_seeds
from close.gap.advice.decoder import agreement
from close.io.plots import figure, save_png

ROWS = (2, 5, 10, 30, 100, 300, 1000)
ADAPTERS: dict[str, Any] = {
    "mean_shift": "mean_shift",
    "centring": "centring",
    "moments": "moments",
    "realign": "realign",
    "transport": "transport",
    "covariance": "covariance",
    "least squares": {"linear": {"method": "least_squares"}},
    "ridge, zero": {"linear": {"method": "ridge", "alpha": 1.0, "toward": "zero"}},
    "ridge": {"linear": {"method": "ridge"}},
    "procrustes": {"linear": {"method": "procrustes"}},
    "memory": "memory",
    "nearest": "nearest",
    "shared": "shared",
    "shared, as shipped": {"shared": {"toward": "zero"}},
}


def tried(world: World, spec: Any, learn: Any, test: Any, train: Any) -> dict[str, float]:
    """Cosine, centred cosine and agreement; `learn`, `test`: pictures, `train`: texts that the decoder learns from."""
    rng = np.random.default_rng(len(learn))
    dim = world.text.shape[1]
    adapter = build_adapter(spec, dim)
    text = world.text[world.rows(learn)]
    if "groups" in adapter.all_needs:
        adapter.fit(text=text, groups=world.groups[world.rows(learn)], quiet=True)
    elif adapter.all_needs != {"nothing"}:
        one = np.array([rng.choice(world.rows(np.array([picture]))) for picture in learn])
        adapter.fit(text=world.text[one], image=world.image[learn], quiet=True)
    rows = world.rows(test)
    own = np.searchsorted(test, world.groups[rows])
    sources, shown = (torch.from_numpy(x).float() for x in (world.text[train], world.image[test]))
    with torch.no_grad():
        noised = adapter.text(sources, RowNoise(row_seeds(0, 0, torch.arange(len(train))))).double().numpy()
        captions = adapter.eval()(torch.from_numpy(world.text[rows]).float(), "text").double().numpy()
        images = adapter(shown, "image").double().numpy()
    truth = np.array([world.text[world.groups == picture].mean(0) for picture in test])
    middle = images.mean(0)
    return {
        "cosine": float((captions * images[own]).sum(1).mean()),
        "centred": float((unit(captions - captions.mean(0)) * unit(images[own] - middle)).sum(1).mean()),
        "agreement": float(agreement(noised, world.text[train], images, truth).max()),
    }


def table(world: World, draws: int) -> dict[str, Any]:
    """Adapters by rows, each less what it is without one."""
    most = len(world.image) - (world.held or len(world.image) // 5)
    found: dict[str, Any] = {}
    for rows in [rows for rows in ROWS if rows <= most]:
        places = list(world.draws(rows, draws if world.held else max(1, draws // 5)))
        all_places = list(world.draws(None, draws if world.held else max(1, draws // 5)))
        apart: dict[str, list[dict[str, float]]] = {}
        for (learn, test), (everything, _) in zip(places, all_places, strict=True):
            train = world.rows(everything)[:: 5 if len(everything) > 1000 else 1]
            without = tried(world, "none", learn, np.sort(test), train)
            for title, spec in ADAPTERS.items():
                if "shared" in title and len(world.text) == len(world.image):
                    continue
                scores = tried(world, spec, learn, np.sort(test), train)
                apart.setdefault(title, []).append({key: scores[key] - without[key] for key in scores})
            apart.setdefault("none", []).append(without)
        for title, scores in apart.items():
            one = {key: spread([score[key] for score in scores]) for key in scores[0]}
            found.setdefault(title, {})[str(rows)] = one
        print(f"{world.name}, {rows} rows", file=sys.stderr, flush=True)
    return found


def markdown(record: dict[str, Any]) -> str:
    """One table a world and measure."""
    lines = []
    for name, found in record["worlds"].items():
        counts = list(next(iter(found.values())))
        for measure in ("cosine", "centred", "agreement"):
            lines += [f"### {name}: {measure}, less without an adapter", "", "| adapter | " + " | ".join(counts) + " |"]
            lines += ["|---" * (len(counts) + 1) + "|"]
            for title, by in found.items():
                cells = [around(by[n][measure]) for n in counts]
                lines.append(f"| {title} | " + " | ".join(cells) + " |")
            lines.append("")
    return "\n".join(lines)


def plot(record: dict[str, Any], path: Path) -> None:
    """Agreement and centred cosine against rows, less without an adapter."""
    shown = record["worlds"]
    drawn = figure(9, 3.4 * len(shown))
    axes = drawn.subplots(len(shown), 2, squeeze=False)
    for line, (name, found) in zip(axes, shown.items(), strict=True):
        for panel, measure in zip(line, ("centred", "agreement"), strict=True):
            for number, (title, by) in enumerate((t, b) for t, b in found.items() if t != "none"):
                means = [one[measure]["mean"] for one in by.values()]
                style = "-" if number < 10 else "--"
                panel.plot([int(n) for n in by], means, style, marker=".", label=title, color=f"C{number % 10}")
            panel.axhline(0, color="#5d6b7e", linewidth=0.8)
            panel.set_xscale("log")
            panel.minorticks_off()
            counts = [int(n) for n in next(iter(found.values()))]
            panel.set_xticks(counts, [f"{n:,}" for n in counts])
            panel.set_ylim(-0.5, 0.15)
            panel.set_title(f"{name}: {measure}", fontsize=9, loc="left")
            panel.grid(color="#e3e7ee", linewidth=0.8)
    axes[-1][0].set_xlabel("rows (pairs, or groups) that it was fitted on")
    axes[0][0].set_ylabel("less without an adapter")
    drawn.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, fontsize=7, ncol=7, loc="outside upper center")
    save_png(drawn, path)


def main() -> None:
    args = options(__doc__ or "", Path(__file__).with_name("few.json")).parse_args()
    plot(record(args, table, markdown), args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
