"""`close train --dry-run`: what training would take, which is what it then takes, and nothing is written."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from transformers import TrainerCallback

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import CloseError
from close.io.jobs import exclusively
from close.io.keys import cache_folder
from close.runs.recipe import load_recipe
from close.training.examples import LengthSampler
from close.training.plan import _steps, lines_of, plan
from close.training.train import train
from close.vectors.given import table_of_vectors
from close.vectors.table import EmbeddingTable


class Stop(TrainerCallback):
    """Ends training after its first step."""

    def on_step_end(self, *args, **kwargs):
        raise KeyboardInterrupt


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
    assert plan(given, tmp_path / "run", resume=True) == {"folder": str(tmp_path / "run"), "state": "finished"}
    again = plan(given, tmp_path / "run", overwrite=True)
    assert [(part["embedded"], part["vectors"]) for part in again["data"]] == [
        (True, part["vectors"]) for part in planned["data"]
    ]


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


def test_what_training_refuses_a_plan_refuses(recipe, captions, tiny_encoder, tmp_path):
    """In the same words, and whatever is embedded by then."""
    texts = tiny.caption_rows(8)
    asked = [row | {"answers": ["yes"], "context": "is it?"} for row in texts]
    mute = tiny.write_jsonl(tmp_path / "mute.jsonl", [*texts[:4], {"image": "a.png", "target": "a cat"}])
    blind = tiny.write_jsonl(tmp_path / "blind.jsonl", [{"source": "a cat", "target": "a cat"}])
    others = tmp_path / "others"
    EmbeddingTable.from_numpy(
        np.eye(16, dtype=np.float32), others, encoder=str(tiny_encoder), texts=list("abcdefghijklmnop")
    )
    wide = tmp_path / "wide.npy"
    np.save(wide, np.eye(9, dtype=np.float32))
    shift = {"mean_shift": {"fit": {"text": str(wide), "image": str(wide)}}}
    own = tiny.write_jsonl(tmp_path / "own.jsonl", texts)
    done, changed = recipe({"epochs": 1}, data={"train": str(own)}), tmp_path / "done"
    train(done, changed)
    tiny.write_jsonl(own, asked)
    train(recipe({"epochs": 1}), tmp_path / "there")
    for given, options, words in (
        (recipe(), {"resume": True, "overwrite": True}, "give one of them"),
        (recipe(), {"embed_memory": True}, "says 'retrieve'"),
        (recipe({"epochs": 3}), {"resume": True, "out": "there"}, "another recipe"),
        (recipe(), {"out": "there"}, "already holds a run"),
        (done, {"resume": True, "out": "done"}, "own.jsonl has changed since it was trained"),
        (recipe(data={"train": str(mute)}), {}, "mute.jsonl: row '.*' has no 'source' text"),
        (recipe(data={"train": str(blind)}, train_on="image"), {}, "blind.jsonl: row '.*' has no 'image'"),
        (recipe(data={"train": str(captions), "embeddings": str(others)}), {}, "is not in this table"),
        (
            recipe({"batch_size": 99, "dataloader_drop_last": True}),
            {},
            "no whole batch of 99, and there are 48 examples",
        ),
        (recipe(adapter=shift), {}, "has 9 columns"),
    ):
        place = tmp_path / options.pop("out", "run")
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        said = []
        for work in (plan, train):
            with pytest.raises(CloseError, match=words) as told:
                work(given, place, **options)
            said.append(str(told.value))
            if work is plan:
                assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert said[0] == said[1]


def test_a_finished_run_needs_nothing_any_more(recipe, captions, tmp_path):
    own = shutil.copy(captions, tmp_path / "own.jsonl")
    given = recipe({"max_steps": 1}, data={"train": str(own)})
    run = train(given, tmp_path / "run")
    (tmp_path / "own.jsonl").unlink()
    assert lines_of(plan(given, run, resume=True)) == f"{run}: finished"


def test_a_run_that_was_stopped_goes_on_as_it_began(recipe, captions, tmp_path):
    own = shutil.copy(captions, tmp_path / "own.jsonl")
    given = recipe({"max_steps": 2, "save_steps": 1}, data={"train": str(own)})
    with pytest.raises(KeyboardInterrupt):
        train(given, tmp_path / "run", callbacks=[Stop()])
    assert plan(given, tmp_path / "run", resume=True)["state"] == "stopped"
    with exclusively(tmp_path / "run", "is being trained"):
        assert plan(given, tmp_path / "run", resume=True)["state"] == "being trained"
    tiny.write_jsonl(tmp_path / "own.jsonl", tiny.caption_rows(48)[::-1])
    for work in (plan, train):
        with pytest.raises(CloseError, match=r"own\.jsonl has changed since the run began"):
            work(given, tmp_path / "run", resume=True)


def test_vectors_are_the_distinct_ones(recipe, pictures, tmp_path):
    names = sorted(pictures.iterdir())[:4]
    rows = [{"source": f"text {n % 8}", "target": "a cat", "image": str(names[n % 4])} for n in range(20)]
    data = {"train": str(tiny.write_jsonl(tmp_path / "rows.jsonl", rows))}
    for side, count in (("text", 8), ("image", 4)):
        planned = plan(recipe({"max_steps": 1}, data=data, train_on=side, adapter="none"), tmp_path / side)
        assert [(one["rows"], one["vectors"]) for one in planned["data"]] == [(20, count)]


def test_what_can_not_be_read_is_not_embedded_already(recipe, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [{"id": f"{n}", "target": "a cat", "image": str(one)} for n, one in enumerate(sorted(pictures.iterdir()))]
    rows.append({"id": "broken", "target": "a cat", "image": "broken.png"})
    data = {"train": str(tiny.write_jsonl(tmp_path / "rows.jsonl", rows))}
    given = recipe({"max_steps": 1}, data=data, train_on="image", adapter="none")
    with pytest.raises(CloseError, match="can't be read"):
        train(given, tmp_path / "run")
    assert [one["embedded"] for one in plan(given, tmp_path / "run")["data"]] == [False]


def test_what_is_embedded_beside_the_rows(recipe, captions, zoo, tmp_path):
    memory = tiny.write_jsonl(tmp_path / "memory.jsonl", tiny.caption_rows(12))
    other = str(zoo("hf_clip_dir"))
    assert plan(recipe(retrieve={"k": 2}), tmp_path / "run")["beside"] == []  # the rows' own table
    of_memory = recipe({"max_steps": 1, "save_strategy": "no"}, retrieve={"k": 2, "memory": str(memory)})
    planned = plan(of_memory, tmp_path / "run")
    assert [(one["file"], one["use"], one["embedded"]) for one in planned["beside"]] == [(str(memory), "memory", False)]
    assert f"{memory}: 12 rows, memory; " in lines_of(planned)
    both = recipe(retrieve={"k": 2, "memory": str(memory), "encoder": other})
    found = plan(both, tmp_path / "run")["beside"]
    assert [(one["file"], one["use"], one["encoder"]) for one in found] == [
        (str(memory), "memory", both.encoder),
        (str(memory), "memory", other),
        (str(captions), "to search with", other),
    ]
    train(of_memory, tmp_path / "run")
    assert plan(of_memory, tmp_path / "run", overwrite=True)["beside"][0]["embedded"]


def test_a_memory_of_vectors_that_were_given_needs_no_encoder_where_training_needs_none(recipe, tmp_path):
    for name, encoder, texts in (
        ("apart", "ours", [f"a dog {n}" for n in range(9)]),
        ("twice", recipe().encoder, [f"a dog {n % 8}" for n in range(9)]),
    ):
        rows = RowFile(tiny.write_jsonl(tmp_path / f"{name}.jsonl", [{"source": text} for text in texts]))
        fingerprint = load_encoder(encoder).fingerprint if encoder != "ours" else None
        vectors = np.random.default_rng(0).normal(size=(9, 12))
        table = table_of_vectors(vectors, rows, tmp_path / name, encoder=encoder, fingerprint=fingerprint)
        data = {"train": str(rows.path), "embeddings": str(table.path)}
        planned = plan(recipe(data=data, encoder=encoder, retrieve={"k": 1}), tmp_path / "run")
        assert [one["embedded"] for one in planned["data"]] == [True]
        assert [(one["use"], one["embedded"]) for one in planned["beside"]] == [("memory", False)] * (name == "twice")


@pytest.mark.parametrize(
    ("processes", "drop", "each"),
    [(1, False, 7), (1, True, 6), (2, False, 4), (2, True, 4)],  # the last one is filled
)
def test_steps_of_several_processes(processes, drop, each):
    about = {"gradient_accumulation_steps": 1, "train_batch_size": 16, "max_steps": 0, "num_train_epochs": 1}
    arguments = SimpleNamespace(**about, world_size=processes, dataloader_drop_last=drop)
    assert _steps(SimpleNamespace(arguments=arguments, examples=100))["steps_per_epoch"] == each
    if processes > 1:
        assert len(LengthSampler(range(100), 16 * processes, 0, fill=True)) == each * 16 * processes


def test_a_recipe_means_the_places_of_where_it_was_read(captions, tiny_encoder, tiny_t5, tmp_path, monkeypatch):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        shutil.copy(captions, tmp_path / folder / "rows.jsonl")
    monkeypatch.chdir(tmp_path / "here")
    given = ["data.train=rows.jsonl", f"encoder={tiny_encoder}", f"language_model={tiny_t5}", "training.epochs=2"]
    recipe = load_recipe(None, given)
    assert plan(recipe, tmp_path / "run")["data"][0]["file"] == "rows.jsonl"
    monkeypatch.chdir(tmp_path / "there")
    assert plan(recipe, tmp_path / "run")["data"][0]["file"] == str(tmp_path / "here" / "rows.jsonl")
