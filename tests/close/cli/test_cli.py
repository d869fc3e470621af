"""The command line: every bad input is one line and an exit code, and leaves nothing half-written."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from close.cli.outputs import Told
from close.errors import PartialError
from close.vectors.table import EmbeddingTable

MODULE = [sys.executable, "-m", "close"]


@pytest.fixture
def place(tmp_path: Path, captions: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with captions and a recipe, whose content must be as before after an error."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(captions, tmp_path / "captions.jsonl")
    return tmp_path


@pytest.fixture
def recipe_file(place: Path, tiny_encoder: Path, tiny_t5: Path) -> Path:
    training = "{epochs: 2, batch_size: 16, learning_rate: 1.0e-2}"
    text = (
        f"data: {{train: captions.jsonl}}\nencoder: {tiny_encoder}\nlanguage_model: {tiny_t5}\ntraining: {training}\n"
    )
    (place / "recipe.yaml").write_text(text)
    return place / "recipe.yaml"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_version_is_the_package_s(cli):
    ran = cli("--version")
    assert (ran.code, ran.out) == (0, f"close {version('close-toolkit')}\n"), ran


def test_what_the_package_logs_of_a_fault_says_where_it_lies(capfd):
    from close.cli import _notes

    with _notes():
        try:
            {}["gone"]
        except KeyError:
            logging.getLogger("close.serve.gate").exception("POST /v1/caption failed")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "note: POST /v1/caption failed"
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "KeyError: 'gone'"


class TestJob:
    """The main job through files and commands."""

    def test_from_captions_to_scores(self, cli, recipe_file, place, pictures, tiny_encoder):
        ran = cli(
            "embed", "text", "captions.jsonl", "--encoder", tiny_encoder, "--out", "table", "--export", "out/t.npy"
        )
        assert ran.code == 0, ran
        assert "48 rows, 48 distinct text vectors × 16" in ran.out
        assert np.load("out/t.npy").shape == (48, 16)
        ran = cli("train", "recipe.yaml", "data.embeddings=table", "training.epochs=1", "--out", "runs/a")
        assert (ran.code, ran.out) == (0, "runs/a\n"), ran
        ran = cli("caption", "runs/a", pictures, pictures / "p00.png", "--json", "--num-beams", "2")
        assert ran.code == 0, ran
        said = [json.loads(line) for line in ran.out.splitlines()]
        assert len(said) == 13
        assert all(set(line) == {"text", "score", "item", "error"} for line in said)
        plain = cli("caption", "runs/a", pictures / "p03.png", "--num-beams", "2").out.rstrip("\n").split("\t")
        assert plain == [said[3]["item"], f"{said[3]['score']:.3f}", said[3]["text"]]
        rows = [row | {"image": str(pictures / f"p{i:02}.png")} for i, row in enumerate(tiny.caption_rows(12))]
        tiny.write_jsonl(place / "eval.jsonl", rows)
        for modality in ("image", "text"):
            ran = cli("evaluate", "runs/a", "eval.jsonl", "--modality", modality, "--out", f"out/{modality}.json")
            assert ran.code == 0, ran
            scores = json.loads((place / "out" / f"{modality}.json").read_text())["scores"]
            assert scores["cider"] >= 0
            assert len((place / f"runs/a/evaluations/eval-{modality}/predictions.jsonl").read_text().splitlines()) == 12
        ran = cli("embed", "images", pictures, "--encoder", tiny_encoder, "--out", "images")
        assert ran.code == 0, ran
        assert len(EmbeddingTable("images")) == 12
        for thing, kind in (("table", "embedding table"), ("runs/a", "run"), (tiny_encoder, "encoder")):
            about = json.loads(cli("info", thing, "--json").out)
            assert (about["kind"], about["whole"]) == (kind, True)
            assert kind in cli("info", thing).out

    def test_sampling_has_a_seed(self, cli, run, pictures):
        command = ("caption", run, pictures, "--sample", "--temperature", "5.0", "--seed")
        assert cli(*command, 1).out == cli(*command, 1).out
        assert cli(*command, 1).out != cli(*command, 2).out

    def test_mini_export(self, cli, place):
        ran = cli("mini", "export", "--out", "world", "--split", "test", "--count", "3", "--seed", "5")
        assert ran.code == 0, ran
        assert {"images", "captions.jsonl", "eval.jsonl", "vqa.jsonl", "entailment.jsonl"} <= names(place / "world")


BAD_ROWS = [
    ("gone.jsonl", None, "gone.jsonl: no such file"),
    ("empty.jsonl", "", "empty.jsonl: the file is empty"),
    ("c.jsonl", '{"source": "a"}\n{"source": "b"}\n{"sour', "c.jsonl:3: not JSON"),
    ("c.jsonl", '{"source": "a"}\n{"target": "b"}\n', "c.jsonl:2: missing key 'source'"),
    ("c.jsonl", '{"source": "a"}\n{"source": 7}\n', "c.jsonl:2: 'source' is 7, expected a string"),
    ("c.jsonl", '{"source": "a"}\n{"source": ""}\n', "c.jsonl:2: 'source' is an empty text; close convert jsonl"),
    ("c.jsonl", '{"source": "a"}\n{"sorce": "b"}\n', "c.jsonl:2: unknown key 'sorce': did you mean 'source'?"),
    ("c.csv", "a,b\n1,2\n", "c.csv:1: no column of captions"),
    ("c.xml", "<a/>", "c.xml: rows are read from .jsonl, .txt, .csv"),
]


@pytest.mark.parametrize(
    ("name", "content", "words"), BAD_ROWS, ids=[f"{i}-{row[0]}" for i, row in enumerate(BAD_ROWS)]
)
@pytest.mark.parametrize("verb", ["embed", "train", "evaluate"])
def test_bad_rows(told, place, recipe_file, run, tiny_encoder, verb, name, content, words):
    if content is not None:
        (place / name).write_text(content)
    before, saved = names(place), names(run)
    arguments = {
        "embed": ("embed", "text", name, "--encoder", tiny_encoder, "--out", "new/t"),
        "train": ("train", "recipe.yaml", f"data.train={name}", "--out", "new/r"),
        "evaluate": ("evaluate", run, name, "--out", "new/s.json"),
    }
    assert words in told(*arguments[verb])
    assert names(place) == before
    assert names(run) == saved


class TestEmbed:
    """close embed."""

    def test_unreadable_images_are_named_and_the_others_embedded(self, told, place, pictures, tiny_encoder):
        folder = shutil.copytree(pictures, place / "images")
        (folder / "bad.png").write_text("no picture")
        message = told("embed", "images", "images", "--encoder", tiny_encoder, "--out", "t")
        assert "1 images could not be read and are left out" in message
        assert "images/bad.png" in message
        assert len(EmbeddingTable("t")) == 12

    def test_what_is_no_picture_folder(self, told, place, tiny_encoder):
        before = names(place)
        assert "gone: no such file or folder" in told(
            "embed", "images", "gone", "--encoder", tiny_encoder, "--out", "t"
        )
        assert "no image in it" in told("embed", "images", ".", "--encoder", tiny_encoder, "--out", "t")
        assert "no image in it" in told("embed", "images", "captions.jsonl", "--encoder", tiny_encoder, "--out", "t")
        assert names(place) == before

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--encoder", "mimi"], "did you mean 'mini'?"),
            (["--encoder", "open_clip:ViT-L14/openai"], "did you mean 'ViT-L-14'?"),
            (["--encoder", "gone/away"], "gone/away: no such directory"),
            (["--encoder", "hf:gone/away"], "gone/away"),
            (["--encoder", "."], "none of config.json, modules.json, open_clip_config.json is in that directory"),
            (["--device", "gpu"], "device 'gpu' can't be used"),
        ],
        ids=str,
    )
    def test_options(self, told, place, tiny_encoder, options, words):
        before = names(place)
        given = [] if "--encoder" in options else ["--encoder", tiny_encoder]
        assert words in told("embed", "text", "captions.jsonl", *given, *options, "--out", "t")
        assert names(place) == before

    def test_output_that_holds_something_else(self, told, cli, place, tiny_encoder):
        command = ("embed", "text", "captions.jsonl", "--encoder", tiny_encoder, "--out", "t")
        assert cli(*command).code == 0
        assert cli(*command).code == 0  # the same table is whole already
        before = {path: path.read_bytes() for path in (place / "t").iterdir()}
        (place / "other.txt").write_text("a dog\n")
        message = told("embed", "text", "other.txt", "--encoder", tiny_encoder, "--out", "t")
        assert "t holds something else" in message
        assert before == {path: path.read_bytes() for path in (place / "t").iterdir()}

    def test_an_output_that_can_not_be_made(self, told, place, tiny_encoder):
        (place / "file").touch()
        assert "file" in told("embed", "text", "captions.jsonl", "--encoder", tiny_encoder, "--out", "file/t")


def test_an_empty_argument_is_not_the_working_directory(refused, run):
    for arguments in (("caption", run, ""), ("caption", "", "a.png"), ("info", "")):
        assert "an argument is empty" in refused(*arguments)


class TestTrain:
    """close train."""

    @pytest.mark.parametrize("verb", ["train", "sweep"])
    def test_keys_that_are_given_as_options(self, refused, recipe_file, verb):
        assert "as training.epochs=…" in " ".join(refused(verb, "recipe.yaml", "--epochs", 3).split())
        assert "as training.warmup_steps=5" in " ".join(refused(verb, "recipe.yaml", "--warmup-steps=5").split())
        assert "it is --out here" in refused(verb, "recipe.yaml", "--output-dir", "r")
        assert "does nothing here: close train trains" in refused(verb, "recipe.yaml", "--do-train")
        resumed = refused(verb, "recipe.yaml", "--resume-from-checkpoint", "r").replace("│", "")
        assert ("it is --resume here" if verb == "train" else "o such option: --resume-from-checkpoint") in resumed
        assert "o such option: --rate" in refused(verb, "recipe.yaml", "--rate", 1).replace("│", "")

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            (["encodr=mini"], "recipe.yaml: unknown key 'encodr': did you mean 'encoder'?"),
            (["training.epoch=3"], "unknown key 'epoch': did you mean 'epochs'?"),
            (["adapter=gausian"], "unknown adapter 'gausian': did you mean 'gaussian'?"),
            (["task=captoin"], "unknown task 'captoin': did you mean 'caption'?"),
            (["encoder=mimi"], "did you mean 'mini'?"),
            (["language_model=gone/away"], "language model 'gone/away'"),
            (["data.val=gone.jsonl"], "gone.jsonl: no such file"),
            (["data.embeddings=gone"], "gone: no embedding table there"),
            (["training.optim=adamw"], "training: "),
            (["training.report_to=wandb"], "wandb"),
            (["train_on=image"], "row 'r0' has no 'image'"),
            (["captions=multiple", "data.train=plain.txt"], "share a 'group'"),
            (["task=vqa"], "needs 'context'"),
            (["seed=x"], "seed: "),
            (["epochs"], "an override is key=value"),
        ],
        ids=str,
    )
    def test_recipes(self, told, place, recipe_file, overrides, words):
        (place / "plain.txt").write_text("a dog\na cat\n")
        before = names(place)
        assert words in told("train", "recipe.yaml", *overrides, "--out", "new/run")
        assert names(place) == before

    def test_recipe_files(self, told, place):
        assert "recipe gone.yaml: no such file" in told("train", "gone.yaml")
        (place / "r.yaml").write_text("a: [")
        assert "r.yaml: not YAML" in told("train", "r.yaml")

    def test_stopped_while_it_replaces_a_run(self, cli, place, recipe_file, monkeypatch):
        def stopped(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("close.training.train.train", stopped)
        (place / "r" / "checkpoints").mkdir(parents=True)
        (place / "r" / "checkpoints" / "started.json").write_text("{}")
        told = cli("train", "recipe.yaml", "--out", "r", "--overwrite").err
        assert "the same command with --resume in place of --overwrite begins anew" in told
        assert "with --resume begins anew" in cli("train", "recipe.yaml", "--out", "r").err

    def test_output_that_holds_another_run(self, told, cli, place, recipe_file):
        assert cli("train", "recipe.yaml", "--out", "r").code == 0
        before = {path: path.read_bytes() for path in (place / "r").iterdir()}
        assert "already holds a run" in told("train", "recipe.yaml", "--out", "r")
        differs = told("train", "recipe.yaml", "seed=1", "--out", "r", "--resume")
        assert "another recipe (seed: 0 there, 1 here)" in differs
        assert "init_from=r begins from" in differs
        assert "captions.jsonl" in told("train", "recipe.yaml", "--out", "captions.jsonl")
        assert ". exists and is no run" in told("train", "recipe.yaml", "--out", ".", "--overwrite")
        assert before == {path: path.read_bytes() for path in (place / "r").iterdir()}
        assert not cli("train", "recipe.yaml", "--out", "r", "--resume").err.count("nothing to resume")
        assert "s is not there: nothing to resume" in cli("train", "recipe.yaml", "--out", "s", "--resume").err
        assert cli("train", "recipe.yaml", "seed=1", "--out", "r", "--overwrite").code == 0

    def test_a_table_of_another_encoder(self, told, place, recipe_file, tiny_encoder):
        EmbeddingTable.from_numpy(np.eye(8), "t", encoder="other", fingerprint="0" * 32)
        message = told("train", "recipe.yaml", "data.embeddings=t", "--out", "r")
        assert "'other'" in message
        assert str(tiny_encoder) in message


def test_what_a_conversion_leaves_out_is_listed_and_counted(cli, place):
    (place / "t.csv").write_text("file,caption\nthere.jpg,a dog\n" + "gone.jpg,a cat\n" * 13)
    (place / "there.jpg").touch()
    ran = cli("convert", "csv", "t.csv", "t.jsonl", "--images", place, "--skip-errors")
    assert ran.out == "t.jsonl: 1 rows of 14 records; skipped 13 × wrong\n"
    assert [line for line in ran.messages if line.startswith("skipped")][10:] == ["skipped: … and 3 more"]


class TestCaption:
    """close caption."""

    def test_texts_that_say_nothing_and_errors_that_are_not_listed_are_counted(self, capsys):
        told = Told()
        rows = [{"text": "a dog"}, {"text": ""}, {"text": "", "left_out": True}]
        for row in [*rows, *({"text": "", "error": f"{number}.jpg: broken"} for number in range(7))]:
            told.note(row)
        with pytest.raises(PartialError, match=r"^7 of 10 items .*; 4\.jpg: broken; … and 2 more$"):
            told.finish(10, None, 0.5, None)
        assert "note: 1 of 3 texts are empty" in capsys.readouterr().err

    def test_one_bad_picture_of_three(self, cli, run, place, pictures):
        (place / "bad.png").write_text("no picture")
        ran = cli("caption", run, pictures / "p00.png", "bad.png", "gone.png", pictures / "p01.png", "--json")
        assert ran.code == 1
        assert "2 of 4 items could not be read: " in ran.messages[0]
        assert "bad.png" in ran.messages[0]
        assert "gone.png" in ran.messages[0]
        assert len(ran.messages) == 1
        said = [json.loads(line) for line in ran.out.splitlines()]
        assert [line["error"] is None for line in said] == [True, False, False, True]
        assert [line["score"] is None for line in said] == [False, True, True, False]
        assert len(cli("caption", run, pictures / "p00.png", "bad.png").out.splitlines()) == 1

    def test_what_is_no_run(self, told, place, pictures):
        picture = pictures / "p00.png"
        assert "gone: no run there" in told("caption", "gone", picture)
        (place / "r").mkdir()
        (place / "r" / "recipe.yaml").touch()
        assert "not finished; continue it with `close train … --resume`" in told("caption", "r", picture)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
    def test_a_damaged_run(self, told, run, place, pictures, name):
        copy = shutil.copytree(run, place / "r")
        (copy / name).write_bytes((copy / name).read_bytes()[:60])
        message = told("caption", "r", pictures / "p00.png")
        assert message.startswith("error: r")

    def test_an_encoder_that_has_gone_or_is_another(self, told, cli, run, place, pictures, tiny_encoder):
        copy = shutil.copytree(run, place / "r")
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"encoder": "/gone/away"}))
        assert "/gone/away: no such directory" in told("caption", "r", pictures / "p00.png")
        assert cli("caption", "r", pictures / "p00.png", "--encoder", tiny_encoder).code == 0
        other = tiny.open_clip_dir(place / "other", seed=1)
        message = told("caption", "r", pictures / "p00.png", "--encoder", other)
        assert "'/gone/away'" in message
        assert f"'{other}'" in message

    def test_folders_without_pictures(self, told, run, place):
        (place / "empty").mkdir()
        assert "empty: no file in this folder ends in .jpg" in told("caption", run, "empty")


class TestEvaluate:
    """close evaluate."""

    def test_rows_without_what_is_needed(self, told, refused, run, place, pictures):
        saved = names(run)
        assert "no image in it" in told("evaluate", run, "captions.jsonl")
        (place / "c.jsonl").write_text('{"id": "a", "image": "gone.png", "references": ["a dog"]}\n')
        assert "gone.png" in told("evaluate", run, "c.jsonl")
        assert "'source'" in told("evaluate", run, "c.jsonl", "--modality", "text")
        assert "'audio'" in refused("evaluate", run, "captions.jsonl", "--modality", "audio")
        assert "did you mean 'caption'" in told("evaluate", run, "captions.jsonl", "--task", "captoin")
        assert names(run) == saved


def test_arguments_that_are_given_by_name(refused):
    assert "without its name" in refused("evaluate", "--run", "r", "--data", "d.jsonl")
    assert "without its name" in refused("match-length", "r", "--photos=p")
    assert "without a name, after the run" in refused("caption", "r", "--image", "p")


CHOICES = [
    (("embed", "text", "a.txt", "--out", "t", "--precision", "fp8"), "'auto', 'fp32', 'bf16', 'fp16'"),
    (("caption", "run", "a.png", "--engine", "rya"), "'local', 'ray'"),
    (("evaluate", "run", "a.jsonl", "--decode", "forest"), "'tree', 'score', 'free'"),
    (("evaluate", "run", "a.jsonl", "--tokenizer", "perl"), "'auto', 'java', 'python'"),
    (("score", "a.json", "b.json", "--task", "captions"), "'caption', 'vqa', 'entailment'"),
    (("recommend", "--text", "t", "--captions", "many"), "'single', 'multiple'"),
    (("convert", "coco", "a.json", "b.jsonl", "--per", "picture"), "'caption', 'image'"),
]


@pytest.mark.parametrize(("command", "choices"), CHOICES, ids=[" ".join(c[:1]) + c[-2] for c, _ in CHOICES])
def test_choices_are_told_before_any_work(refused, cli, command, choices):
    said = refused(*command)
    assert choices in said
    assert "Value error" not in said
    words = choices.replace("'", "").replace(", ", "|")
    assert words in "".join(cli(command[0], *(["text"] if command[0] == "embed" else []), "--help").out.split())


VERBS = (
    "embed text|embed images|embed vectors|info|mini export|init|train|sweep|demo|caption|evaluate|score|compare|adapters|"
    "adapter fit|gap|recommend|convert|classify|retrieve"
)


@pytest.mark.parametrize("verb", VERBS.split("|"))
def test_every_verb_prints_json_and_takes_plugins(cli, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "200")
    shown = cli(*verb.split(), "--help")
    assert shown.code == 0
    assert "--json" in shown.out
    assert "--plugin" in shown.out


def test_only_a_full_disk_is_called_full():
    from close.cli import _disk_full

    def caused(error, cause):
        error.__cause__ = cause
        return error

    assert _disk_full(OSError(28, "No space left on device")) == ""
    assert _disk_full(RuntimeError("I/O error: File too large (os error 27)")) == ""
    assert _disk_full(caused(ValueError("a file"), OSError(122, "Disk quota exceeded"))) == ""
    assert "PytorchStreamWriter" in _disk_full(
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    )
    for other in (
        ValueError("No space left in the vocabulary"),
        RuntimeError("inline_container.cc"),
        OSError(2, "no"),
        TypeError(),
    ):
        assert _disk_full(other) is None


def test_a_lock_of_anothers_cache_names_the_way_out(tmp_path, monkeypatch):
    from close.cli import _by_the_system

    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path))
    (tmp_path / "one.lock").touch()
    told = _by_the_system(PermissionError(13, "Permission denied", str(tmp_path / "one.lock")))
    way = "set CLOSE_CACHE to a folder that may be written to"
    assert told == f"{tmp_path}: may not be written to (Permission denied); {way}"


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder here that not even root may write to")
def test_where_nothing_may_be_written(told, captions, tmp_path, monkeypatch):
    said = told("convert", "lines", captions, "/sys/kernel/made/rows.jsonl")
    assert said.startswith("error: /sys/kernel: may not be written to (")
    assert said.endswith("); choose another place to write to")
    monkeypatch.setenv("CLOSE_CACHE", "/sys/kernel/cache")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {{train: {captions}}}\n")
    assert told("train", recipe, "--out", tmp_path / "run").endswith(
        "set CLOSE_CACHE to a folder that may be written to"
    )


class TestOthers:
    """close info, close mini."""

    def test_what_is_installed(self, cli, monkeypatch):
        fast = json.loads(cli("info", "--json").out)["fast"]
        assert all(found["on"] == (found["reason"] is None) for found in fast.values())
        monkeypatch.setenv("CLOSE_FAST", "0")
        fast = json.loads(cli("info", "--json").out)["fast"]
        assert {found["reason"] for found in fast.values()} == {"turned off by CLOSE_FAST=0"}

    def test_info(self, told, place):
        assert "did you mean 'mini'" in told("info", "mimi")
        assert "captions.jsonl is a file" in told("info", "captions.jsonl")

    def test_mini_export(self, told, refused, place):
        assert "captions.jsonl exists; choose another" in told("mini", "export", "--out", "captions.jsonl")
        assert "'trian'" in refused("mini", "export", "--out", "world", "--split", "trian")
        assert not (place / "world").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["embd"],
        ["embed"],
        ["embed", "text"],
        ["embed", "text", "a.txt"],
        ["embed", "text", "a.txt", "--out", "t", "--batch-size", "0"],
        ["embed", "text", "a.txt", "--out", "t", "--batch-size", "many"],
        ["train"],
        ["train", "r.yaml", "--resum"],
        ["caption", "run"],
        ["caption", "run", "a.png", "--num-beams", "0"],
        ["mini", "export", "--out", "w", "--count", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage(cli, place, arguments):
    ran = cli(*arguments)
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert names(place) == {"captions.jsonl"}


def command(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*MODULE, *map(str, arguments)], env=environment, **pipes, **options)


class TestProcess:
    """As a process of its own."""

    def test_help_loads_no_torch(self, place):
        code = (
            "import sys; sys.argv = ['close', '--help']\nfrom close.cli import main\n"
            "try: main()\nfinally: print('torch' in sys.modules, 'transformers' in sys.modules)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
        )
        assert ran.stdout.rstrip().endswith("False False")

    def test_interrupted_and_continued(self, place, recipe_file, cli):
        more = ("training.epochs=4000", "training.save_strategy=steps", "training.save_steps=10")
        process = command("train", "recipe.yaml", *more, "--out", "r")
        for _ in range(1200):
            if list((place / "r").glob("checkpoints/checkpoint-*/manifest.json")) or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 130, err
        *_, told, last = err.rstrip().splitlines()
        assert last == "interrupted; what is finished is kept"
        assert told.startswith("r: the same command with --resume goes on from step ")
        assert "Traceback" not in err
        ran = cli("info", "r")
        assert "False" in ran.out  # not whole
        assert "continue it with" in ran.out

    def test_a_pipe_that_closes(self, place, run, pictures):
        process = command("caption", run, *sorted(pictures.iterdir()) * 3, "--batch-size", "1")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in (process.stderr.read() if process.stderr else "")
        assert process.wait() in (0, 1)


class TestDiskFull:
    """A full disk is told, and nothing is lost."""

    @pytest.fixture
    def limited(self) -> Iterator[Callable[[int], None]]:
        """Lets files of this process grow to so many bytes only."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    @pytest.mark.parametrize("size", [500, 2_000])
    def test_embed(self, cli, place, tiny_encoder, limited, size):
        command = ("embed", "text", "captions.jsonl", "--encoder", tiny_encoder, "--out")
        assert cli(*command, "whole").code == 0
        limited(size)
        ran = cli(*command, "t")
        limited(resource.RLIM_INFINITY)
        assert ran.code == 1
        assert ran.messages == [
            "error: writing failed, the disk is full; free some space, and continue as after an interruption"
        ]
        assert not (place / "t").exists()
        assert cli(*command, "t").code == 0
        files = {path.name: path.read_bytes() for path in (place / "t").iterdir()}
        assert files == {path.name: path.read_bytes() for path in (place / "whole").iterdir()}

    @pytest.mark.parametrize("size", [2_000, 20_000, 60_000])
    def test_train(self, cli, place, recipe_file, limited, size):
        assert cli("train", "recipe.yaml", "--out", "whole").code == 0
        limited(size)
        ran = cli("train", "recipe.yaml", "--out", "r")
        limited(resource.RLIM_INFINITY)
        assert ran.code == 1
        assert ran.messages[-1].startswith("error: writing failed, the disk is full")
        assert "Traceback" not in ran.err
        assert not (place / "r" / "run.json").exists()
        assert cli("train", "recipe.yaml", "--out", "r", "--resume").code == 0
        name = "model.safetensors"
        assert (place / "r" / name).read_bytes() == (place / "whole" / name).read_bytes()

    def test_a_disk_that_is_really_full(self, cli, place, tiny_encoder):
        (place / "disk").mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16k", "none", place / "disk"], capture_output=True
        )
        if mounted.returncode:
            pytest.skip("no small disk can be mounted here")
        try:
            ran = cli("embed", "text", "captions.jsonl", "--encoder", tiny_encoder, "--out", "disk/t")
            assert ran.code == 1
            assert ran.messages[0].startswith("error: writing failed, the disk is full")
        finally:
            subprocess.run(["umount", place / "disk"], check=True)


