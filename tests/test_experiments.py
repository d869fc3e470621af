"""Experiments that take hours, in small: that they run, go on where they were stopped, and record what they say they do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIZES = ("--steps", "1", "--scenes", "20", "--test-scenes", "2")
TWO = ("warm-up 0", "warm-up 50")


def made(name: str, folder: Path, *more: str, seeds: tuple[str, ...] = ("0",), script: str = "run.py") -> dict:
    """The record of an experiment, which is the same when it is only written down again, from the runs or from itself."""
    file, out = ROOT / "experiments" / name / script, folder / "results.json"
    variables = os.environ | {"CLOSE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def run(*own: str) -> tuple[str, dict]:
        command = [sys.executable, file, *SIZES, "--seeds", *seeds, *more, "--out", out, *own]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(out.read_text())

    table, record = run("--work", folder / "work")
    assert record["code"]["training"] not in ("", "unknown")
    out.unlink()
    for work in (folder / "work", folder / "elsewhere"):
        again, found = run("--work", work, "--record")
        assert again == table
        assert found["runs"] == record["runs"]
        assert found["code"] == record["code"]
    return record


def test_conclusions(tmp_path):
    record = made("conclusions", tmp_path, "--settings", "as it is", "twice the steps")
    assert [len(record["runs"][group]) for group in ("trials", "as it is", "twice the steps")] == [14, 8, 8]
    assert len(record["curves"]["none"]) == 5
    for scores in (*record["claims"].values(), *record["claims_told_alike"].values()):
        assert set(scores) == {"cider", "attribute_accuracy"}
        assert scores["cider"]["settings"] == ["as it is", "twice the steps"]
    assert {len(one["settings"]) for one in record["primary"].values()} == {2}
    assert record["confirmed"] == {}  # of a seed that is not here
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


def test_a_kept_run_is_of_its_recipe_and_its_data(tmp_path, monkeypatch):
    """What a record says of a title is not taken for another recipe, other rows, or another look."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    import lab as lab_module

    options = [*SIZES, "--out", str(tmp_path / "r.json"), "--work"]
    parser = lab_module.parser("", str(ROOT / "experiments" / "any" / "run.py"))
    here = lab_module.Lab(parser.parse_args([*options, str(tmp_path / "here")]))
    there = lab_module.Lab(parser.parse_args([*options, str(tmp_path / "there"), "--record"]))

    def run(lab, changes, train="train", test="test"):
        looks = {"image": {"data": lab.data(test) / "eval.jsonl"}}
        base = lab.recipe(lab.data(train) / "captions.jsonl", encoder="mini", language_model="mini")
        return lab.run("group", "title", 0, base, changes, looks)

    made = run(here, {"adapter": [lab_module.noise(0.5)]})
    there.kept = {"runs": {"group": {"title": [made]}}}
    assert run(there, {"adapter": [lab_module.noise(0.5)]}) == made
    assert run(there, {"adapter": [lab_module.noise(0.6)]}) is None
    assert run(there, {"adapter": [lab_module.noise(0.5)]}, train="val") is None
    assert run(there, {"adapter": [lab_module.noise(0.5)]}, test="val") is None


def test_again(tmp_path):
    """One code makes the same numbers twice, and a difference is told where it is."""
    script = ROOT / "experiments" / "again" / "canary.py"
    small = ("--steps", "5", "--scenes", "30", "--test-scenes", "2", "--only", "neighbours", "vqa")
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    told = []
    for name in ("one", "two"):
        command = [sys.executable, script, tmp_path / name, *small]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    assert set(told[0]) == {"neighbours", "vqa"}
    spec = importlib.util.spec_from_file_location("again", script.with_name("run.py"))
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    same = again.compared(*told)
    assert [same[part]["same"] for part in ("training", "scoring")] == [True, True]
    told[1]["vqa"]["weights"] = "others"
    told[1]["neighbours"]["scores"]["cider"] = -1.0
    other = again.compared(*told)
    assert other == {
        "training": {"same": False, "differs": ["vqa"]},
        "scoring": {"same": False, "differs": ["neighbours: cider"]},
    }
    known = {"a": {"commit": "1", "same": True, "differs": []}, "b": {"commit": "2", "same": False, "differs": ["vqa"]}}
    before = {"today": {"training": "t", "scoring": "s"}, "codes": {"training": known, "scoring": {}}}
    assert again.carried(before, "3", same) == {
        "training": {"a": known["a"], "t": {"commit": "3", "same": True, "differs": []}},
        "scoring": {"s": {"commit": "3", "same": True, "differs": []}},
    }
    assert again.carried(before, "3", other)["training"] == {"t": {"commit": "3", "same": False, "differs": ["vqa"]}}


