"""Numbers that README and site give of what was measured are those of the records that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from close.io.record import bare, outdated, stamp

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"<!-- record: (.+?) -->")
"""In a page: the blocks that follow, to the next heading, have their numbers from these files, or from `FILE#PART/OF/IT`."""
MEASURED = re.compile(r"±|\bCIDEr\b|\d×")
NUMBER = re.compile(r"(?<![\w.-])[−-]?\d+\.\d+|(?<=± )\d+")


def blocks(page: str) -> Iterator[tuple[list[str], str]]:
    """Each block of a page outside of code, with the records that are named for it."""
    records: list[str] = []
    for block in re.split(r"\n\s*\n", re.sub(r"```.*?```", "", page, flags=re.DOTALL)):
        if block.startswith("#"):
            records = []
        if named := NAMED.search(block):
            records = named[1].split()
        yield records, re.sub(r"`[^`]*`|\]\([^)]*\)", "", NAMED.sub("", block))


def leaves(value: Any) -> Iterator[float]:
    """Every number of a record, and half of every interval."""
    if isinstance(value, dict):
        if isinstance(value.get("ci"), list) and "mean" in value:
            yield value["ci"][1] - value["mean"]
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, str):  # a record of published figures quotes them
        yield from map(float, re.findall(r"\d+\.\d+", value))


def part(name: str) -> Any:
    """What a comment names: a record, or a part of one."""
    file, _, place = name.partition("#")
    found = json.loads((ROOT / file).read_text(encoding="utf-8"))
    for key in filter(None, place.replace("_", " ").split("/")):
        found = found[key if key in found else key.replace(" ", "_")]
    return found


def told_by(numbers: set[float], shown: str) -> bool:
    """Whether one of the numbers, or it as a percentage, is this when it is rounded so."""
    wanted, places = shown.replace("−", "-"), len(shown.partition(".")[2])
    return any(f"{scale * number:.{places}f}" == wanted for number in numbers for scale in (1, 100))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_numbers_are_those_of_their_records(page):
    wrong, known = [], dict[str, set[float]]()
    for records, block in blocks(page.read_text(encoding="utf-8")):
        shown = NUMBER.findall(block)
        if not shown or not (records or MEASURED.search(block)):
            continue
        for name in records:
            known.setdefault(name, set(leaves(part(name))))
        held = set().union(*(known[name] for name in records))
        lost = [number for number in shown if not told_by(held, number)]
        if lost:
            wrong.append(f"{', '.join(lost)} not in {records or 'any record, none is named'}: {block.strip()[:80]}")
    assert not wrong, "\n".join(wrong)


class TestStamp:
    """What a record says of the code that made it."""

    def test_only_what_runs_is_code(self):
        written = '"""Doc."""\n\nX = 1  # one\n"""About X."""\n\ndef f(a):\n    """Two\n    lines."""\n    return f"{a} # kept"\n'
        assert bare(written) == bare('X=1\ndef f(a): return f"{a} # kept"') == 'X=1deff(a):returnf"{a}#kept"'
        assert bare(written.replace("X = 1", "X = 2")) != bare(written)

    def test_code_of_runs_counts_and_not_todays(self, tmp_path):
        now = stamp()
        assert not outdated(now)
        assert outdated({"versions": now["versions"]}) == ["training", "scoring"]
        world = {"mini_world": "0 (000000000000)"}
        assert outdated(now | {"versions": now["versions"] | world}) == ["mini_world"]
        for name, code in (("one", now["code"]), ("two", now["code"] | {"training": "000000000000"})):
            (tmp_path / name / "evaluations" / "test").mkdir(parents=True)
            (tmp_path / name / "run.json").write_text(json.dumps({"code": code}))
            (tmp_path / name / "evaluations" / "test" / "scores.json").write_text(json.dumps({"code": now["code"]}))
        made = stamp(tmp_path)
        assert made["code"]["training"].split() == sorted(["000000000000", now["code"]["training"]])
        assert outdated(made) == ["training"]
        assert stamp(tmp_path / "one")["code"] == now["code"]
        assert outdated(stamp(tmp_path / "one", kept={"runs": []})) == ["training", "scoring"]
        assert stamp(tmp_path / "none", kept=now)["code"] == now["code"]  # all is from the record


def test_no_record_tells_where_it_was_made():
    """A folder of the machine says nothing to others."""
    named = [
        f"{file.relative_to(ROOT)}: {found[0]}"
        for file in sorted((ROOT / "experiments").rglob("*"))
        if file.suffix in (".json", ".md", ".yaml")
        for found in re.finditer(
            r"(?<![\w.:/])/(?:tmp|work|home|root|Users|mnt)/[^\s\"]*", file.read_text(encoding="utf-8")
        )
    ]
    assert not named, "\n".join(named)
