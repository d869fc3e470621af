"""Every command and snippet of the README and the site: run as it stands there, in small sizes, or at least parsed.

A page's blocks are run in order, in a copy of the folder that the quick start leaves. What needs the network, a GPU or hours
is marked above its block, `<!-- parsed: WHY -->`, and looked at without being run.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mini_server import served
from typer.main import get_command

import close

ROOT = Path(__file__).resolve().parents[1]
README, START = ROOT / "README.md", ROOT / "docs" / "index.md"
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path != START)
FENCE = re.compile(r"^(?:<!-- (parsed): [^>]+ -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = [
    ("--count 2000", "--count 60"),
    ("--count 400", "--count 60"),
    ("--count 200", "--count 20"),
    ("epochs: 8", "epochs: 1"),
    ("epochs=20", "epochs=1"),
]
MINI = [("open_clip:ViT-L-14/openai", "mini"), ("google-t5/t5-base", "mini")]
"""On the page of one's own captions the mini models stand in for those that would be downloaded."""
OWN = ROOT / "docs" / "own_captions.md"
SERVER = "data-gen serve-mini &"
OTHERS = {"pip", "make", "torchrun", "accelerate", "curl", "python", "git"}
"""Programs that marked blocks may name beside this package's own."""
ELSEWHERE = {"extending"}
"""Pages whose blocks `test_own_parts.py` runs."""


class Block(NamedTuple):
    kind: str
    text: str
    runs: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in small sizes."""
    found = []
    for mark, kind, text in FENCE.findall(page.read_text(encoding="utf-8")):
        for whole, small in SMALL + (MINI if page == OWN else []):
            text = text.replace(whole, small)
        found.append(Block(kind, text, not mark and page.stem not in ELSEWHERE))
    return found


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every command of a block; comments and `…` are none."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for part in line.split(" && "):
            words = [word for word in shlex.split(part, comments=True) if word not in ("…", "&")]
            if words:
                yield words


def program(name: str) -> Any:
    """The command line of one of the two programs."""
    from close.cli import commands
    from data_gen.cli import build

    return get_command(commands() if name == "close" else build())


def parse(words: list[str]) -> None:
    """Refuse a command that its program would refuse before it does anything."""
    if "-m" in words and words[words.index("-m") + 1] == "close":  # torchrun … -m close train …
        words = words[words.index("-m") + 1 :]
    if words[0] not in ("close", "data-gen"):
        assert words[0] in OTHERS, words
        return
    command, rest = program(words[0]), words[1:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(" ".join(words[:2]), rest)


def run_shell(text: str, port: int | None) -> None:
    """Run a block's commands, this package's own in this process, and stop at the first that fails."""
    for words in commands_in(text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")):
        if words[0] in ("close", "data-gen"):
            started = time.monotonic()
            program(words[0])(words[1:], standalone_mode=False)
            print(f"{time.monotonic() - started:.1f} s: {' '.join(words)}")
        else:
            assert words[0] == "head", f"not a program that pages may run: {words}"
            subprocess.run(["bash", "-ec", " ".join(words)], check=True)


def run_block(block: Block, names: dict[str, Any]) -> None:
    """Run or read one block; `names` are those of the page's Python."""
    if block.kind == "python":
        exec(compile(block.text, "snippet", "exec"), names)
    elif block.kind == "yaml":
        read_yaml(block.text)
    elif block.kind == "json":
        json.loads(block.text)
    elif block.kind == "sh" and SERVER in block.text:
        port = free_port()
        with served(["data-gen", "serve-mini", "--port", str(port)], port, Path("server.log")):
            run_shell("".join(line for line in block.text.splitlines(True) if not line.startswith(SERVER)), port)
    elif block.kind == "sh":
        run_shell(block.text, None)


def look_at(block: Block) -> None:
    """What can be known of a block without running it."""
    if block.kind == "sh":
        for words in commands_in(block.text):
            parse(words)
    elif block.kind == "python":
        tree = ast.parse(block.text)
        used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "close"}
        assert used <= set(close.__all__)
    elif block.kind == "yaml":
        read_yaml(block.text)