def test_noises_behind_shared(tmp_path):
    more = ("--only", "470 steps", "--scenes", "40")
    record = made("shared", tmp_path, *more, seeds=("0", "1"), script="noises.py")
    assert {length: len(table) for length, table in record["arms"].items()} == {"470 steps": 10}
    assert list(record["chosen"]["470 steps"]) == ["`shared`", "`shared` of 30 groups"]
    for by in record["chosen"]["470 steps"].values():
        assert set(by) == {"captions alone", "captions and unpaired pictures", "validation pictures"}
        assert all(len(one["brings"]["values"]) == len(one["arms"]) == 2 for one in by.values())


def test_best_checkpoints_of_shared(tmp_path):
    record = made("shared", tmp_path, script="stopping.py")
    held = ["the last", "the best by captions", "the best by unpaired pictures"]
    assert [list(table) for table in record["arms"].values()] == [held] * 4


@pytest.mark.parametrize(("sense", "arms"), [("pairs", 6), ("sound", 5), ("video", 6)])
def test_senses(tmp_path, sense, arms):
    record = made(f"senses/{sense}", tmp_path, seeds=("0", "1"))
    assert {setting: len(table) for setting, table in record["arms"].items()} == dict.fromkeys(TWO, arms)
    assert {len(runs) for table in record["runs"].values() for runs in table.values()} == {2}


def test_methods(tmp_path):
    record = made("methods", tmp_path, "--only", "none", "close", "ifcap", "images")
    assert len(record["runs"]["trials"]) == 8
    # its own domain as trained and told alike, the other told alike; of two domains
    assert len(record["table"]["close"]) == 6
    assert len(record["table"]["ifcap"]) == 8  # and others' texts as memory, from either side
    assert set(record["claims"]["noise brings text across"]) == {"of", "at", "cider", "attribute_accuracy"}


def test_language_models(tmp_path):
    record = made("language_models", tmp_path, "--only", "random", "pretrained", "--read", "30", "--read-steps", "1")
    assert {part: len(table) for part, table in record["parts"].items()} == {"random": 8, "pretrained": 18}
    assert set(record["models"]) == {"GPT-2-0", "GPT-2-read-30-1", "T5-0", "T5-read-30-1"}


def test_operations_are_counted_within_fused_attention_too(monkeypatch):
    """torch's counter passes over it: a tower of ViT-L/14 seemed to be two thirds of itself."""
    monkeypatch.syspath_prepend(str(ROOT))
    import torch

    from experiments.bench.floors import counted

    tokens, width, rows = 7, 16, 2
    given = torch.zeros(rows, tokens, width)
    attention = torch.nn.MultiheadAttention(width, 4, batch_first=True).eval()
    with torch.inference_mode():
        found = counted(lambda: attention(given, given, given, need_weights=False))
    assert found == rows * (8 * tokens * width**2 + 4 * tokens**2 * width)


def test_the_bench_of_accelerators(tmp_path):
    command = [sys.executable, "-m", "experiments.bench.gpu", "--size", "small", "--rounds", "1", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    exact = found["exactness"]
    assert all(exact[f"{name}_fp32"]["least_cosine"] == pytest.approx(1, abs=1e-5) for name in ("texts", "photos"))
    assert exact["t5_same_texts"] == exact["gpt2_same_texts"] == "16 of 16"
    rates = [found["text_embedding"], *found["photo_embedding"].values(), found["photos_to_captions"]]
    rates += [*found["captions_from_features"].values(), found["training_t5"], found["training_gpt2"]]
    assert all(0 < one["share_of_peak"] < 1 and one["batch"] in (8, 16) and one["a_second"] > 0 for one in rates)
    minutes = 414_113 * 8 / found["training_t5"]["a_second"] / 60
    assert found["training_t5"]["coco_minutes"] == pytest.approx(minutes, rel=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]


def test_a_batch_that_does_not_fit_ends_the_trial(monkeypatch):
    """Also where training tells it as an error of its own."""
    monkeypatch.syspath_prepend(str(ROOT))
    import torch

    from close.errors import RecipeError
    from experiments.bench.gpu import Bench

    bench = object.__new__(Bench)
    bench.device, bench.rounds, bench.unit = torch.device("cpu"), 2, "fp32"
    bench.machine, bench.batches = {"peak_gflops": {"fp32": 1000}}, (8, 64)

    def rate(size):
        if size > 16:
            raise RecipeError("no memory left") from torch.OutOfMemoryError("out of memory")
        return float(size)

    found = bench.by_trial(rate, 1e9)
    assert (found["batch"], list(found["tried"]), found["rounds"]) == (16, ["8", "16"], [16.0, 16.0])
    with pytest.raises(RecipeError, match="another"):
        bench.by_trial(lambda size: (_ for _ in ()).throw(RecipeError("another")), 1e9)
    with pytest.raises(SystemExit, match="a batch of 32 does not fit"):
        bench.by_trial(rate, 1e9, batches=(32, 64))


def test_the_bench_of_accelerators_asks_for_one(tmp_path):
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is one")
    command = [sys.executable, "-m", "experiments.bench.gpu", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no accelerator here" in done.stderr
    assert not list(tmp_path.iterdir())
