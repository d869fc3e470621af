"""Small models and data, built once a session, and the command line as users meet it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny

from close import plugins
from close.adapters import ADAPTERS
from close.encoders import ENCODERS
from close.errors import warn_once

Build = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _plugins_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes are told to load what this one has loaded; files of another test are not theirs."""
    monkeypatch.setattr("close.plugins._loaded", dict(plugins._loaded))


@pytest.fixture
def plugged(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Writes a plug-in's file, and loads it as another process would."""
    registries = (ADAPTERS, ENCODERS)
    before = [(one, dict(one)) for of in registries for one in (of._items, of.origins)]
    before.append((plugins._loaded, dict(plugins._loaded)))

    def forget() -> None:
        for owner, items in before:
            owner.clear()
            owner.update(items)
        warn_once.cache_clear()

    def load(text: str) -> None:
        forget()
        (tmp_path / "own.py").write_text(text)
        plugins.load_plugins([str(tmp_path / "own.py")])

    yield load
    forget()


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`zoo("coca_dir")`: the folder that `tiny.coca_dir` builds, once."""
    root, built = tmp_path_factory.mktemp("zoo"), dict[str, Path]()

    def build(name: str) -> Path:
        if name not in built:
            built[name] = getattr(tiny, name)(root / name)
        return built[name]

    return build


@pytest.fixture(scope="session")
def tiny_encoder(zoo: Build) -> Path:
    """A very small open_clip model with random weights."""
    return zoo("open_clip_dir")


@pytest.fixture(scope="session")
def tiny_t5(zoo: Build) -> Path:
    """A very small T5 with random weights."""
    return zoo("t5_dir")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        tiny.picture(folder / f"p{i:02}.png", seed=i)
    return folder


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 captions of uneven length in groups of four."""
    return tiny.write_jsonl(tmp_path_factory.mktemp("captions") / "captions.jsonl", tiny.caption_rows(48))


@pytest.fixture(scope="session")
def train_small(
    captions: Path, tiny_encoder: Path, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`train_small(epochs=2)`: a run of small models, in a folder whose parent is not there yet."""
    from close.runs.recipe import Recipe
    from close.training.train import train

    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}

    def build(**training: Any) -> Path:
        values = {"data": {"train": str(captions)}, **models, "training": {"batch_size": 16, **training}}
        return train(Recipe.model_validate(values), tmp_path_factory.mktemp("runs") / "new" / "run")

    return build


@pytest.fixture(scope="module")
def run(train_small: Callable[..., Path]) -> Path:
    """A small trained run."""
    return train_small(epochs=2, save_strategy="no")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """Lines of stderr that are no progress."""
        lines = self.err.replace("\r", "\n").splitlines()
        return [line for line in lines if line.strip() and "%|" not in line]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The `close` command in this process, whose imports are its own affair."""
    from close.cli import run as close

    def run(*args: Any) -> Ran:
        monkeypatch.setattr(sys, "argv", ["close", *map(str, args)])
        capfd.readouterr()
        code: Any = 0
        try:
            close()
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return Ran(int(code or 0), out, err)

    return run


@pytest.fixture
def told(cli: Callable[..., Ran]) -> Callable[..., str]:
    """Run a command that must fail with one told line, notes aside, which is returned."""

    def run(*args: Any) -> str:
        ran = cli(*args)
        assert "Traceback" not in ran.err
        assert ran.code == 1, ran
        messages = [message for message in ran.messages if not message.startswith("note: ")]
        assert len(messages) == 1, ran.err
        assert messages[0].startswith("error: ")
        return messages[0]

    return run


@pytest.fixture
def refused(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command whose usage is wrong: exit code 2 and a message, which is returned on one line."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: Any) -> str:
        ran = cli(*args)
        assert "Traceback" not in ran.err
        assert (ran.code, ran.out) == (2, ""), ran
        return " ".join(ran.err.split())

    return run


@pytest.fixture
def recipe(captions: Path, tiny_encoder: Path, tiny_t5: Path) -> Callable[..., Any]:
    """A recipe of tiny models on 48 captions: two epochs of three steps, unless told otherwise."""
    from close.runs.recipe import Recipe

    def make(training: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "data": {"train": str(captions)},
            "encoder": str(tiny_encoder),
            "language_model": str(tiny_t5),
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "logging_steps": 1, **(training or {})},
        }
        return Recipe.model_validate(values | changes)

    return make
