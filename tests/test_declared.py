"""What the packages import is what `pyproject.toml` declares, within bounds, and `constraints.txt` pins all of it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"close", "data_gen", "experiments"}

EXTRAS = {
    "ray": "ray",
    "soundfile": "sound",
    "onnxruntime": "onnx",
    "av": "video",
    "pillow_heif": "heic",
    "sentence_transformers": "st",
    "faiss": "faiss",
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "h11"), "serve"),
}
"""What only an extra brings; imported where it is used, never when a module is."""

BY_OTHERS = {"torchvision", "accelerate", "sentencepiece"}
"""Imported by open_clip and transformers for what this package asks of them."""


def declared(extra: str | None = None) -> dict[str, Requirement]:
    """Requirements by name: of the package itself, or of one of its extras."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(wanted.name): wanted for wanted in map(Requirement, lines)}


def foreign(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Top-level names that the nodes import from neither the standard library nor this project."""
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - OWN


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


def imports(*folders: str) -> set[str]:
    """Every foreign name imported in these folders, wherever in a file."""
    return {name for path in files(*folders) for name in foreign(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))}


def distributions(names: Iterable[str]) -> set[str]:
    """The packages that bring these modules; a module that is not installed is taken for its package's name."""
    known = packages_distributions()
    return {canonicalize_name(known.get(name, [name])[0]) for name in names}


def test_what_is_imported_is_declared() -> None:
    missing = distributions(imports("close", "data_gen") - EXTRAS.keys()) - declared().keys()
    assert not missing, f"imported, but not declared in pyproject.toml: {sorted(missing)}"
    for module, extra in EXTRAS.items():
        assert distributions([module]) <= declared(extra).keys()


def test_what_an_extra_brings_is_imported_where_it_is_used() -> None:
    for path in files("close", "data_gen"):
        early = set(foreign(ast.parse(path.read_text(encoding="utf-8")).body)) & EXTRAS.keys()
        assert not early, f"{path.relative_to(ROOT)} imports {early} when it is imported"


def test_what_tests_and_experiments_import_is_declared() -> None:
    beside = {
        path.stem for path in files("tests", "experiments", "docs")
    }  # test helpers and scripts import each other by name
    everything = {name for extra in (None, *PROJECT["optional-dependencies"]) for name in declared(extra)}
    missing = distributions(imports("tests", "experiments") - beside) - everything
    assert not missing, f"imported, but not declared in any extra: {sorted(missing)}"


def test_what_is_declared_is_imported() -> None:
    unused = declared().keys() - distributions(imports("close", "data_gen")) - BY_OTHERS
    assert not unused, f"declared in pyproject.toml, but not imported: {sorted(unused)}"


def pinned() -> dict[str, str]:
    """Names and versions of `constraints.txt`, which holds nothing else."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return {canonicalize_name(name): at for name, _, at in (line.partition("==") for line in lines)}


def test_versions_have_a_floor_and_end_before_the_major_version_that_nobody_tried() -> None:
    for extra in (None, *PROJECT["optional-dependencies"]):
        for name, wanted in declared(extra).items():
            if wanted.extras and not wanted.specifier:  # another extra of what is bounded above
                assert name in declared()
                continue
            bounds = {bound.operator: Version(bound.version) for bound in wanted.specifier}
            assert bounds.keys() == {">=", "<"}, wanted
            tried = Version(pinned()[name])
            assert bounds[">="] <= tried, wanted
            assert bounds["<"] == Version(str(tried.major + 1)), wanted


def test_the_constraints_pin_all_that_is_installed() -> None:
    """From the declared requirements on, through what each installed package requires itself."""
    if version("torch").split("+")[0] != pinned()["torch"]:
        pytest.skip("this environment was not made from constraints.txt")
    extras = (None, "dev", "serve", "ray", "docs", "onnx", "sound", "video", "heic", "st", "faiss")
    todo = [wanted for extra in extras for wanted in declared(extra).values()]
    seen: dict[str, set[str]] = {}
    while todo:
        wanted = todo.pop()
        name, asked = canonicalize_name(wanted.name), {"", *wanted.extras}
        new = asked - seen.setdefault(name, set())
        seen[name] |= new
        try:
            further = distribution(name).requires or [] if new else []
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        for line in map(Requirement, further):
            if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in new):
                todo.append(line)
    missing = seen.keys() - pinned().keys()
    assert not missing, f"installed, but not in constraints.txt: {sorted(missing)}"
