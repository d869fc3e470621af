"""The house: what is public, which room may look into which, what starting up costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import close

FOLDER = Path(close.__file__).parent

ROOMS = (
    "errors",
    "plugins",
    "registry",
    "io fast",
    "mini",
    "data encoders",
    "vectors tasks",
    "adapters",
    "model evaluation",
    "retrieval",
    "runs",
    "training",
    "gap",
    "study",
    "demo serve",
    "cli",
    "__init__ __main__",
)
"""From the ground floor up: a room imports from floors below its own, and from itself."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in FOLDER.rglob("*.py"):
        yield path.relative_to(FOLDER).parts[0].removesuffix(".py"), path


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, wherever in it; `__init__` is the package itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "close":
            names = [node.module or ""] if "." in (node.module or "") else [f"close.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "close"]
        else:
            continue
        rooms = {room for room, _ in modules()}
        yield from (room if (room := name.partition(".")[2].split(".")[0]) in rooms else "__init__" for name in names)


def test_imports_go_one_way() -> None:
    floor = {room: number for number, rooms in enumerate(ROOMS) for room in rooms.split()}
    assert {room for room, _ in modules()} == set(floor)
    wrong = [
        f"{path.relative_to(FOLDER)} imports {name}"
        for room, path in modules()
        for name in imported(path)
        if name != room and floor[name] >= floor[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_lies_loose() -> None:
    loose = {path.stem for path in FOLDER.glob("*.py")}
    assert loose <= {"__init__", "__main__", "errors", "registry", "plugins"}


PRIVATE = ("_prepare_generation_config", "_get_default_generation_params", "ops.mkldnn.", "torch.cpu._")
"""What other libraries keep to themselves: it lies in one room, behind a probe."""


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Two of one name can't be collected together: pytest imports tests by it."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_private_api_lies_in_one_room() -> None:
    found = [
        f"{path.relative_to(FOLDER)}: {name}"
        for room, path in modules()
        for name in PRIVATE
        if room != "fast" and name in path.read_text(encoding="utf-8")
    ]
    assert not found


@pytest.mark.parametrize("package", ["close", "data_gen"])
def test_files_and_functions_can_be_taken_in(package: str) -> None:
    for path in (FOLDER.parent / package).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno + 1 <= 60, f"{path}: {node.name}"


def test_the_public_surface() -> None:
    assert close.__all__ == [
        "Advice",
        "CloseCaptioner",
        "CloseConfig",
        "CloseError",
        "CloseModel",
        "ContrastiveEncoder",
        "EmbeddingTable",
        "GapAdapter",
        "GapReport",
        "Output",
        "Recipe",
        "build_adapter",
        "calibrate",
        "compare",
        "embed_images",
        "embed_texts",
        "evaluate",
        "load",
        "load_adapter",
        "load_encoder",
        "load_plugins",
        "load_recipe",
        "match_length",
        "measure_gap",
        "recommend",
        "save_adapter",
        "sweep",
        "table_of_vectors",
        "train",
    ]
    page = (FOLDER.parent / "docs" / "python.md").read_text(encoding="utf-8")
    for name in close.__all__:
        assert getattr(close, name).__doc__, name
        assert f"::: close.{name}\n" in page, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = close.nothing


def test_every_room_is_an_attribute_and_no_public_name_hides_one(tmp_path: Path) -> None:
    assert not {room for room, _ in modules()} & set(close.__all__)
    code = "import close; print(close.plugins.load_plugins is close.load_plugins, close.gap.measure_gap, 'gap' in dir(close))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.stdout.startswith("True <function measure_gap"), done.stderr
    assert done.stdout.endswith("True\n")


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, close; print([m for m in ('torch', 'transformers', 'open_clip', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
