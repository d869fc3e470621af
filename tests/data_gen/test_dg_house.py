"""The house: which room may look into which; data_gen knows neither torch nor close, and importing it does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import data_gen

FOLDER = Path(data_gen.__file__).parent

ROOMS = (
    "errors",
    "registry plugins text",
    "verbs",
    "prompts",
    "filters client",
    "run report mini",
    "cli",
    "__init__ __main__",
)
"""From the ground floor up: a room imports from floors below its own, and from itself."""


def modules():
    """Room and path of every module."""
    for path in FOLDER.rglob("*.py"):
        yield path.relative_to(FOLDER).parts[0].removesuffix(".py"), path


def imported(path):
    """Every module that a file imports, wherever in it; `from data_gen import x` imports `data_gen.x`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            yield from (
                (f"data_gen.{alias.name}" for alias in node.names) if node.module == "data_gen" else [node.module]
            )


def test_imports_between_rooms_go_one_way():
    floor = {room: number for number, rooms in enumerate(ROOMS) for room in rooms.split()}
    assert {room for room, _ in modules()} == set(floor)
    wrong = []
    for room, path in modules():
        for name in imported(path):
            package, _, inside = name.partition(".")
            other = inside.split(".")[0] if inside.split(".")[0] in floor else "__init__"
            if package == "data_gen" and other != room and floor[other] >= floor[room]:
                wrong.append(f"{path.relative_to(FOLDER)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_in_a_circle():
    """Within a room too: modules can be put in an order in which each imports only those before it."""
    names = {path: ".".join(("data_gen", *path.relative_to(FOLDER).with_suffix("").parts)) for _, path in modules()}
    names = {path: name.removesuffix(".__init__") for path, name in names.items()}
    left = {name: {other for other in imported(path) if other in names.values()} for path, name in names.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    assert not left


def test_only_the_allowed_packages_are_imported():
    allowed = {
        *sys.stdlib_module_names,
        "data_gen",
        "filelock",
        "jinja2",
        "json_repair",
        "regex",
        "numpy",
        "openai",
        "tqdm",
        "typer",
    }
    for room, path in modules():
        served = {"transformers"} if room == "mini" else set()
        foreign = {name.split(".")[0] for name in imported(path)} - allowed - served
        assert not foreign, f"{path.name} imports {foreign}"


def test_files_and_functions_can_be_read_without_scrolling():
    for _, path in modules():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"


def test_importing_everything_loads_neither_torch_nor_close_nor_openai():
    names = (".".join(path.relative_to(FOLDER.parent).with_suffix("").parts) for _, path in modules())
    wanted = ("torch", "close", "openai", "transformers")
    everything = ", ".join(name for name in names if not name.endswith("__main__"))
    code = f"import sys, {everything}; print([m for m in {wanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist():
    for name in ("data_gen", *(f"data_gen.{room}" for rooms in ROOMS[:-1] for room in rooms.split())):
        module = __import__(name, fromlist=["x"])
        assert all(hasattr(module, public) for public in getattr(module, "__all__", ()))
