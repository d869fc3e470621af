"""The rooms stay apart: data_gen knows neither torch nor close, and importing it does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import data_gen

FOLDER = Path(data_gen.__file__).parent


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_the_allowed_packages_are_imported():
    allowed = {*sys.stdlib_module_names, "data_gen", "openai", "typer", "numpy", "jinja2"}
    for path in FOLDER.rglob("*.py"):
        foreign = {name.split(".")[0] for name in _imported(path)} - allowed
        assert not foreign, f"{path.name} imports {foreign}"


def test_importing_everything_loads_neither_torch_nor_close_nor_openai():
    modules = [f"data_gen.{path.stem}" for path in FOLDER.glob("*.py") if path.stem != "__init__"]
    wanted = ("torch", "close", "openai", "transformers")
    code = f"import sys, {', '.join(modules)}; print([m for m in {wanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist():
    assert all(hasattr(data_gen, name) for name in data_gen.__all__)
