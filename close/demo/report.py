"""The demo's page: what was done, the table, pictures with what each model says, and the gap."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from close.data.rows import RowFile
from close.io.files import write_text
from close.mini import Claim, World, world_of

__all__ = ["SCORES", "write_report"]

PICTURES = 18
SCORES = {"cider": "CIDEr", "attribute_accuracy": "attribute accuracy"}
NAMES = {
    "none": "Text only, no noise",
    "close": "CLOSE: text only, with noise",
    "shared": "CLOSE + shared: text only, captions in groups",
    "image": "Trained on {} (ceiling)",
}
WIDTH, HEIGHT = 640, 220


def write_report(folder: Path, results: dict[str, Any], test: RowFile) -> None:
    """Write `report.html`, one file that needs nothing else."""
    world = world_of(test[0].meta["facts"])
    names = {name: text.format(world.items) for name, text in NAMES.items()}
    environment = Environment(
        loader=PackageLoader("close.demo", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        results=results,
        names=names,
        world=world,
        pictures=_pictures(folder, test, world, names),
        histogram=_histogram(results["gap"]["cosines"]),
        size=(WIDTH, HEIGHT),
        passed=[
            said
            for key, said in SCORES.items()
            if any((by[key] or 0) > 1 for by in results["recovered_share"].values())
        ],
        scores=SCORES,
        best=max(scores["cider"] for scores in results["methods"].values()) or 1.0,
    )
    write_text(folder / "report.html", page)


def _pictures(folder: Path, test: RowFile, world: World, names: dict[str, str]) -> list[dict[str, Any]]:
    said = {name: _predictions(folder / "runs" / name / "evaluations" / f"{test.path.stem}-image") for name in names}
    chosen = []
    for row in test[:PICTURES]:
        facts = row.meta["facts"]
        assert row.image is not None
        chosen.append(
            {
                "file": base64.b64encode(row.image.read_bytes()).decode(),
                "reference": row.references[0],
                "captions": [
                    {
                        "method": name,
                        "name": names[name],
                        "text": texts[row.id],
                        "false": _false_claims(texts[row.id], facts, world),
                    }
                    for name, texts in said.items()
                ],
            }
        )
    return chosen


def _predictions(folder: Path) -> dict[str, str]:
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["text"] for row in map(json.loads, lines)}


def _false_claims(text: str, facts: Any, world: World) -> list[str]:
    return sorted(_say(claim) for claim in world.grammar.claims(text) if not world.grammar.is_true(claim, facts))


def _say(claim: Claim) -> str:
    if not claim.shape:
        return f"{claim.kind}: {claim.value}"
    if claim.kind == "order":
        return f"{claim.shape}: not after {claim.value}"
    return f"no {claim.shape} there" if claim.kind == "thing" else f"{claim.shape}: not {claim.value}"


def _histogram(cosines: dict[str, Any]) -> list[dict[str, Any]]:
    """One filled outline a kind of pair, in the page's pixels."""
    top = max(max(kind["share"]) for kind in cosines.values())
    outlines = []
    for name, kind in cosines.items():
        edges, span = kind["edges"], kind["edges"][-1] - kind["edges"][0]
        points = [(0.0, HEIGHT)]
        for left, right, share in zip(edges[:-1], edges[1:], kind["share"], strict=True):
            y = HEIGHT * (1 - 0.94 * share / top)
            points += [((left - edges[0]) / span * WIDTH, y), ((right - edges[0]) / span * WIDTH, y)]
        points.append((WIDTH, HEIGHT))
        mean_x = (kind["mean"] - edges[0]) / span * WIDTH
        outlines.append(
            {
                "name": name.replace("_", "–"),
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                "mean": kind["mean"],
                "mean_x": round(mean_x, 1),
            }
        )
    return outlines
