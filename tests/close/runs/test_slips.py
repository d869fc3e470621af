"""Whoever makes several mistakes in a recipe hears of all that can be told at once, a line each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from close.errors import CloseError, DataError, MissingError, RecipeError
from close.runs.recipe import Recipe, load_recipe
from close.runs.slips import MOST, Slips, SlipsError
from close.training.train import train

WRONG = {
    "data": {"train": "nothere.jsonl", "val": 3},
    "trainin": {"epochs": 1},
    "training": {"epochs": 0, "bf16": True, "metric_rows": 3, "logging_step": 2},
    "task": "captoin",
    "captions": "many",
    "lora": {"r": 2},
    "tune": "none",
    "retrieve": {"into": "words", "noise": 0.5, "leave_out": "texts", "memory": "gone.txt"},
    "language_model": "./nowhere",
}
TOLD = [
    "unknown key 'trainin': did you mean 'training'?",
    "training: key 'bf16' is 'training.precision' here",
    "training: unknown key 'logging_step': did you mean 'logging_steps'?",
    "training: metric_rows counts where metric_for_best names a score, and it does not",
    "training.epochs: Input should be greater than 0, not 0",
    "task: unknown task 'captoin': did you mean 'caption'? known: ",
    "captions: Input should be 'single' or 'multiple', not 'many'",
    "data.val: Input is not a valid path for <class 'pathlib.Path'>, not 3",
    "lora is given, and tune is 'none': leave one of them out, or say tune: lora",
    "retrieve: into: words trains on a caption's own words and searches nothing; leave noise out",
    "retrieve: into: words trains on a caption's own words and finds nothing to leave out; leave leave_out out",
    "nothere.jsonl: no such file",
    "language model './nowhere': no such directory",
]


def _matched(lines: list[str], told: list[str]) -> None:
    """Each line has one of these texts, and each text is in one line."""
    for words in told:
        assert len([line for line in lines if words in line]) == 1, (words, lines)
    assert len(lines) == len(told), lines


def test_keys_values_and_files_are_told_together_before_torch(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps(WRONG))
    code = (
        "import sys; from close.cli import main; sys.argv = ['close', 'train', 'r.yaml', '--dry-run']\n"
        "try: main()\n"
        "except SystemExit as stop: print(stop.code, [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    own = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300, env=own
    )
    assert done.stdout.strip() == "1 []", done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    _matched(lines, TOLD)
    with pytest.raises(RecipeError) as told:
        load_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(told.value)
    assert isinstance(told.value, SlipsError)
    _matched(list(told.value.each), TOLD[:-2])  # of files there, who looks at them


def test_what_comes_of_a_mistake_is_not_told_beside_it(tmp_path: Path) -> None:
    for values, words in (
        ({"data": {"train": 3}}, "data.train"),
        ({"data": None}, "data"),
        ({"task": [{"task": "caption"}]}, "key 'task.0.train' is missing"),
        (
            {"data": {"train": "c.txt"}, "training": {"metric_for_best": 3, "metric_rows": 5}},
            "training.metric_for_best",
        ),
        ({"data": {"train": "c.txt"}, "retrieve": {"into": "nowhere", "dropout": 0.5}}, "retrieve.into"),
    ):
        (tmp_path / "r.yaml").write_text(json.dumps(values))
        with pytest.raises(RecipeError, match=words) as told:
            load_recipe(tmp_path / "r.yaml")
        lines = getattr(told.value, "each", [str(told.value)])
        assert all(words in line for line in lines), lines


def test_parts_are_told_together(tmp_path: Path) -> None:
    parts = {"adapter": "gausian", "prefix": "liner", "retrieve": {"noise": 2}}
    (tmp_path / "r.yaml").write_text(json.dumps({"data": {"train": "c.txt"}, **parts}))
    with pytest.raises(SlipsError) as told:
        load_recipe(tmp_path / "r.yaml")
    expected = ["adapter: unknown adapter 'gausian': did", "prefix: unknown prefix 'liner': did", "retrieve.noise: "]
    _matched(list(told.value.each), expected)


def test_stages_of_an_adapter_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a\nb\n")
    stages = [{"gaussian": {"cosine": 1.41}}, "centring", ["centering", {"uniform": {"radius": -1}}]]
    (tmp_path / "r.yaml").write_text(json.dumps({"data": {"train": "c.txt"}, "adapter": stages}))
    with pytest.raises(SlipsError) as told:
        load_recipe(tmp_path / "r.yaml")
    expected = ["adapter: gaussian: cosine is", "adapter: unknown adapter 'centering': did", "adapter: uniform: radius"]
    _matched(list(told.value.each), expected)


@pytest.mark.parametrize(("key", "number"), [("learning_rate", "0,002"), ("weight_decay", "-1,5e-3")])
def test_a_decimal_comma_is_told(tmp_path: Path, key: str, number: str) -> None:
    (tmp_path / "c.txt").write_text("a\nb\n")
    (tmp_path / "r.yaml").write_text(f"data: {{train: c.txt}}\ntraining:\n  {key}: {number}\n")
    with pytest.raises(RecipeError) as told:
        load_recipe(tmp_path / "r.yaml")
    assert f"not '{number}' (a decimal point, not a comma: {number.replace(',', '.')})" in str(told.value)


def test_overrides_are_told_together() -> None:
    with pytest.raises(SlipsError) as told:
        load_recipe(None, ["epochs", "seed=[1", "data.train=c.txt"])
    _matched(list(told.value.each), ["an override is key=value", "'[1' is not a YAML value"])


def test_data_models_and_tables_are_told_together(cli, tiny_encoder, tiny_t5, tmp_path):
    """Through a dry run, a run and Python."""
    rows = tiny.write_jsonl(tmp_path / "c.jsonl", [{"source": text} for text in tiny.sentences(8)])
    values = {
        "data": {"train": str(rows), "val": str(rows)},
        "language_model": str(tmp_path),
        "captions": "multiple",
        "adapter": "shared",
        "training": {"metric_for_best": "cidr"},
    }
    told = [
        "captions: multiple needs rows that share a 'group'; none do",
        "0 groups have two texts or more",
        f"language model '{tmp_path}'",
        "unknown training.metric_for_best 'cidr': did you mean 'cider'?",
    ]
    (tmp_path / "r.yaml").write_text(json.dumps(values))
    for more in (["--dry-run"], []):
        ran = cli("train", tmp_path / "r.yaml", "--out", tmp_path / "run", *more)
        assert ran.code == 1
        _matched([line for line in ran.messages if line.startswith("error: ")], told)
    with pytest.raises(SlipsError) as error:
        train(Recipe.model_validate(values), tmp_path / "run")
    _matched(list(error.value.each), told)
    assert not (tmp_path / "run").exists()


def test_a_sweeps_mistakes_are_told_together(cli, tiny_encoder, tiny_t5, captions, tmp_path):
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    (tmp_path / "r.yaml").write_text(json.dumps({"data": {"train": str(captions)}, **models}))

    def told(*given: object) -> list[str]:
        ran = cli("sweep", tmp_path / "r.yaml", *given, "--no-image", "--out", tmp_path / "s")
        assert ran.code == 1
        return [line for line in ran.messages if line.startswith("error: ")]

    _matched(
        told("--test", "no.jsonl", "--select", "none.jsonl"), ["no.jsonl: no such file", "none.jsonl: no such file"]
    )
    _matched(
        told("--test", captions, "--adapter", "ridge", "--adapter", "mean_shift"),
        ["arm 'ridge': ", "arm 'mean_shift': "],
    )
    alone = tmp_path / "alone.txt"
    alone.write_text("a red dog\na blue cat\n")
    given = [
        "training.max_steps=9",
        "--vary",
        "training.epochs=2,8",
        "--select",
        alone,
        "--select-image",
        tiny.__file__,
    ]
    steps = "training.max_steps 9 says how long it is"
    expected = [f"arm 'none, epochs 2': {steps}", "to select by text, rows need"]  # what is alike is told of the first
    _matched(told(*given, "--adapter", "none"), expected)
    assert not (tmp_path / "s").exists()


def test_slips_are_gathered() -> None:
    slips = Slips()
    slips.tell()
    with slips.kept():
        raise MissingError("gone")
    with pytest.raises(MissingError, match="gone"):  # one alone is what it is
        slips.tell()
    for number in range(MOST + 3):
        with slips.kept():
            raise DataError(f"row {number}")
    with slips.kept():
        raise DataError("row 2")  # each is told once
    with pytest.raises(SlipsError) as told:
        slips.tell()
    assert told.value.each[:3] == ("gone", "row 0", "row 1")
    assert len(told.value.each) == MOST + 1
    assert told.value.each[-1] == "… and 4 more"
    assert isinstance(told.value, CloseError)
