"""The page of senses: every command in its table stands in a block that is run, or parsed where it needs a server."""

from __future__ import annotations

import re
from pathlib import Path

from test_readme import commands_in, program

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


def test_the_commands_of_sound_in_small(tmp_path, monkeypatch) -> None:
    """Those of the page's first block about sound, but for the demo (close/demo/test_demo.py), with six sounds and two steps."""
    block = re.search(r"^## Sound.*?```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sound.yaml").write_text(
        "data: {train: sounds/train/captions.jsonl}\nencoder: mini-sound\nlanguage_model: mini-sound\n"
        "training: {max_steps: 2, batch_size: 8, save_strategy: 'no'}\n"
    )
    ran = []
    for words in commands_in(block[1]):
        if words[1] != "demo":
            small = [*words, "--count", "6"] if words[1:3] == ["mini", "export"] else words
            program("close")(small[1:], standalone_mode=False)
            ran.append(words[1])
    assert ran == ["mini", "mini", "train", "caption", "evaluate", "embed"]
    assert (tmp_path / "runs" / "sound" / "evaluations" / "eval-image" / "scores.json").is_file()