def test_rows_are_no_pictures(refused, tmp_path):
    assert "rows.jsonl holds rows: close evaluate" in refused("caption", tmp_path, "rows.jsonl")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("p.png", "--seed", "3"), "--seed: it goes with --sample"),
        (("--vectors", "V", "--frames", "3"), "--frames: it is about pictures; a table knows its items"),
        (("p.png", "--out", "F", "--json"), "--json: F takes the lines: leave one of the two out"),
        (("p.png", "--workers", "8"), "--workers: it goes with --engine ray"),
        (("p.png", "--address", "auto"), "--address: it goes with --engine ray"),
    ],
)
def test_options_that_would_change_nothing(refused, tmp_path, given, said):
    assert said in refused("caption", tmp_path, *given)


@pytest.mark.parametrize("thing", [(), ("mini",)], ids=str)
def test_tables_alone_are_verified(refused, thing):
    assert "--verify: it goes with an embedding table; this is: " in refused("info", *thing, "--verify")


@pytest.mark.parametrize(
    "command",
    [
        ("score", "a.json", "b.json", "--task", "caption", "--out", "a.json"),
        ("score", "a.json", "b.json", "--task", "caption", "--out", "link.json"),
        ("compare", "a.json", "b.json", "--task", "caption", "--out", "b.json"),
        ("compare", "a.json", "b.json", "--task", "caption", "--html", "a.json"),
        ("report", "a.json", "--references", "b.json", "--task", "caption", "--out", "b.json"),
        ("evaluate", "run", "b.json", "--out", "b.json"),
        ("gap", "--text", "a.json", "--image", "b.json", "--html", "a.json"),
        ("embed", "text", "a.json", "--out", "t", "--export", "a.json"),
        ("embed", "images", "a.json", "--out", "t", "--export", "a.json"),
        ("caption", "run", "a.json", "--html", "a.json"),
        ("caption", "run", "--vectors", "a.json", "--out", "link.json"),
    ],
    ids=" ".join,
)
def test_what_is_read_is_not_replaced(told, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "link.json").symlink_to("a.json")
    assert told(*command).endswith(f"{command[-1]} is read here, and would be replaced; give another output")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text() == "[]"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--top-p", "0.9"), "top_p says how a text is drawn, and it is searched for: draw (--sample"),
        (("--length-penalty", "2", "--num-beams", "1"), "length_penalty ranks beams, and there is one"),
        (("--length-penalty", "2", "--sample"), "length_penalty ranks beams, and there is one"),
    ],
)
def test_settings_that_would_change_nothing(told, run, tmp_path, given, said):
    assert said in told("caption", run, "p.png", "--out", tmp_path / "out.jsonl", *given)
    assert not list(tmp_path.iterdir())
