"""`close train --dry-run`: what training would take, which is what it then takes, and nothing is written."""

import json

import pytest
import tiny

from close.io.keys import cache_folder
from close.training.plan import plan
from close.training.train import train


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("training", "changes"),
    [
        ({"epochs": 2, "batch_size": 10, "gradient_accumulation_steps": 2}, {}),
        ({"epochs": 1.5, "batch_size": 10, "dataloader_drop_last": True}, {"captions": "multiple"}),
        ({"max_steps": 3, "epochs": 2}, {"task": [("caption", 0.5), ("news", 1.25)], "data": {}}),
    ],
)
def test_a_plan_is_what_is_done(recipe, captions, tmp_path, training, changes):
    if "task" in changes:
        news = [row | {"context": "a report", "target": "it says so"} for row in tiny.caption_rows(20)]
        files = {"caption": captions, "news": tiny.write_jsonl(tmp_path / "news.jsonl", news)}
        parts = [{"task": name, "train": str(files[name]), "weight": weight} for name, weight in changes["task"]]
        changes = changes | {"task": parts}
    given = recipe({"save_strategy": "no", "logging_strategy": "no"} | training, **changes)
    planned = plan(given, tmp_path / "run")
    assert [part["embedded"] for part in planned["data"]] == [False] * len(given.parts())
    assert not (tmp_path / "run").exists()
    assert not (cache_folder() / "embeddings").exists()
    train(given, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (planned["steps"], planned["state"]) == (about["steps"], "to be trained")
    examples = [(part["examples"], part["rows"]) for part in planned["data"]]
    assert examples == [(part["examples"], part["rows"]) for part in about["train"]]
    again = plan(given, tmp_path / "run", resume=True)
    assert again["state"] == "finished"
    assert all(part["embedded"] for part in again["data"])


def test_a_dry_run(cli, told, recipe, captions, tmp_path):
    val = tiny.write_jsonl(tmp_path / "val.jsonl", tiny.caption_rows(4))
    values = recipe(data={"train": str(captions), "val": str(val)}).dump()
    (tmp_path / "r.yaml").write_text(json.dumps(values))
    out = tmp_path / "runs" / "one"
    assert cli("train", tmp_path / "r.yaml", "--out", out, "--dry-run").out.splitlines() == [
        f"{captions}: 48 rows for caption, 48 examples; 48 vectors, to be embedded by {values['encoder']}",
        f"{val}: 4 rows for caption, 4 examples to watch; 4 vectors, to be embedded by {values['encoder']}",
        "48 examples an epoch, 16 a step: 3 steps an epoch, 6 in all",
        f"{out}: to be trained",
    ]
    assert not out.parent.exists()
    ran = cli("train", tmp_path / "r.yaml", "training.max_steps=1", "--out", out, "--dry-run", "--json")
    assert json.loads(ran.out)["steps"] == 1
    line = told("train", tmp_path / "r.yaml", f"data.embeddings={tmp_path}", "--out", out, "--dry-run")
    assert f"{tmp_path}: no embedding table there" in line
    out.mkdir(parents=True)
    (out / "other").touch()
    assert "exists and is no run" in told("train", tmp_path / "r.yaml", "--out", out, "--dry-run")
