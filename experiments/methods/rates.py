"""Deep prefixes with a learning rate of their own: CapDec's, IFCap's, `shared` with IFCap's; the record has one rate for all.

    python experiments/methods/rates.py                  # 18 runs of four minutes; in two processes: --only plain, --only report
    python experiments/methods/rates.py --seeds 0 --rates 2e-5 2e-3

The better trial of each method is trained once more, told alike as there, with another rate of its prefix alone
(`training.prefix_learning_rate`; all else learns at the record's). Differences are to the recorded runs of the same seeds. It was
looked for after the record was made, and confirms nothing: see README.md. Writes rates.json, .md and .png.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from lab import ALIKE, Lab, Runs, arms_table, difference, dots, parser, summary
from run import HERE, MINI, STYLES, Domains, ends_of

from close.io.files import read_json

METHODS = ("capdec", "ifcap", "shared and ifcap")
BESIDE = ("close", "ifcap, a linear prefix", "shared", "images")
"""What the record has of the same seeds, for comparison."""
RATE = 2e-4
"""A tenth of what all else learns at."""


def gathered(lab: Lab, domains: Domains, recorded: Runs) -> Runs:
    """By domain and method, a run a seed; seeds outermost."""
    found: Runs = {}
    for seed in lab.args.seeds:
        for domain in STYLES if lab.args.record else lab.args.only:
            looks = {name: {"data": domains.rows(domain, "test")} for name in ("image", "alike")}
            looks["alike"]["match"] = domains.rows(domain, "val")
            for method in METHODS:
                tried = [
                    recorded["trials"][f"{method}, trial {n}"][0]["val"]["cider"] for n in range(len(MINI[method]))
                ]
                changes = MINI[method][tried.index(max(tried))]
                for rate in lab.args.rates:
                    title, own = f"{method}, {rate:g}", {"training": {"prefix_learning_rate": rate}}
                    if run := domains.run(domain, title, domain, domains.seed(seed, domain), {**changes, **own}, looks):
                        found.setdefault(domain, {}).setdefault(title, []).append(run)
    return found


def of_record(recorded: Runs, domain: str, method: str) -> dict[int, dict[str, Any]]:
    """The recorded runs of a method by seed, with this script's names of looks."""
    names = {"image": f"{domain}, test", "alike": f"{domain}, test{ALIKE}"}
    return {
        run["seed"]: {"seed": run["seed"], **{look: run[name] for look, name in names.items()}}
        for run in recorded[domain].get(method, [])
    }


def compared(runs: Runs, recorded: Runs) -> dict[str, Any]:
    """Differences told alike, of each method to itself at one rate for all, and to noise alone: a pair a domain and seed."""
    found: dict[str, Any] = {}
    for title in dict.fromkeys(title for table in runs.values() for title in table):
        method = title.rpartition(", ")[0]
        for other in (method, "close"):
            apart: dict[str, list[float]] = {}
            for domain, table in runs.items():
                theirs = of_record(recorded, domain, other)
                for run in table.get(title, []):
                    for key in ("cider", "attribute_accuracy") if run["seed"] in theirs else ():
                        apart.setdefault(key, []).append(run["alike"][key] - theirs[run["seed"]]["alike"][key])
            if apart:
                about = {key: difference(np.array(each)[:, None], 1) | {"values": each} for key, each in apart.items()}
                found.setdefault(title, {})["one rate for all" if other == method else other] = about
    return found


def markdown(record: dict[str, Any]) -> str:
    """The differences; then a table a domain."""
    lines = ["| told alike | beside | CIDEr | attribute accuracy, points | pairs |", "|---|---|---|---|---|"]
    for title, others in record["compared"].items():
        for other, about in others.items():
            cells = [f"{one['difference']:+.1f}{ends_of(one['ci'])}" for one in about.values()]
            lines.append(f"| {title} | {other} | {' | '.join(cells)} | {len(about['cider']['values'])} |")
    columns = {
        "CIDEr, told alike": lambda arm: arm["alike"]["cider"],
        "CIDEr, as trained": lambda arm: arm["image"]["cider"],
        "attribute accuracy %, told alike": lambda arm: arm["alike"]["attribute_accuracy"],
    }
    for domain, table in record["tables"].items():
        lines += ["", f"### {domain}", "", *arms_table(table, columns)]
    return "\n".join(lines)


def main() -> None:
    made = parser(__doc__, __file__, STYLES)
    made.add_argument("--rates", type=float, nargs="+", default=[RATE])
    made.set_defaults(out=HERE / "rates.json", domain=[])
    lab = Lab(made.parse_args(), scores=("cider", "attribute_accuracy", "attribute_recall"))
    recorded, domains = read_json(HERE / "results.json")["runs"], Domains(lab)
    if not lab.args.record:
        gathered(lab, domains, recorded)
    lab.args.record = True
    runs = gathered(lab, domains, recorded)
    tables = {}
    for domain, table in runs.items():
        seeds = {run["seed"] for each in table.values() for run in each}
        beside = {
            method: [run for seed, run in of_record(recorded, domain, method).items() if seed in seeds]
            for method in (*METHODS, *BESIDE)
        }
        arms = {**table, **{f"{method}, recorded": each for method, each in beside.items() if each}}
        tables[domain] = {title: summary(each, ("cider", "attribute_accuracy")) for title, each in arms.items()}
    record = {"rates": lab.args.rates, "compared": compared(runs, recorded), "tables": tables, "runs": runs}
    lab.finish(record, markdown, lambda made, to: dots(made["tables"], "cider", to))


if __name__ == "__main__":
    main()
