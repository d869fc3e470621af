"""What the tests of data_gen share: captions, the command line as a process, and reading rows."""

import json
import os
import sys
from pathlib import Path

EXAMPLES = [
    "A brown dog runs across the grass of a park.",
    "Two cats sleep on a sofa near the window.",
    "A man rides a horse along the beach.",
    "A red bus waits at a light on a wet street.",
    "A woman cuts a pizza in her kitchen.",
    "Children fly a kite above a green hill.",
    "A train stands at an old station.",
    "A boy throws a ball to his sister.",
    "A boat drifts on the river at sunset.",
    "A cook stirs soup in a large pot.",
    "A girl reads a book under a tree.",
    "Three birds sit on the roof of a house.",
]


def command(*arguments):
    return [sys.executable, "-c", "from data_gen.cli import main; main()", *map(str, arguments)]


def environment(extra=None):
    root = Path(__file__).resolve().parents[2]
    names = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    return {**names, "PYTHONPATH": str(root), **(extra or {})}


def rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def timeless(path):
    """Rows without the time at which each was made."""
    found = rows(path)
    for row in found:
        row.get("meta", row).pop("time", None)
    return found
