"""A plug-in whose code has changed: what was made with it is not taken for what it would make now."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image

import close
from close import plugins
from close.adapters import ADAPTERS
from close.cli.caption import _made_by
from close.errors import OutputExistsError, warn_once
from close.evaluation.compare import compare
from close.evaluation.metrics import METRICS
from close.gap.measures import MEASURES
from close.runs.confidence import Confidence, run_sum
from close.runs.evaluate import evaluate, evaluated
from close.runs.folder import code_of
from close.study.selection import saved_selection
from close.training.train import _said, train

ADAPTER = """
from close.adapters import ADAPTERS, GapAdapter


@ADAPTERS.register("turned")
class Turned(GapAdapter):
    name = "turned"

    def text(self, x, noise):
        return {sign}x
"""
METRIC = """
from close.evaluation.bootstrap import mean_score
from close.evaluation.metrics import METRICS, Metric, Score


@METRICS.register(Metric("thousand", "caption", (Score("thousand", "Thousand", scale=(0, None)),), default=True))
def thousand(inputs):
    return {{"thousand": mean_score([{number} for key in inputs.ids])}}
"""
MAP = {"by": "likelihood", "x": [0, 1], "y": [0, 1], "weights": [0, 0, 0]}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a plug-in's file, and loads it as another process would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    kept = [(METRICS, "_order"), (METRICS._metrics, "_items"), (METRICS._metrics, "origins")]
    kept += [(ADAPTERS, "_items"), (ADAPTERS, "origins")]
    before = [(owner, name, getattr(owner, name).copy()) for owner, name in kept]

    def forget() -> None:
        for owner, name, value in before:
            setattr(owner, name, value.copy())
        warn_once.cache_clear()

    def load(**files: str) -> None:
        forget()
        plugins._loaded.clear()
        for name, text in files.items():
            Path(f"{name}.py").write_text(text)
        plugins.load_plugins([f"./{path.name}" for path in sorted(tmp_path.glob("*.py"))])

    yield load
    forget()


def test_a_run_and_its_evaluations(recipe, loaded, tmp_path, caplog):
    picture = tmp_path / "red.png"
    Image.new("RGB", (32, 32), (250, 30, 30)).save(picture)
    rows = [{"id": "1", "image": str(picture), "source": "a red cat", "references": ["a red cat"]}]
    data = tiny.write_jsonl(tmp_path / "test.jsonl", rows)
    loaded(parts=ADAPTER.format(sign=""), score=METRIC.format(number=1))
    made = recipe({"max_steps": 1}, adapter="turned")
    run = train(made, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    assert about["plugins"] == ["../parts.py"]
    assert [len(one) for one in about["plugin_sums"]] == [64]
    assert evaluated(run, data)["thousand"] == 1
    assert saved_selection(run, data)["scores"]["thousand"] == 1
    calibration = {"settings": {}, "map": MAP, "run_sha256": run_sum(run), **code_of(run)}
    (run / "calibration").mkdir()
    (run / "calibration" / "caption.json").write_text(json.dumps(calibration))
    assert Confidence.load(run, "caption")
    made_by = _made_by(close.load(run), None)
    scores = run / "evaluations" / "test-image" / "scores.json"
    first = scores.stat().st_mtime_ns
    evaluated(run, data)
    assert scores.stat().st_mtime_ns == first

    loaded(score=METRIC.format(number=1000))  # the run is what it was, and its scores are others
    assert train(made, run, resume=True) == run
    assert evaluated(run, data)["thousand"] == 1000
    assert saved_selection(run, data)["scores"]["thousand"] == 1000
    assert Confidence.load(run, "caption")
    assert _made_by(close.load(run), None) == made_by

    loaded(parts=ADAPTER.format(sign="-"))
    with pytest.raises(
        OutputExistsError, match=r"run is finished, and parts.py has changed since it was trained: remove"
    ):
        train(made, run, resume=True)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = evaluate(close.load(run), data, tokenizer="python")
        compare(run, run, name="test-image")
    told = [one.message for one in caplog.records if "parts.py has changed since it was trained" in one.message]
    assert len(told) == 1
    assert dict(zip(found["plugins"], found["plugin_sums"], strict=True)).keys() == {"parts.py", "score.py"}
    assert found["plugin_sums"][0] != about["plugin_sums"][0]
    assert "evaluated with other code of parts.py than its run was trained with" in caplog.text
    assert Confidence.load(run, "caption") is None
    assert _made_by(close.load(run), None) != made_by

    del about["plugin_sums"]  # of before
    (run / "run.json").write_text(json.dumps(about))
    assert train(made, run, resume=True) == run


def test_a_metric_that_the_recipe_names_trains_nothing(recipe, captions, loaded, tmp_path, caplog):
    loaded(score=METRIC.format(number=1), parts=ADAPTER.format(sign=""))
    made = recipe({"max_steps": 1}, plugins=["./score.py", "./parts.py"])
    run = train(made, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    assert about["plugins"] == ["../score.py", "../parts.py"]
    assert [len(one) for one in about["plugin_sums"]] == [0, 64]
    best = {"max_steps": 1, "metric_for_best": "thousand", "save_strategy": "steps", "save_steps": 1}
    chosen = recipe(best, plugins=["./score.py"], data={"train": str(captions), "val": str(captions)})
    other = train(chosen, tmp_path / "other")
    loaded(score=METRIC.format(number=1000))
    assert train(made, run, resume=True) == run
    assert close.load(run)
    assert "has changed" not in caplog.text
    with pytest.raises(OutputExistsError, match=r"score.py has changed since it was trained"):
        train(chosen, other, resume=True)


def test_a_metric_that_chose_the_weights(recipe, captions, loaded, tmp_path):
    loaded(score=METRIC.format(number=1))
    training = {"max_steps": 1, "metric_for_best": "thousand", "save_strategy": "steps", "save_steps": 1}
    made = recipe(training, data={"train": str(captions), "val": str(captions)})
    run = train(made, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    assert (about["plugins"], about["best"]["plugins"]) == ([], ["score.py"])
    loaded(score=METRIC.format(number=1) + "\n# as it was")
    assert train(made, run, resume=True) == run
    loaded(score=METRIC.format(number=2))
    with pytest.raises(OutputExistsError, match=r"score.py has changed since it was trained"):
        train(made, run, resume=True)


def test_a_run_under_way(recipe, loaded, tmp_path, monkeypatch):
    loaded(parts=ADAPTER.format(sign=""))
    made = recipe({"max_steps": 3, "save_strategy": "steps", "save_steps": 1}, adapter="turned")
    with monkeypatch.context() as patch:
        patch.setattr("close.training.train.save_run", _stopped)
        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path / "run")
    loaded(parts=ADAPTER.format(sign="-"))
    with pytest.raises(OutputExistsError, match=r"run: parts.py has changed since the run began; remove that folder"):
        train(made, tmp_path / "run", resume=True)
    loaded(parts=ADAPTER.format(sign=""))
    assert close.load(train(made, tmp_path / "run", resume=True))


def _stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_modules_packages_and_files_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("one/parts.py", "two/parts.py", "a_plugin_module.py", "a_plugin_package/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"name = {name!r}")
    names = [f"{tmp_path}/one/parts.py", f"{tmp_path}/two/parts.py", "a_plugin_module", "a_plugin_package"]
    plugins.load_plugins(names)
    kept = plugins.plugins_said(names)
    assert len(set(kept["plugin_sums"])) == 4
    assert sorted(plugins.plugins_said(["parts.py"])["plugin_sums"]) == sorted(kept["plugin_sums"][:2])
    moved = kept | {"plugins": ["../parts.py", "C:\\x\\parts.py", *names[2:]]}
    assert plugins.changed_plugins(moved) == []
    (tmp_path / "a_plugin_package" / "more.py").touch()
    monkeypatch.setattr(plugins, "_loaded", {})
    plugins.load_plugins(names)
    assert plugins.changed_plugins(kept) == ["a_plugin_package"]
    assert plugins.changed_plugins({"plugins": names}) == []  # of before
    assert plugins.changed_plugins(kept, {"plugins": ["parts.py"], "plugin_sums": ["0"]}) == ["parts.py"]


def test_the_sum_of_code_is_the_same_in_every_python(tmp_path, monkeypatch):
    file = tmp_path / "parts.py"
    file.write_text("def f(a, *, b, c=None):\n    return {**a, 'é': b}\n")
    before = plugins.sum_of_code(file)
    if sys.version_info[:2] == (3, 11):  # whose sums earlier runs have
        assert before == hashlib.sha256(ast.dump(ast.parse(file.read_text())).encode()).hexdigest()
        own = Path(__file__)
        assert plugins.sum_of_code(own) == hashlib.sha256(ast.dump(ast.parse(own.read_text())).encode()).hexdigest()
    if "type_params" not in ast.FunctionDef._fields:  # as 3.12 has them
        monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "type_params"))
        monkeypatch.setattr(ast.FunctionDef, "type_params", [], raising=False)
    assert "type_params" in ast.FunctionDef._fields
    assert plugins.sum_of_code(file) == before
    file.write_text("def f(a, *, b, c=0):\n    return {**a, 'é': b}\n")
    assert plugins.sum_of_code(file) != before
    file.write_text("words = " + " + ".join(["'a'"] * 700))
    assert plugins.sum_of_code(file)


ORIGINS = """
import json, sys
from close.plugins import load_plugins
load_plugins(["./parts.py"])
from close.adapters import ADAPTERS
from close.encoders import ENCODERS
from close.evaluation.metrics import METRICS
from close.gap.measures import MEASURES
from close.tasks import TASKS
print(json.dumps([sorted(one.origins) for one in (ADAPTERS, ENCODERS, TASKS, METRICS)]))
"""


def test_what_a_plugin_imports_of_ours_is_not_its_own(tmp_path):
    (tmp_path / "parts.py").write_text(ADAPTER.format(sign="-") + METRIC.format(number=3), encoding="utf-8")
    found = subprocess.run([sys.executable, "-c", ORIGINS], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [["turned"], [], [], ["thousand"]]


def test_comments_and_layout_are_no_other_code(tmp_path):
    file, sums = tmp_path / "parts.py", set()
    source = ADAPTER.format(sign="-")
    for text in (source, "# why\n" + source, source.replace("\n", "\r\n"), source.replace("return -x", "return  (-x)")):
        file.write_bytes(text.encode())
        sums.add(plugins.sum_of_code(file))
    assert len(sums) == 1
    file.write_text(ADAPTER.format(sign="+"), encoding="utf-8")
    assert plugins.sum_of_code(file) not in sums


def test_measures_decide_nothing_of_a_run(loaded, monkeypatch):
    loaded(own="one = 1")
    key = plugins.key_of("own.py")
    assert [len(one) for one in _said([key])["plugin_sums"]] == [64]
    monkeypatch.setitem(MEASURES._measures.origins, "mine", key)
    assert _said([key])["plugin_sums"] == [""]