def read_yaml(text: str) -> None:
    """A recipe, or a part of one, is checked as recipes are."""
    from close.runs.recipe import checked

    values = yaml.safe_load(text)
    data = {} if isinstance(values.get("task"), list) else {"data": {"train": "captions.txt"}}
    checked(data | values, "the page's recipe")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def needs_an_extra(page: Path) -> bool:
    """Whether a page's server can't run here."""
    return SERVER in page.read_text(encoding="utf-8") and not importlib.util.find_spec("fastapi")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the quick start was followed."""
    folder = tmp_path_factory.mktemp("started")
    follow(START, folder)
    return folder


@pytest.fixture(autouse=True)
def _programs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def follow(page: Path, folder: Path) -> None:
    """Run a page's blocks in a folder; a whole recipe on the page is the folder's recipe.yaml."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.kind == "yaml" and page in (START, README):
            (folder / "recipe.yaml").write_text(block.text)
    with contextlib.chdir(folder):
        for block in blocks(page):
            (run_block if block.runs else lambda shown, _: look_at(shown))(block, names)


def test_the_quick_start_gives_scores(started):
    scores = json.loads((started / "scores.json").read_text())
    assert scores["scores"]["n"] == len(list((started / "data" / "test" / "images").iterdir())) == 20
    assert (started / "runs" / "mine" / "evaluations" / "eval-image" / "report.html").is_file()


def as_ones_own(started: Path, folder: Path) -> None:
    """The files that the page of one's own captions begins with, in a folder that holds nothing else."""
    data = started / "data"
    rows = {name: [*map(json.loads, (data / name / "captions.jsonl").open())] for name in ("train", "test")}
    (folder / "captions.txt").write_text("\n".join(row["source"] for row in rows["train"]))
    table = [f'{Path(row["image"]).name},"{row["source"]}"' for row in rows["test"]]
    (folder / "mine.csv").write_text("\n".join(["file,caption", *table]))
    for split, name in (("val", "photos"), ("test", "pictures")):
        shutil.copytree(data / split / "images", folder / name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_works(page, started, tmp_path):
    if needs_an_extra(page):
        pytest.skip("the serve extra is not installed")
    if page == OWN:
        as_ones_own(started, tmp_path)
    elif any(block.runs and block.kind in ("sh", "python") for block in blocks(page)):
        shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    follow(page, tmp_path)
    if page == OWN:
        assert json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["references"][1:]
        assert (tmp_path / "runs" / "mine" / "evaluations" / "rows-image" / "report.html").is_file()
    if page.stem == "data_gen":
        rows = (tmp_path / "written.jsonl").read_text().splitlines()
        assert len(rows) == len(set(rows)) == 60


def test_the_readme_works(tmp_path):
    follow(README, tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text())["scores"]["n"] == 20


def test_the_lean_install_captions(started, tmp_path):
    """What lean.txt brings, and nothing else that is installed here, captions pictures."""
    from importlib.metadata import PackageNotFoundError, distribution

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    todo, seen = [Requirement(line) for line in (ROOT / "lean.txt").read_text().split()], set()
    while todo:
        name = canonicalize_name(todo.pop().name)
        try:
            found = distribution(name) if name not in seen else None
        except PackageNotFoundError:  # of another platform
            found = None
        seen.add(name)
        for top in {file.parts[0] for file in (found.files or [])} - {"..", "__pycache__"} if found else ():
            (tmp_path / top).exists() or (tmp_path / top).symlink_to(found.locate_file(top))
        wanted = map(Requirement, (found.requires or []) if found else [])
        todo += [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(tmp_path)]}; from close.cli import main; main()"
    command = [sys.executable, "-S", "-P", "-c", code, "caption", "runs/mine", "data/test/images"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=started, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_readme_works_in_its_own_size(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SMALL", [])
    follow(README, tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text())["scores"]["cider"] >= 80
