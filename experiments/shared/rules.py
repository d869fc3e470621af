"""How `shared` is to be regularised: rules against each other on captions that none of them has seen.

    python experiments/shared/rules.py --data ../shared/data/flickr40_clip_vitb32        # and the mini world
    python experiments/shared/rules.py --encoder --data FOLDER …          # folders alone, in five folds by group
    python experiments/shared/rules.py --encoder runs/other --work runs/shared-other --out other.json

The score is the mean cosine of an unseen caption with its picture, both centred; of the mini world, by how many groups there are
to learn from. `nearest` are groups made without any: every caption and its four nearest for sisters.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from worlds import Floats, World, around, options, record, spread, unit

from close.adapters import build_adapter

GROUPS = (10, 30, 100, 300, 3000)
FIXED: dict[str, Any] = {f"toward zero, alpha {a:g}": {"alpha": a, "toward": "zero"} for a in (0.01, 0.1, 1.0)}
FIXED |= {f"toward the identity, alpha {a:g}": {"alpha": a, "toward": "identity"} for a in (0.1, 1.0, 3.0, 10.0, 30.0)}
FIXED |= {"chosen by groups left out (default)": {}}


def spreads(text: Floats, groups: Any) -> tuple[Floats, Floats, Floats]:
    """Mean, covariance, and covariance of two of one group."""
    names = np.unique(groups, return_inverse=True)[1]
    rows, counts = text - text.mean(0), np.bincount(names)
    total = np.zeros((len(counts), rows.shape[1]))
    np.add.at(total, names, rows)
    others = (total[names] - rows) / (counts[names] - 1)[:, None]
    both = rows.T @ others / (len(rows) - 1)
    return text.mean(0), rows.T @ rows / (len(rows) - 1), (both + both.T) / 2


def low_rank(text: Floats, groups: Any, rank: int) -> Floats:
    """The identity less the directions in which captions of one picture differ most."""
    _, all_of, shared = spreads(text, groups)
    vectors = np.linalg.eigh(all_of - shared)[1][:, -rank:]
    return np.eye(text.shape[1]) - vectors @ vectors.T


def ledoit_wolf(text: Floats, groups: Any) -> Floats:
    """B(B + W)⁻¹, both covariances shrunk by Ledoit and Wolf's rule."""
    from sklearn.covariance import ledoit_wolf as shrunk

    names = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(names)
    means = np.zeros((len(counts), text.shape[1]))
    np.add.at(means, names, text)
    means /= counts[:, None]
    per = counts.mean()
    within = shrunk((text - means[names]) * np.sqrt(per / (per - 1)), assume_centered=True)[0]
    values, vectors = np.linalg.eigh(shrunk(means)[0] - within / per)
    between = (vectors * values.clip(0)) @ vectors.T
    return np.linalg.solve(between + within, between)


def nearest_groups(text: Floats, groups: Any, count: int = 4) -> tuple[Floats, Any]:
    """Every caption and its nearest ones of other pictures, as a group of its own."""
    cosines = text @ text.T
    cosines[groups[:, None] == groups] = -1
    found = np.concatenate((np.arange(len(text))[:, None], np.argsort(-cosines, axis=1)[:, :count]), axis=1)
    return text[found.reshape(-1)], np.repeat(np.arange(len(text)), count + 1)


def matrices(text: Floats, groups: Any) -> dict[str, Floats]:
    """Aᵀ by rule."""
    found = {"plain": np.eye(text.shape[1])}
    for title, own in FIXED.items():
        adapter = build_adapter({"shared": own}, text.shape[1]).fit(text=text, groups=groups, quiet=True)
        found[title] = adapter.matrix.double().numpy()
    found |= {f"low rank, {rank} directions": low_rank(text, groups, rank) for rank in (4, 16)}
    found["Ledoit–Wolf"] = ledoit_wolf(text, groups)
    if len(text) <= 1500:
        near = nearest_groups(text, groups)
        for title, own in (("nearest, as shipped", {"toward": "zero"}), ("nearest, default", {})):
            adapter = build_adapter({"shared": own}, text.shape[1]).fit(text=near[0], groups=near[1], quiet=True)
            found[title] = adapter.matrix.double().numpy()
    return found


def table(world: World, draws: int) -> dict[str, Any]:
    """Rules by the number of groups."""
    found: dict[str, Any] = {}
    for groups in GROUPS if world.held else (None,):
        scores: dict[str, list[float]] = {}
        for learn, test in world.draws(groups, 1 if groups == max(GROUPS) else draws):
            rows, tried = world.rows(learn), world.rows(test)
            text = world.text[rows]
            wanted = unit(world.image - world.image[test if world.held else learn].mean(0))[world.groups[tried]]
            x = world.text[tried] - text.mean(0)
            for title, matrix in matrices(text, world.groups[rows]).items():
                scores.setdefault(title, []).append(float((unit(x @ matrix) * wanted).sum(1).mean()))
            means = np.array([x[world.groups[tried] == picture].mean(0) for picture in world.groups[tried]])
            scores.setdefault("mean of a picture's captions", []).append(float((unit(means) * wanted).sum(1).mean()))
        for title, values in scores.items():
            one = spread(values)
            one["against_plain"] = spread([a - b for a, b in zip(values, scores["plain"], strict=True)])
            found.setdefault(title, {})[str(groups or "all")] = one
        print(f"{world.name}, {groups or 'all'} groups", file=sys.stderr, flush=True)
    return found


def markdown(record: dict[str, Any]) -> str:
    """One table a world: the score, and the difference from plain with its 95 % interval and its least."""
    lines = [
        "± is half the 95 % interval of the mean over draws (Student's t); one draw has none. Draws share pictures, and folds "
        "share most of what they learn from, so that intervals are of the draw, not of other pictures.",
        "",
    ]
    for name, found in record["worlds"].items():
        counts = list(found["plain"])
        lines += [f"### {name}", "", "| rule | " + " | ".join(f"{n} groups" for n in counts) + " |"]
        lines += ["|---" * (len(counts) + 1) + "|"]
        for title, by in found.items():
            cells = []
            for one in (by.get(n) for n in counts):
                apart = one and one["against_plain"]
                told = one and f"{one['mean']:.3f} ({around(apart)}, least {apart['least']:+.3f})"
                cells.append(told or "–")
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    record(options(__doc__ or "", Path(__file__).with_name("rules.json")).parse_args(), table, markdown)


if __name__ == "__main__":
    main()
