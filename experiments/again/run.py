"""Whether the codes that recorded numbers come from still make the same numbers as today's.

    python experiments/again/run.py            # about a minute and a half of one core for each code; what is done is kept

A record carries a hash of the code that trained and of the code that scored (`close.io.record`), which any change of that code
changes. This looks for a commit with each hash that a record names, has it train some short runs and score them (canary.py), and
compares them with today's: weights bit for bit, texts, every score that both have.

A code that made the numbers of the last record's code is not trained again where that one makes today's, bit for bit.

Writes results.json and .md beside this file; the site says what follows of each record. Needs a checkout with its history.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from close.io.files import read_json, write_json, write_text
from close.io.record import CODE, UNKNOWN, code_sums, stamp, stamped

ROOT = Path(__file__).resolve().parents[2]
SUMS = "import json; from close.io.record import code_sums; print(json.dumps(code_sums()))"


def named() -> set[tuple[str, str]]:
    """(part, hash) of every code that a record names."""
    found = set()
    for file in (ROOT / "experiments").rglob("*.json"):
        for one in stamped(read_json(file)):
            for part, sums in one.get("code", {}).items():
                found |= {(part, each) for each in sums.split() if each != UNKNOWN}
    return found


def commits(what: Path = ROOT / "close") -> Iterator[str]:
    """Those that changed the toolkit, or another file, the newest first."""
    log = ["git", "-C", str(ROOT), "log", "--format=%h", "--", str(what)]
    yield from subprocess.run(log, capture_output=True, text=True, check=True).stdout.split()


def checkout(commit: str, work: Path) -> Path:
    """The folder with the package of a commit."""
    place = work / "code" / commit
    if not place.is_dir():
        place.mkdir(parents=True)
        with subprocess.Popen(["git", "-C", str(ROOT), "archive", commit, "close"], stdout=subprocess.PIPE) as packed:
            subprocess.run(["tar", "x", "-C", str(place)], stdin=packed.stdout, check=True)
    return place


def ask(code: Path, *command: str) -> Any:
    """What Python prints as JSON, with the package of that folder."""
    given = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, *command], cwd=code, env=given, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(told.stdout)


def canary(code: Path, work: Path, sums: dict[str, str]) -> dict[str, Any]:
    """What the short trainings of a code come to, made once."""
    kept = work / f"{sums['training']}-{sums['scoring']}"
    if not kept.with_suffix(".json").is_file():
        write_json(kept.with_suffix(".json"), ask(code, str(Path(__file__).with_name("canary.py")), str(kept)))
    found: dict[str, Any] = read_json(kept.with_suffix(".json"))
    return found


def compared(then: dict[str, Any], now: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each part of the code, whether two canaries are the same, and where they are not.

    Scores say nothing where the weights that they are of differ.
    """
    weights = [name for name in then if name in now and then[name]["weights"] != now[name]["weights"]]
    scored = []
    for name in (name for name in then if name in now and name not in weights):
        old, new = then[name], now[name]
        keys = [key for key in old["scores"] if key in new["scores"] and old["scores"][key] != new["scores"][key]]
        scored += [f"{name}: {what}" for what in (["texts"] if old["texts"] != new["texts"] else []) + keys]
    return {
        "training": {"same": not weights, "differs": weights},
        "scoring": {"same": not scored, "differs": scored},
    }


def carried(before: dict[str, Any], commit: str, about: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Codes by part that the last record found the same as its own, which is the same as today's; nothing where it is not.

    Args:
        before: the last record. commit: of its code. about: how that code compares with today's.
    """
    own = {part: {each: {"commit": commit, **about[part]}} for part, each in before["today"].items()}
    if not all(one["same"] for one in about.values()):
        return own
    return {part: {each: it for each, it in before["codes"][part].items() if it["same"]} | own[part] for part in own}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", type=Path, default=Path("runs/again"))
    made.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    args = made.parse_args()
    work, today = args.work.resolve(), code_sums()
    now, wanted = canary(ROOT, work, today), named() - set(today.items())
    found: dict[str, dict[str, Any]] = {part: {} for part in CODE}
    before = read_json(args.out) if args.out.is_file() else {}
    if before and (commit := next(commits(args.out), None)):
        code = checkout(commit, work)
        if ask(code, "-c", SUMS) == before["today"]:
            about = compared(canary(code, work, before["today"]), now)
            for part, codes in carried(before, commit, about).items():
                found[part] = {each: one for each, one in codes.items() if (part, each) in wanted}
                wanted -= {(part, each) for each in codes}
    for commit in commits():
        if not wanted:
            break
        code = checkout(commit, work)
        try:
            sums = ask(code, "-c", SUMS)
        except subprocess.CalledProcessError:  # before there were hashes
            break
        if here := wanted & set(sums.items()):
            about = compared(canary(code, work, sums), now)
            for part, each in sorted(here):
                found[part][each] = {"commit": commit, **about[part]}
                print(f"{commit}: {part} {about[part]['same']}", file=sys.stderr)
            wanted -= here
    lost = {part: sorted(each for where, each in wanted if where == part) for part in CODE}
    record = {"today": today, "trainings": list(now), "codes": found, "not_found": lost, **stamp()}
    write_json(args.out, record)
    write_text(args.out.with_suffix(".md"), markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """A row a code."""
    lines = ["| code | hash | commit | same numbers as today's | where not |", "|---|---|---|---|---|"]
    for part, codes in record["codes"].items():
        for each, about in codes.items():
            same, where = "yes" if about["same"] else "no", "; ".join(about["differs"])
            lines.append(f"| {part} | {each} | {about['commit']} | {same} | {where} |")
        lines += [f"| {part} | {each} | not found | | |" for each in record["not_found"][part]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
