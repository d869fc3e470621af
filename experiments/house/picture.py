"""Draws the rooms of `close/` as floors, each room above all that it imports from, and the way of one caption and one photo.

python experiments/house/picture.py [OUT.png]
"""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path

from figures import imported_rooms

PACKAGE = Path(__file__).parents[2] / "close"
INK, MUTED, ROOM, WAY = "#1d2733", "#5d6b7e", "#f3f6fa", "#1f7a63"
WALK = (
    ("a row of text", "data"),
    ("its vector", "encoders"),
    ("kept in a table", "vectors"),
    ("noised", "adapters"),
    ("prefix, then loss", "model"),
    ("trained", "training"),
    ("used on photos", "runs"),
)
"""One caption from its file to the loss; a photo takes the same way from its encoder on."""
BADGE = {
    "color": "white", "fontsize": 8, "weight": "bold", "va": "center", "ha": "center",
    "bbox": {"boxstyle": "circle,pad=0.25", "facecolor": WAY, "edgecolor": "none"},
}  # fmt: skip


def rooms() -> dict[str, tuple[str, set[str]]]:
    """Each folder's first line, and the rooms that it imports from."""
    found = {}
    names = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for name in names:
        about = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))) or ""
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (PACKAGE / name).rglob("*.py")]
        below = set().union(*(imported_rooms(tree, "close") for tree in trees)) & names - {name}
        found[name] = (" ".join(about.split("\n\n")[0].split()), below)
    return found


def floors(found: dict[str, tuple[str, set[str]]]) -> list[list[str]]:
    """The rooms by height: a room stands one floor above the highest that it imports from."""
    level: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in level:
            level[name] = 1 + max(map(height, found[name][1]), default=-1)
        return level[name]

    for name in found:
        height(name)
    return [sorted(name for name in level if level[name] == floor) for floor in range(max(level.values()) + 1)]


def draw(out: Path) -> None:
    """The picture."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    found = rooms()
    stack, walked = floors(found), {room for _, room in WALK}
    figure = Figure(figsize=(12, 0.95 * len(stack) + 0.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12), ylim=(-0.35, len(stack) + 0.25))
    axes.axis("off")
    for floor, names in enumerate(stack):
        width = 11.4 / max(len(names), 2)
        left = 6 - width * len(names) / 2
        for number, name in enumerate(names):
            x = left + number * width
            edge = WAY if name in walked else "#c9d2de"
            axes.add_patch(
                FancyBboxPatch(
                    (x + 0.1, floor), width - 0.2, 0.74, boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor=ROOM, edgecolor=edge, linewidth=1.8 if name in walked else 1,
                )
            )  # fmt: skip
            axes.text(x + 0.25, floor + 0.55, f"{name}/", color=INK, weight="bold", fontsize=11, va="center")
            words = textwrap.shorten(found[name][0], 200, placeholder=" …")
            lines = textwrap.wrap(words, int(width * 13.6))[:2]
            axes.text(
                x + 0.25, floor + 0.23, "\n".join(lines), color=MUTED, fontsize=7.6, va="center", linespacing=1.25
            )
            for step, (what, room) in enumerate(WALK, 1):
                if room == name:
                    axes.text(x + width - 0.5, floor + 0.57, str(step), **BADGE)
                    axes.text(x + width - 0.75, floor + 0.57, what, color=WAY, fontsize=8, va="center", ha="right")
    axes.text(
        0.4, -0.2, "A room imports only from rooms below its own. Green, 1 to 6: one caption, file to loss; 2 to 5, 7: a photo.",
        color=MUTED, fontsize=9,
    )  # fmt: skip
    figure.savefig(out, dpi=110, facecolor="white")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE.parent / "docs" / "rooms.png")
