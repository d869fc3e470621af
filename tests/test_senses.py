"""The page of senses: every command in its table stands in a block that is run, or parsed where it needs a server."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "senses.md"


def test_every_cell_of_the_table_is_a_command_of_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| [")]
    blocks = " ".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).split()
    other = " ".join((PAGE.parent / f"{name}.md").read_text(encoding="utf-8") for name in ("index", "serving")).split()
    assert len(rows) >= 4
    for _, *cells in rows:
        assert len(cells) == 4
        for command in [found for cell in cells for found in re.findall(r"`(close [^`]+|curl [^`]+)`", cell)]:
            wanted = [word for word in command.split() if word != "…"]
            assert set(wanted) <= {*blocks, *other}, command


def test_every_sense_has_a_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)
    }
    assert set(re.findall(r"^\| \[[^\]]+\]\(#([^)]+)\)", text, re.M)) <= anchors
