"""What the code looks like to a stranger: files, lines, functions, docstrings, rooms and the imports between them.

    python experiments/house/figures.py [CHECKOUT] [--json FILE]

A room is a folder of `close/`, or a module that lies loose at its top; an arrow is one room that imports from another.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(tree: ast.AST) -> list[Function]:
    """Every function and method."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def public_of(tree: ast.Module) -> list[ast.AST]:
    """Public classes, functions and methods, by name; what lies inside a function is its own business."""
    found: list[ast.AST] = []
    for node in tree.body:
        if isinstance(node, (*Function.__args__, ast.ClassDef)) and not node.name.startswith("_"):
            found.append(node)
            if isinstance(node, ast.ClassDef):
                found += [n for n in node.body if isinstance(n, Function) and not n.name.startswith("_")]
    return found


def imported_rooms(tree: ast.AST, package: str) -> set[str]:
    """Rooms of the package that a file imports from, wherever in it; "" is the package itself."""
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == package else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith(package + ".")}
    return rooms


def figures(package: Path) -> dict[str, Any]:
    """The figures of one package."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in trees}
    functions = [f for tree in trees.values() for f in functions_of(tree)]
    lengths = [(f.end_lineno or f.lineno) - f.lineno + 1 for f in functions]
    public = [node for tree in trees.values() for node in public_of(tree)]
    rooms = {path: path.relative_to(package).parts[0].removesuffix(".py") for path in trees}
    known = set(rooms.values())
    arrows: Counter[tuple[str, str]] = Counter()
    for path, tree in trees.items():
        for other in imported_rooms(tree, package.name) & known - {rooms[path]}:
            arrows[rooms[path], other] += 1
    return {
        "files": len(trees),
        "lines": sum(lines.values()),
        "longest_file": max(lines.values()),
        "files_over_400": sum(count > 400 for count in lines.values()),
        "functions": len(functions),
        "median_function": median(lengths),
        "longest_function": max(lengths),
        "functions_over_60": sum(length > 60 for length in lengths),
        "public": len(public),
        "public_with_docstring": round(sum(ast.get_docstring(node) is not None for node in public) / len(public), 3),  # type: ignore[arg-type]
        "loose_modules": sum(path.parent == package for path in trees),
        "rooms": len(known),
        "arrows_between_rooms": len(arrows),
        "circles_between_rooms": sum((b, a) in arrows for a, b in arrows) // 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[2])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = {name: figures(given.checkout / name) for name in ("close", "data_gen")}
    for key in found["close"]:
        print(f"{key:<24}" + "".join(f"{found[name][key]:>12}" for name in found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
