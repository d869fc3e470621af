"""What the experiments on the gap share: the mini world's data and tables, runs that are made once, what they are judged by."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import tell, write_record

from close.data.rows import RowFile
from close.demo.run import TEST_SCENES, TRAIN_SCENES, TRAINING
from close.encoders import load_encoder
from close.io.files import waiting
from close.io.record import stamp
from close.mini import export
from close.mini.export import CAPTIONS_PER_SCENE
from close.runs.folder import RUN_FILE
from close.runs.recipe import Recipe
from close.runs.stand_ins import STAND_INS
from close.study.arms import Arm
from close.study.results import summarise
from close.study.selection import saved_selection
from close.study.sweep import run_arm, run_folder
from close.vectors.cache import cached_table

SHARE_OF_DEMO = 0.5
"""Steps of one run at --scale 1, as a share of those that `close demo` takes for each of its models."""
FIT_SCENES = 1500
"""Held-out scenes that adapters are fitted on, one caption each; adapters for unpaired data do not use the captions."""
COSINES = (0.95, 0.84, 0.67, 0.41, 0.29)
"""Noises that are swept, the same in every experiment, so that runs are shared; the paper's are .67, .41 and .29."""
SCORE = "cider"
SELECTED = 0.97
"""Share of the best that selection by text is to reach."""
CEILING = {"adapter": "none", "train_on": "image", "captions": "single"}
"""The image-supervised ceiling; a picture has no other captions."""


def options(doc: str, parts: Sequence[str], name: str) -> argparse.Namespace:
    """The command line of every experiment here."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="of steps, and below 1 of scenes too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--work", type=Path, default=Path("runs/gap"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(name))
    parser.add_argument("--record", action="store_true", help="train nothing: write down what is finished")
    return parser.parse_args()


class Lab:
    """Data, tables and runs of one encoder at one scale."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(args.threads)
        self.args, shrink = args, min(args.scale, 1.0)
        self.encoder = load_encoder(args.encoder)
        steps = float(TRAINING.get("max_steps") or 0)  # type: ignore[arg-type]
        steps = steps or TRAINING["epochs"] * TRAIN_SCENES * CAPTIONS_PER_SCENE / TRAINING["batch_size"]  # type: ignore[operator]
        self.steps = max(1, round(steps * SHARE_OF_DEMO * args.scale))
        sizes = {"train": TRAIN_SCENES, "test": TEST_SCENES, "val": TEST_SCENES, "fit": FIT_SCENES}
        trials = min(1.0, 4 * shrink)  # what is scored on shrinks later
        share = {"train": shrink, "fit": shrink, "test": trials, "val": trials}
        self.sizes = {name: max(20, round(count * share[name])) for name, count in sizes.items()}
        self.place = args.work / f"{self.encoder.fingerprint[:8]}-{args.scale:g}"
        with waiting(args.work / "data.lock"):
            for name, count in self.sizes.items():
                if not self.data(name).exists():
                    export(self.data(name), "val" if name == "fit" else name, count, seed=int(name == "fit"))
                for modality in ("text", "image"):
                    cached_table(RowFile(self.rows(name)), self.encoder, modality)

    def data(self, name: str) -> Path:
        return self.args.work / "data" / f"{name}-{self.sizes[name]}"

    def rows(self, name: str) -> Path:
        return self.data(name) / ("captions.jsonl" if name == "train" else "eval.jsonl")

    def table(self, name: str, modality: str) -> Path:
        """Cached embeddings of a split; of fit and test scenes one caption each, row by row with their pictures."""
        return cached_table(RowFile(self.rows(name)), self.encoder, modality).path

    @cached_property
    def fit(self) -> dict[str, dict[str, str]]:
        """What a recipe's adapter is fitted on: unpaired pictures (with the training captions), and pairs."""
        image = str(self.table("fit", "image"))
        return {"unpaired": {"image": image}, "paired": {"image": image, "text": str(self.table("fit", "text"))}}

    @cached_property
    def base(self) -> Recipe:
        """What all runs share."""
        training = {key: value for key, value in TRAINING.items() if key not in ("epochs", "max_steps")}
        data = {"train": self.rows("train").resolve()}
        values = {"data": data, "encoder": self.args.encoder, "training": training | {"max_steps": self.steps}}
        return Recipe.model_validate(values)

    def scores(
        self, title: str, changes: Mapping[str, Any], seed: int, *, select: bool = False
    ) -> dict[str, Any] | None:
        """One run's scores, from its folder where it is finished; None where it is not and nothing is to be trained."""
        arm = Arm(title, dict(changes))
        recipe, folder = run_folder(self.base, Arm("run", arm.changes), seed, self.place)
        if self.args.record and not (folder / RUN_FILE).is_file():
            return None
        begun = time.perf_counter()
        with waiting(Path(f"{folder}.lock")):
            new = not (folder / RUN_FILE).is_file()
            found = run_arm(self.base, Arm("run", arm.changes), seed, self.rows("test"), self.place)
            if select and recipe.train_on == "text":
                for kind, image in (("text", None), ("unpaired", self.table("fit", "image"))):
                    by = saved_selection(folder, self.rows("val"), image=image)["scores"]
                    found[f"selection_{kind}"] = {key: by[key] for key in ("cider", "attribute_accuracy")}
        if new:
            tell(f"{title}, seed {seed}: CIDEr {found['image']['cider']:.1f} in {time.perf_counter() - begun:.0f} s")
        return found

    def about(self) -> dict[str, Any]:
        """What a record says of how it was made."""
        return {
            "encoder": {"reference": self.args.encoder, "fingerprint": self.encoder.fingerprint},
            "scale": self.args.scale,
            "scenes": self.sizes,
            "recipe": self.base.dump() | {"data": {"train": str(self.rows("train").relative_to(self.args.work))}},
            **stamp(self.args.work),
        }


