"""Commands that stand in the text of experiments, recipes and docstrings: each exists, and takes the options it is given there.

Those of README and site are run or parsed whole by test_readme.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_readme import program

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for folder, endings in (("experiments", ("md", "yaml", "py")), ("close", ("py", "yaml")), ("data_gen", ("py",)))
    for ending in endings
    for path in (ROOT / folder).rglob(f"*.{ending}")
)
STARTS = r"(?:close|data-gen|python(?= -m experiments| experiments/)) "
WRITTEN = re.compile(rf"^[#\s]*({STARTS}.+)$|`({STARTS}[^`\n]+)`|\(({STARTS}[^()\n]+)\)", re.MULTILINE)
"""A line of its own, indented or a comment; in backticks; in brackets."""


def written(path: Path) -> Iterator[list[str]]:
    """The words of each command in a file's text."""
    text = re.sub(r"\\\n#?", " ", path.read_text(encoding="utf-8"))
    for found in WRITTEN.findall(text):
        line = next(filter(None, found)).partition(" # ")[0]
        words = shlex.split(re.sub(r"[\[\]…]", " ", line).replace("'", ""))
        if len(words) > 1 and re.fullmatch(r"[a-z][\w./-]*|-m", words[1]):
            yield words


def unknown(words: list[str]) -> str | None:
    """What of a command there is not: itself, or one of its options."""
    words = [word.rstrip(",.;:") for word in words]
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    if words[0] == "python":
        script = ROOT / (words[2].replace(".", "/") if words[1] == "-m" else words[1])
        script = script / "__main__.py" if script.is_dir() else script.with_suffix(".py")
        if not script.is_file():
            return str(script.relative_to(ROOT))
        beside = [*script.parent.glob("*.py"), *script.parents[1].glob("*.py"), ROOT / "experiments" / "lab.py"]
        taken = "".join(file.read_text(encoding="utf-8") for file in beside)
        return next(
            (one for one in sorted(options) if not {f'"{one}"', f'"{one[2:]}"'} & set(re.findall(r'"[\w-]+"', taken))),
            None,
        )
    command, rest = program(words[0]), words[1:]
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return None if not rest or rest[0].isupper() else rest[0]
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    return next((option for option in sorted(options) if option not in known), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_text_exist(path):
    wrong = {" ".join(words): found for words in written(path) if (found := unknown(words))}
    assert not wrong, "\n".join(f"{command}: there is no {what}" for command, what in wrong.items())


def test_there_are_some():
    assert sum(len(list(written(path))) for path in FILES) > 150