def noise(cosine: float) -> list[dict[str, Any]]:
    """The stage of a chain that leaves a cosine; none for 1."""
    return [{"gaussian": {"cosine": cosine}}] if cosine < 1 else []


def gather(lab: Lab, arms: Mapping[str, Mapping[str, Any]], *, select: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Every arm with every seed, seeds outermost, so that a stopped experiment has all arms with some of them."""
    found: dict[str, list[dict[str, Any]]] = {title: [] for title in arms}
    for seed in lab.args.seeds:
        for title, changes in arms.items():
            scores = lab.scores(title, changes, seed, select=select)
            if scores is not None:
                found[title].append({"seed": seed, **scores})
    return {title: runs for title, runs in found.items() if runs}


def scored(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means, intervals, recovered shares by arm."""
    table: dict[str, Any] = summarise({title: {"runs": runs} for title, runs in found.items()})["arms_scored"]
    return table


def needs(changes: Mapping[str, Any]) -> str:
    """What an arm's adapter takes beside text: nothing ("text"), "unpaired" pictures, or "pairs"."""
    fits = [
        own["fit"] for stage in changes["adapter"] if isinstance(stage, dict) for own in stage.values() if "fit" in own
    ]
    return "pairs" if any("text" in fit for fit in fits) else "unpaired" if fits else "text"


def selection(arms: Mapping[str, Mapping[str, Any]], found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """`chosen` by either kind of stand-ins: among the arms that these data can train, and among all."""
    out = {}
    for kind, allowed in (("text", ("text",)), ("unpaired", ("text", "unpaired"))):
        able = {name: runs for name, runs in found.items() if needs(arms[name]) in allowed}
        out |= {kind: chosen(able, kind), f"{kind}, among all arms": chosen(found, kind)}
    return out


def chosen(found: Mapping[str, list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    """What selection by stand-ins is worth: the run chosen for a seed as a share of that seed's best; the same of arms' means.

    Args:
        found: the runs of every arm. kind: of stand-ins, "text" or "unpaired".
    """
    from scipy.stats import spearmanr

    by = f"selection_{kind}"
    scored = {
        name: {run["seed"]: (run[by][SCORE], run["image"][SCORE]) for run in runs if by in run}
        for name, runs in found.items()
    }
    scored = {name: runs for name, runs in scored.items() if runs}
    if len(scored) < 2:
        return {}
    told: dict[str, Any] = {"stand_in": STAND_INS[kind], "arms_compared": len(scored)}
    seeds = sorted(set.intersection(*(set(runs) for runs in scored.values())))

    def pick(pairs: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
        name, top = max(pairs, key=lambda n: pairs[n][0]), max(pairs, key=lambda n: pairs[n][1])
        rank = float(spearmanr(*zip(*pairs.values(), strict=True)).statistic)
        (_, score), (_, best) = pairs[name], pairs[top]
        share = score / best if best > 0 else 0.0
        return {
            "chosen": name,
            "score": score,
            "best": top,
            "best_score": best,
            "share_of_best": share,
            "rank_correlation": rank,
        }

    each = [{"seed": seed} | pick({name: runs[seed] for name, runs in scored.items()}) for seed in seeds]
    means = {name: tuple(np.mean([runs[seed] for seed in seeds], axis=0).tolist()) for name, runs in scored.items()}
    share = float(np.mean([run["share_of_best"] for run in each]))
    told |= {"seeds": each, "arms": pick(means)}
    return told | {"share_of_best": share, "wanted": SELECTED, "reached": share >= SELECTED}


def selection_table(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of markdown: settings by kinds of stand-ins."""
    lines = ["| captions | chosen by stand-ins made of | arms | share of the seed's best | rank correlation | wanted |"]
    lines[0] += " chosen by means over seeds | share of the best arm |"
    lines += ["|---|---|---|---|---|---|---|---|"]
    for captions, kinds in settings.items():
        for kind, found in kinds.items():
            if found:
                rank = np.mean([run["rank_correlation"] for run in found["seeds"]])
                wanted = f"{found['wanted']} {'✓' if found['reached'] else '✗'}"
                arm = found["arms"]
                cells = [
                    captions,
                    kind,
                    str(found["arms_compared"]),
                    f"{found['share_of_best']:.3f}",
                    f"{rank:.2f}",
                    wanted,
                ]
                cells += [arm["chosen"], f"{arm['share_of_best']:.3f}"]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def rule() -> str:
    """The commit that the rule was last changed in."""
    here = Path(__file__).resolve().parents[2]
    found = subprocess.run(
        ["git", "log", "-1", "--format=%H %cI", "--", "close/gap/advice"], cwd=here, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def judged(
    doc: str,
    parts: Sequence[str],
    name: str,
    judge: Callable[[Lab, str], dict[str, Any]],
    markdown: Callable[[dict[str, Any]], str],
    plot: Callable[[dict[str, Any], Path], None],
) -> None:
    """Judge the advice in each part that is asked for, and write down what is finished of all.

    Args:
        doc, parts, name: see `options`. judge: what came out in a part; nothing where no run of it is finished.
        markdown, plot: of the record.
    """
    args = options(doc, parts, name)
    lab = Lab(args)
    tell(f"{lab.steps} steps a run; rule of {rule()}")
    if not args.record:
        for part in args.only:
            judge(lab, part)
    args.record = True
    settings = {part: found for part in parts if (found := judge(lab, part))}
    if not settings:
        raise SystemExit("no run is finished here yet")
    write_record(args.out, {"rule": rule(), "settings": settings, **lab.about()}, markdown, plot)
