"""Sweeps and selection without images: real runs of tiny models, their resumption, the table, the choice."""

import base64
import copy
import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy import stats

from close.adapters import build_adapter, fit_adapter, load_adapter
from close.adapters.resolve import parse_spec
from close.data.rows import RowFile
from close.errors import DataError, MismatchError, RecipeError, warn_once
from close.evaluation.images import select_rows
from close.evaluation.scores import score_rows
from close.runs import evaluate as evaluating
from close.runs import evaluations
from close.runs.card import _names
from close.runs.evaluate import evaluate, evaluated
from close.runs.pipeline import load
from close.runs.recipe import Recipe, load_recipe
from close.study import sweep as sweeping
from close.study.arms import Arm, arms_of, merged, named_arm, own_adapter, settings_of
from close.study.export import claimed, csv_of, latex_of, table_of
from close.study.page import sweep_page
from close.study.results import interval, plot, summarise
from close.study.selection import best, saved_selection, selection_score
from close.study.sweep import run_folder, sweep
from close.study.tables import Tables
from close.tasks import get_task
from close.training.train import train
from close.vectors.table import EmbeddingTable


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Twelve rows with picture, source and references of their own."""
    folder = tmp_path_factory.mktemp("rows")
    texts = tiny.sentences(36, seed=5)
    return tiny.write_jsonl(
        folder / "eval.jsonl",
        [
            {
                "id": f"e{i}",
                "source": texts[3 * i],
                "references": texts[3 * i + 1 : 3 * i + 3],
                "image": tiny.picture(folder / f"{i}.png", i).name,
            }
            for i in range(12)
        ],
    )


def test_arms_are_the_grid_with_its_two_references():
    arms = arms_of(["none", {"random_shift": {"norm": 0.5}}], [1.0, 0.67])
    assert [arm.name for arm in arms] == [
        "none",
        "gaussian cosine 0.67",
        "random_shift norm 0.5",
        "random_shift norm 0.5 + gaussian cosine 0.67",
        "image",
    ]
    assert arms[-1].changes["train_on"] == "image"
    settings = settings_of(["training.epochs=1,2", "prefix=linear,{kind: mlp, length: 2}"])
    assert [one.name for one in settings][:2] == ["epochs 1, prefix linear", "epochs 1, prefix kind mlp length 2"]
    longer = arms_of(["none"], [0.67], settings=settings, image=False)
    assert [arm.changes["training"]["epochs"] for arm in longer] == [1, 1, 2, 2] * 2
    assert {arm.method for arm in longer} == {"none", "gaussian cosine 0.67"}
    assert settings_of(["training.learning_rate=1e-3,0.02"])[0].changes == {"training": {"learning_rate": 0.001}}


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (["training.epochs"], "--vary is key=value,value"),
        (["training.epochs=1", "training.epochs=2"], "is given twice"),
        (["training.epochs=2,2.0,2"], "values that differ"),
        (["training.epochs="], "values that differ"),
        (["training.epochs=[1"], "no YAML values"),
        (["adapter=none"], "adapter tells the arms of a sweep apart"),
        (["seed=1,2"], "an option of its own"),
        (["prefix=linear,mlp", "prefix.length=4,10"], "prefix is the whole of it; vary its keys one by one"),
        (["prefix.length=4,10", "prefix=linear,mlp"], "prefix is the whole of it; vary its keys one by one"),
    ],
)
def test_settings_that_are_none(vary, words):
    with pytest.raises(RecipeError, match=words):
        settings_of(vary)


def test_settings_below_one_section_are_all_trained(recipe, tmp_path):
    deep = "training.lr_scheduler_kwargs"
    settings = settings_of(
        [f"{deep}.num_cycles=1,2", f"{deep}.min_lr=0.1,0.2", "prefix.kind=linear,mlp", "prefix.length=2,3"]
    )
    base = recipe({"lr_scheduler_kwargs": {"power": 2}, "lr_scheduler_type": "cosine"})
    arms = arms_of(["none"], [], settings=settings, image=False)
    made = [run_folder(base, arm, 0, tmp_path)[0].dump() for arm in arms]
    assert len({json.dumps([one["prefix"], one["training"]], default=str) for one in made}) == 16
    assert made[-1]["prefix"] == {"kind": "mlp", "length": 3}
    assert made[-1]["training"]["lr_scheduler_kwargs"] == {"power": 2, "num_cycles": 2, "min_lr": 0.2}
    other = merged({"adapter": {"mean_shift": {}}, "retrieve": {"noise": {"std": 1}}}, {"adapter": {"shared": {}}})
    assert other["adapter"] == {"shared": {}}


def test_intervals_and_shares_are_students():
    values = [3.0, 5.0, 4.5]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert interval(values)["ci"] == pytest.approx([low, high])
    assert interval([2.0])["ci"] is None
    scores = {"none": (10, 20), "a": (30, 50), "b": (40, 30), "image": (50, None)}
    found = summarise(
        {
            name: {
                "runs": [
                    {"seed": 0, "image": {"cider": float(image)}, "text": {"cider": 1.0}}
                    | ({} if by is None else {"selection": {"cider": float(by)}})
                ]
            }
            for name, (image, by) in scores.items()
        }
    )
    assert found["arms_scored"]["a"]["recovered_share"]["cider"] == 0.5
    assert (found["selected"]["arm"], found["selected"]["best"]) == ("a", "b")
    assert found["selected"]["share_of_best"] == 0.75
    assert best({"a": [1, 2], "b": [2, 2], "c": [2, 2]}) == "b"
    assert "75.0 % of the best" in table_of(found)


def test_a_sweep_scores_resumes_and_chooses(recipe, rows, captions, tmp_path):
    base = recipe({"max_steps": 2, "save_strategy": "no"}, data={"train": str(rows)})
    arms = arms_of([{"random_shift": {"norm": 0.5}}], [0.67])
    first = sweep(base, arms, [0, 1], rows, tmp_path / "s", select=captions)
    table = first["arms_scored"]
    assert list(table) == ["none", "random_shift norm 0.5 + gaussian cosine 0.67", "image"]
    assert set(table["none"]) == {"seeds", "image", "text", "selection", "recovered_share", "length_ratio"}
    assert "selection" not in table["image"]  # it has never seen a text
    assert first["selected"]["arm"] in ("none", "random_shift norm 0.5 + gaussian cosine 0.67")
    assert (tmp_path / "s" / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "s" / "sweep.md").read_text() == table_of(
        json.loads((tmp_path / "s" / "sweep.json").read_text())
    )
    page = (tmp_path / "s" / "index.html").read_text()
    assert page.count("<article") == len(RowFile(rows)) <= 60
    for arm, found in table.items():
        assert f">{arm}<" in page or f">{arm} <" in page
        assert f"{found['image'][next(iter(found['image']))]['mean']:.1f}" in page
    said = html.unescape(page)
    for sentence in claimed(first):
        assert f'<p class="claim">{sentence}</p>' in said
    assert len(claimed(first)) > 0
    drawn = base64.b64encode((tmp_path / "s" / "sweep.svg").read_bytes()).decode()
    assert f'src="data:image/svg+xml;base64,{drawn}"' in page
    assert "Of each arm the run with seed 0 speaks; scores above are of all seeds." in page
    assert "Not compared" not in page
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.safetensors")}
    assert len(made) == 6
    again = sweep(base, arms, [0, 1], rows, tmp_path / "s", select=captions)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.safetensors")} == made
    text_only = sweep(base, arms[:2], [0], None, tmp_path / "s", select=captions)
    assert set(text_only["selected"]) == {"arm", "by"}
    assert "images in" not in table_of(text_only)


def test_arms_that_tell_as_much_as_their_texts(recipe, rows, tmp_path, caplog):
    warn_once.cache_clear()  # each line is told once
    base = recipe({"max_steps": 2, "save_strategy": "no"}, data={"train": str(rows)})
    arms = [Arm("none"), Arm("image", {"train_on": "image"})]
    plain = sweep(base, arms, [0], rows, tmp_path / "s")
    matched = sweep(base, arms, [0], rows, tmp_path / "s", photos=rows.parent)
    assert matched["length_matched_on"] == str(rows.parent)
    for seen in (rows, rows.parent):
        assert f"12 of the 12 pictures of {rows} are in {seen}: " in caplog.text
    assert "length_matched_on" not in plain
    runs = sorted((tmp_path / "s" / "runs").glob("*-0-*/run.json"))
    assert len(runs) == 2
    for run in (path.parent for path in runs):
        found = json.loads((run / "length.json").read_text())
        assert found["photos"] == 12
        scores = json.loads((run / "evaluations" / "eval-image" / "scores.json").read_text())
        assert scores["generation"].get("length_penalty", 1.0) == found["length_penalty"]
    with pytest.raises(RecipeError, match="give them again"):
        sweep(base, arms, [0], rows, tmp_path / "s")
    other = tiny.picture(tmp_path / "other" / "a.png", seed=1)
    with pytest.raises(RecipeError, match="matched to other photos"):
        sweep(base, arms, [0], rows, tmp_path / "s", photos=other.parent)
    for one in sorted(rows.parent.glob("*.png")):  # others, of the same names
        tiny.picture(tmp_path / "alike" / one.name, seed=1, size=8)
    with pytest.raises(RecipeError, match="matched to other photos"):
        sweep(base, arms, [0], rows, tmp_path / "s", photos=tmp_path / "alike")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file in this folder"):
        sweep(base, arms, [0], rows, tmp_path / "new", photos=tmp_path / "empty")
    assert not list((tmp_path / "new").glob("runs/*"))
    assert "Each run's texts are made as long" in table_of(matched)
    assert ("no penalty does it for all runs of" in table_of(matched)) == (
        not all(arm["length_reached"] for arm in matched["arms_scored"].values())
    )
    for summary in (plain, matched):
        ratio = summary["arms_scored"]["none"]["length_ratio"]
        assert f"| {ratio:.2f} |" in table_of(summary)
    scores = {"image": {"cider": 1.0}, "seed": 0}
    told = summarise(
        {name: {"runs": [scores | {"length_ratio": ratio}]} for name, ratio in {"a": 1.3, "b": 1.2}.items()}
    )
    assert "Captions of a are much longer" in table_of(told)
    assert "are much longer" not in table_of(told | {"length_matched_on": "photos"})


def test_methods_in_several_settings(recipe, rows, tmp_path, caplog):
    """Tuned on other rows, judged over all settings, and never told apart by less than chance."""
    warn_once.cache_clear()
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    other = tiny.write_jsonl(rows.parent / "tuning.jsonl", lines[:7])
    base = recipe({"max_steps": 2, "save_strategy": "no"}, data={"train": str(rows)})
    arms = arms_of(["none"], [0.67], settings=settings_of(["training.warmup_steps=0,1"]))
    found = sweep(base, arms, [0, 1], rows, tmp_path / "s", tune=other)
    assert f"7 of the 12 pictures of {rows} are in {other}: " in caplog.text
    table, claimed = found["arms_scored"], found["claims"]["cider"]
    assert list(table)[:3] == ["none, warmup_steps 0", "none, warmup_steps 1", "gaussian cosine 0.67, warmup_steps 0"]
    for arm in table.values():
        assert len(arm["tuning"]["cider"]["values"]) == 2
        assert arm["recovered_share"].keys() == arm["image"].keys()
    assert claimed["settings"] == ["warmup_steps 0", "warmup_steps 1"]
    assert set(claimed["methods"]) == {"none", "gaussian cosine 0.67", "image"}
    for method, one in claimed["methods"].items():
        tuned = max(claimed["settings"], key=lambda setting: table[f"{method}, {setting}"]["tuning"]["cider"]["mean"])
        assert one["tuned"]["mean"] == table[f"{method}, {tuned}"]["image"]["cider"]["mean"]
    page = (tmp_path / "s" / "index.html").read_text()
    assert "Of each arm the run with its first seed (0, 1000 by setting) speaks" in page
    assert page.count("data:image/svg+xml") == 2
    written = (tmp_path / "s" / "sweep.md").read_text()
    assert "| method | cider over 2 settings | worst | tuned |" in written
    assert "cider, 2 settings, 2 seeds: " in written
    assert (tmp_path / "s" / "methods.png").read_bytes()[:4] == b"\x89PNG"
    assert "warmup_steps 1" in (tmp_path / "s" / "methods.svg").read_text()
    with pytest.raises(RecipeError, match="other than those of --test"):
        sweep(base, arms, [0], rows, tmp_path / "t", tune=rows)
    with pytest.raises(RecipeError, match=r"arm 'none, warmup_step 0'.*did you mean"):
        sweep(
            base, arms_of(["none"], [1.0], settings=settings_of(["training.warmup_step=0"])), [0], rows, tmp_path / "t"
        )


def test_an_evaluation_that_was_killed_is_made_whole(recipe, rows, tmp_path, monkeypatch):
    import close.runs.evaluate as evaluating

    def killed(*arguments):
        raise KeyboardInterrupt

    base, place = recipe({"max_steps": 1, "save_strategy": "no"}), tmp_path / "s"
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "evaluation_page", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(base, [Arm("none")], [0], rows, place)
    found = sweep(base, [Arm("none")], [0], rows, place)
    (page,) = place.glob("*/*/evaluations/*-image/report.html")
    lock = page.parent.with_name(f".{page.parent.name}.lock")
    lock.touch()  # of one that was killed when all was written
    assert sweep(base, [Arm("none")], [0], rows, place)["arms_scored"] == found["arms_scored"]
    assert not lock.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"limit": 3},
        {"num_beams": 1},
        {"tokenizer": "unicode"},
        {"metrics": ["bleu", "cider"]},
        {"answers": ["a red dog", "a blue cat"]},
        {"missing": "skip"},
    ],
    ids=str,
)
def test_scores_that_were_made_otherwise_are_made_again(run, rows, other):
    """And those that were made as they come are read."""
    own = evaluated(run, rows)
    place = run / "evaluations" / "eval-image" / "scores.json"
    made = place.stat().st_mtime_ns
    assert evaluated(run, rows) == own
    assert place.stat().st_mtime_ns == made
    evaluate(run, rows, folder=place.parent, **{"tokenizer": "python"} | other)
    found = json.loads(place.read_text())
    assert {key: found.get(key) for key in other if key in found} == {k: v for k, v in other.items() if k in found}
    changed = place.stat().st_mtime_ns
    assert evaluated(run, rows) == own
    assert place.stat().st_mtime_ns > changed


def test_selections_of_another_length_are_made_again(run, rows):
    own, settings = saved_selection(run, rows), run / "generation_config.json"
    place, before = run / "evaluations" / "eval-text-selection" / "scores.json", settings.read_text()
    made = place.stat().st_mtime_ns
    assert saved_selection(run, rows) == own
    assert place.stat().st_mtime_ns == made
    older = {key: value for key, value in own.items() if key != "task"}  # of a run of one task it was not said
    place.write_text(json.dumps(older))
    assert saved_selection(run, rows) == own
    assert json.loads(place.read_text()) == older
    settings.write_text(json.dumps(json.loads(before) | {"length_penalty": 3.0}))
    assert saved_selection(run, rows)["generation"]["length_penalty"] == 3.0
    settings.write_text(before)
    assert saved_selection(run, rows)["scores"] == own["scores"]


def test_a_sweep_needs_something_to_do(recipe, rows, tmp_path):
    with pytest.raises(RecipeError, match="at least one"):
        sweep(recipe(), [], [0], None, tmp_path)
    with pytest.raises(RecipeError, match="--select"):
        sweep(recipe(), [Arm("none")], [0], None, tmp_path)
    with pytest.raises(RecipeError, match=r"captions.jsonl: no images .* --no-image"):
        sweep(recipe(), arms_of([], []), [0], rows, tmp_path)
    with pytest.raises(RecipeError, match="seed 1 is there twice"):
        sweep(recipe(), [Arm("none")], [1, 0, 1], rows, tmp_path)
    same = [Arm(f"epochs {n}", {"training": {"epochs": n}}) for n in (1, 1.0)]
    with pytest.raises(RecipeError, match=r"'epochs 1' and 'epochs 1\.0' are one recipe"):
        sweep(recipe(), same, [0], rows, tmp_path)
    several = [{"task": task, "train": str(rows)} for task in ("caption", "news")]
    with pytest.raises(RecipeError, match="what the recipe trains has the tasks caption, news, and the rows of"):
        sweep(recipe(task=several, data={}), [Arm("none")], [0], rows, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "arms"),
    [
        ([], ["none", "random_shift norm 0.5", "image"]),
        (["--noise", 0.67], ["none", "gaussian cosine 0.67", "image"]),
        (["--adapter", "{gaussian: {std: 0.1}}"], ["none", "gaussian std 0.1", "image"]),
        (["adapter=none"], ["none", "image"]),
        (["train_on=image", "adapter=none"], ["none", "image"]),
    ],
)
def test_the_recipes_own_adapter_is_an_arm(cli, captions, tmp_path, monkeypatch, options, arms):
    tried = []
    monkeypatch.setattr("close.study.sweep.sweep", lambda base, arms, *others, **more: tried.extend(arms) or {})
    values = {"data": {"train": str(captions)}, "adapter": {"random_shift": {"norm": 0.5}}}
    (tmp_path / "r.yaml").write_text(json.dumps(values))
    overrides = [option for option in options if "=" in str(option)]
    given = [option for option in options if option not in overrides]
    ran = cli("sweep", tmp_path / "r.yaml", *overrides, *given, "--test", captions, "--json")
    assert ran.code == 0, ran.err
    assert [arm.name for arm in tried] == arms


def test_what_a_recipe_trains_by_default_is_an_arm_too(recipe):
    assert [arm.name for arm in arms_of([own_adapter(recipe())], [1.0])] == ["none", "gaussian cosine 0.41", "image"]
    assert own_adapter(recipe(train_on="image")) == "none"
    with pytest.raises(RecipeError, match="trains on images through an adapter"):
        own_adapter(recipe(train_on="image", adapter={"gaussian": {"cosine": 0.9}}))


def test_keys_that_follow_from_others_follow_in_an_arm(recipe, tmp_path):
    """And the folders of runs are named as before: by the whole recipe."""
    varied = settings_of(["task=caption,nlvr2"])
    caption, pairs = (run_folder(recipe(), Arm("none", one.changes), 0, tmp_path)[0] for one in varied)
    assert (caption.several, pairs.several) == ("mean", "set")
    meant = run_folder(recipe(several="mean"), Arm("none", varied[1].changes), 0, tmp_path)[0]
    assert meant.several == "mean"
    (low,) = settings_of(["lora.r=4"])
    assert run_folder(recipe(), Arm("none", low.changes), 0, tmp_path)[0].tune == "lora"
    whole = recipe(**json.loads(json.dumps(recipe().dump())))
    assert run_folder(recipe(), Arm("none"), 0, tmp_path)[1] == run_folder(whole, Arm("none"), 0, tmp_path)[1]


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        (["none", "gaussian"], ["arm 'gaussian'", "takes exactly one of std, var, cosine"]),
        (["memory", "ridge"], ["arm 'ridge'", "unknown adapter 'ridge'"]),
        (["{linear: {method: ridge}}"], ["arm 'linear method ridge'", "needs paired data"]),
        (["[mean_shift, {gaussian: {std: 0.1}}]"], ["arm 'mean_shift + gaussian std 0.1'", "needs unpaired data"]),
        (["shared"], ["arm 'shared'", "0 groups have two texts or more"]),
        (["memory", "memory"], ["adapter 'memory' is given twice"]),
        (["{gaussian: {cosine: 3}}"], ["arm 'gaussian cosine 3'", "cosine is a number ≥ 1e-06 and ≤ 1, not 3"]),
        (["[[]]", "3"], ["arm '3'", "an adapter is a name"]),
    ],
)
def test_every_arm_is_checked_before_the_first_is_trained(told, tiny_encoder, tiny_t5, rows, tmp_path, adapters, words):
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    (tmp_path / "r.json.yaml").write_text(json.dumps({"data": {"train": str(rows)}, **models}))
    given = [part for spec in adapters for part in ("--adapter", spec)]
    line = told("sweep", tmp_path / "r.json.yaml", *given, "--no-image", "--test", rows, "--out", tmp_path / "s")
    for word in words:
        assert word in line
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--noise", 0], "noise 0.0: the cosine that it leaves is more than 0"),
        (["--noise", 0.5, "--noise", 0.5], "noise 0.5 is given twice"),
        (["--vary", "training.epochs=-1"], "arm 'none, epochs -1': training.epochs"),
        (
            ["training.max_steps=9", "--vary", "training.epochs=2,8"],
            "arm 'none, epochs 2': training.max_steps 9 says how long it is",
        ),
        (["--select", "{rows}"], "--select are rows that settings and arms are chosen on, other than those of --test"),
        (["--test", "{captions}"], "in the picture's place; `close convert` without --per image writes both"),
        (["--select", "{alone}"], "to select by text, rows need 'references'"),
        (["--select-image", "nowhere"], "--select-image goes with --select"),
        (["--select", "{captions}", "--select-image", "nowhere"], "nowhere: no such embedding table"),
        (["language_model=nowhere/at-all"], "language model 'nowhere/at-all' can't be loaded"),
    ],
)
def test_what_a_sweep_is_scored_on_is_checked_too(
    told, tiny_encoder, tiny_t5, captions, rows, tmp_path, options, words
):
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    (tmp_path / "r.yaml").write_text(json.dumps({"data": {"train": str(rows)}, **models}))
    (tmp_path / "alone.txt").write_text("a red dog\na blue cat\n")
    places = {"captions": captions, "rows": rows, "alone": tmp_path / "alone.txt"}
    given = [str(option).format(**places) for option in options]
    test = [] if "--test" in given else ["--test", rows]
    line = told("sweep", tmp_path / "r.yaml", *given, *test, "--no-image", "--out", tmp_path / "s")
    assert words in line
    assert not (tmp_path / "s").exists()


def test_arms_that_differ_in_their_tables_alone_are_told_apart(tmp_path):
    for name in ("V.npy", "W.npy"):
        np.save(tmp_path / name, np.eye(3, dtype=np.float32))
    specs = [{"mean_shift": {"fit": {"image": str(tmp_path / name)}}} for name in ("V.npy", "W.npy")]
    names = [arm.name for arm in arms_of([*specs, {"gaussian": {"cosine": 0.5}}], [1.0])]
    assert len(set(names)) == len(names) == 5
    assert [arm.name for arm in arms_of(["none", {"gaussian": {"cosine": 0.5}}], [1.0, 0.5], image=False)] == [
        "none",
        "gaussian cosine 0.5",
        "gaussian cosine 0.5 + gaussian cosine 0.5",
    ]


@pytest.fixture(scope="module")
def tables(tiny_encoder, rows, tmp_path_factory):
    """Texts and images of the rows, as tables, side by side, and which belong together."""
    from close.encoders import load_encoder
    from close.vectors.build import embed_images, embed_texts, images_of

    folder, encoder = tmp_path_factory.mktemp("tables"), load_encoder(str(tiny_encoder))
    embed_texts(RowFile(rows), encoder, folder / "T")
    embed_images(images_of(RowFile(rows)), encoder, folder / "V")
    return folder


def test_adapters_of_a_sweep_are_given_their_tables_once(tables, rows, captions, tmp_path):
    given = Tables(tables / "T", tables / "V", rows, rows, folder=tmp_path / "adapters")
    specs = ["mean_shift", "memory", "[shared, centring]", "{linear: {method: ridge}}", "{random_shift: {norm: 1}}"]
    arms = {arm.name: arm.changes["adapter"] for arm in arms_of(list(map(parse_spec, specs)), [1.0, 0.5], tables=given)}
    fit = {"image": str(tables / "V")}
    assert arms["mean_shift"] == [{"mean_shift": {"fit": fit}}]  # its texts are those of training
    assert arms["memory + gaussian cosine 0.5"] == ["memory", {"gaussian": {"cosine": 0.5}}]
    shared = {"shared": {"fit": {"text": str(tables / "T"), "groups": str(rows)}}}
    assert arms["shared + centring"] == [shared, {"centring": {"fit": fit}}]
    (loaded,) = arms["linear method ridge"]
    assert arms["linear method ridge + gaussian cosine 0.5"] == [loaded, {"gaussian": {"cosine": 0.5}}]
    adapter = load_adapter(loaded["load"])
    from close.gap.pairing import read_index

    index = read_index(rows, tables / "T", tables / "V")
    text, image = (EmbeddingTable(tables / side)[:][index[:, column]] for column, side in enumerate("TV"))
    expected = build_adapter({"linear": {"method": "ridge"}}, adapter.dim).fit(text=text, image=image)
    np.testing.assert_allclose(adapter.matrix, expected.matrix, atol=1e-5)
    assert len(list((tmp_path / "adapters").iterdir())) == 1
    made = next((tmp_path / "adapters").glob("*/adapter.json")).stat().st_mtime_ns
    arms_of(list(map(parse_spec, specs[2:4])), [1.0], tables=given)  # it is there
    assert next((tmp_path / "adapters").glob("*/adapter.json")).stat().st_mtime_ns == made


def test_what_needs_no_pairs_learns_from_the_training_texts(tables, rows, tmp_path):
    """Behind a stage that is fitted on pairs too; before one, it is fitted with it."""
    given = Tables(tables / "T", tables / "V", rows, folder=tmp_path / "adapters")
    noise = {"gaussian": {"cosine": 0.5}}
    _, *behind = given.give(["linear", "mean_shift", "memory", noise])
    assert behind == [{"mean_shift": {"fit": {"image": str(tables / "V")}}}, "memory", noise]
    assert [next(iter(one)) for one in load_adapter(given.give(["mean_shift", "linear", noise])[0]["load"]).spec()] == [
        "mean_shift",
        "linear",
        "gaussian",
    ]
    assert given.give("shared") == ["shared"]
    with pytest.raises(RecipeError, match=r"learns from groups of their texts: give the data file .*--groups"):
        given.give(["shared", "linear"])
    specs = [["memory", "linear"], ["linear", "memory"], "mean_shift", {"memory": {"fit": {"text": "other"}}}]
    texts, images = f"texts {tables / 'T'}", f"images {tables / 'V'}"
    assert [given.told(spec if isinstance(spec, list) else [spec]) for spec in specs] == [
        [f"memory on {texts}, pairs {rows}", f"linear on {texts}, {images}, pairs {rows}"],
        [f"linear on {texts}, {images}, pairs {rows}", "memory on the training texts"],
        [f"mean_shift on the training texts, {images}"],
        ["memory on texts other"],
    ]


def test_an_arm_of_a_name_is_taken_as_it_is(tables, tmp_path):
    given = Tables(tables / "T", tables / "V", folder=tmp_path / "adapters")
    named = list(map(named_arm, ["DeCap=[memory]", "CapDec = {gaussian: {cosine: 0.9}}", "Map=linear"]))
    arms = arms_of(["none"], [0.5], named=named, settings=settings_of(["training.epochs=1,2"]), tables=given)
    changes = {arm.name: arm.changes for arm in arms}
    assert changes["DeCap, epochs 1"]["adapter"] == ["memory"]
    assert changes["CapDec, epochs 2"]["adapter"] == [{"gaussian": {"cosine": 0.9}}]
    assert set(changes["Map, epochs 1"]["adapter"][0]) == {"load"}
    assert {arm.method for arm in arms} == {"none", "gaussian cosine 0.5", "DeCap", "CapDec", "Map", "image"}
    assert [arm.fitted for arm in arms if arm.name == "DeCap, epochs 2"] == [("memory on the training texts",)]
    for wrong in ("memory", "=memory", "DeCap=", "image=memory", "none=memory", "Mine=none"):
        with pytest.raises(RecipeError, match="--arm"):
            named_arm(wrong)
    with pytest.raises(RecipeError, match="arm 'Mine': unknown adapter"):
        arms_of([], [1.0], named=[("Mine", "memmory")])


def test_a_saved_adapter_is_an_arm(tables, tmp_path):
    fit_adapter("mean_shift", tmp_path / "A", text=tables / "T", image=tables / "V")
    saved = {"load": str(tmp_path / "A")}
    given = Tables(tables / "T", tables / "V", folder=tmp_path / "adapters")
    arms = {arm.name: arm.changes["adapter"] for arm in arms_of([saved, [saved, "linear"]], [1.0], tables=given)}
    assert arms[f"load {tmp_path / 'A'}"] == [saved]
    (chain,) = arms[f"load {tmp_path / 'A'} + linear"]
    assert [next(iter(stage)) for stage in load_adapter(chain["load"]).spec()] == ["mean_shift", "linear"]


def test_an_adapter_is_fitted_anew_when_a_table_of_its_stages_is_replaced(tables, tmp_path):
    for side in "TV":
        shutil.copytree(tables / side, tmp_path / side)
    own = {"mean_shift": {"fit": {"text": str(tmp_path / "T"), "image": str(tmp_path / "V")}}}
    given = Tables(tables / "T", tables / "V", folder=tmp_path / "adapters")
    first = given.give([own, "linear"])
    assert given.give([own, "linear"]) == first
    shutil.rmtree(tmp_path / "V")
    table = EmbeddingTable(tables / "V")
    about = {"encoder": table.encoder, "fingerprint": table.fingerprint, "modality": "image"}
    EmbeddingTable.from_numpy(-table[:], tmp_path / "V", **about)
    assert given.give([own, "linear"]) != first


TABLES = ("--text", "{tables}/T", "--image", "{tables}/V")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--adapter", "mean_shift"], "arm 'mean_shift': adapter 'mean_shift' needs unpaired data: give --image"),
        (
            ["--adapter", "linear", "--image", "{tables}/V"],
            "arm 'linear': adapter 'linear' needs paired data: give --text",
        ),
        (["--adapter", "linear", "--adapter", "ridge", "--text", "{tables}/T", "--image", "{tables}/V"], "arm 'ridge'"),
        (["--noise", "0.5", "--text", "{tables}/T"], "--text is given, and no adapter that is tried learns from it"),
        (["--adapter", "memory", "--image", "{tables}/V"], "--image is given, and no adapter that is tried learns"),
        (["--adapter", "memory", "--text", "{tables}/T"], "of other texts than those of training it learns by a fit"),
        (["--adapter", "shared", "--text", "{tables}/T"], "--text is given, and no adapter that is tried learns"),
        (["--arm", "A=[memory]", "--arm", "A=[centring]", "--image", "{tables}/V"], "arm 'A' is there twice"),
        (["--arm", "B=linear"], "arm 'B': adapter 'linear' needs paired data: give --text and --image"),
        (["--image", "nowhere"], "nowhere: no such embedding table"),
        (["--image", "{tables}/T"], "holds text embeddings, but is given as --image"),
        (["--image", "{tables}/W.npy"], "W.npy has 3 columns, and encoder"),
        (["--adapter", "{{mean_shift: {{fit: {{image: '{tables}/W.npy'}}}}}}"], "W.npy has 3 columns, and encoder"),
        (["--pairs", "{rows}", "--image", "{tables}/V"], "--pairs says which rows of two tables belong together"),
        (
            ["--adapter", "linear", "--text", "{tables}/T", "--image", "{tables}/V", "--groups", "{rows}"],
            "--groups is given, and no adapter that is tried learns from it",
        ),
        (
            ["--adapter", "mean_shift", "--text", "{tables}/T", "--image", "{tables}/V", "--pairs", "{rows}"],
            "--text is given, and no adapter that is tried learns from it",
        ),
        (
            ["--arm", "A=[shared, centring]", *TABLES, "--groups", "{rows}", "--pairs", "{rows}"],
            "--pairs is given, and no adapter that is tried learns from it",
        ),
        (["--groups", "{rows}"], "--groups is the data file that the texts were made of"),
    ],
)
def test_a_sweeps_tables_are_checked_first(told, tiny_encoder, tiny_t5, tables, rows, tmp_path, options, words):
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    (tmp_path / "r.yaml").write_text(json.dumps({"data": {"train": str(rows)}, **models}))
    np.save(tables / "W.npy", np.eye(3, dtype=np.float32))
    given = [option.format(tables=tables, rows=rows) for option in options]
    line = told("sweep", tmp_path / "r.yaml", *given, "--no-image", "--test", rows, "--out", tmp_path / "s")
    assert words in line
    assert not (tmp_path / "s").exists()


def test_rows_to_select_by(rows, captions, tmp_path):
    task = get_task("caption")
    assert select_rows(RowFile(rows), task) == list(RowFile(rows))
    told = select_rows(RowFile(captions), task)
    assert [row.id for row in told] == [row.id for row in RowFile(captions)][::4]
    assert told[1].references == tuple(row.source[0] for row in RowFile(captions)[5:8])
    alone = tmp_path / "alone.txt"
    alone.write_text("a red dog\na blue cat\n")
    with pytest.raises(DataError, match=r"alone.txt: to select by text, rows need 'references'"):
        select_rows(RowFile(alone), task)


def test_pseudo_images_go_through_the_images_door(recipe, rows, pictures, tmp_path):
    """Centring treats the two sides differently: what is scored is what the model says on the image side."""
    from close.encoders import load_encoder
    from close.runs.stand_ins import moved_to_images
    from close.vectors.build import embed_images, find_images

    base = recipe({"max_steps": 2, "save_strategy": "no"})
    encoder = load_encoder(base.encoder)
    table = embed_images(find_images(pictures, encoder.item_suffixes), encoder, tmp_path / "V")
    centred = base.model_copy(update={"adapter": {"centring": {"fit": {"image": str(tmp_path / "V")}}}})
    run = load(train(centred, tmp_path / "run"))
    found = selection_score(run, rows, image=tmp_path / "V")
    texts = [[row.source[0], *row.references] for row in RowFile(rows)]
    features = {text: run.encoder.text_features([text])[0].numpy() for many in texts for text in many}
    vectors = [unit(np.stack([features[text] for text in many])) for many in texts]
    rng = np.random.default_rng(0)
    order, scenes = rng.permutation(12).tolist(), [rows.mean(axis=0) for rows in vectors]
    other = [vectors[order[order.index(i) - 1]] for i in range(12)]  # the one before it in a random circle
    draws = rng.integers([len(rows) for rows in other])
    worded = [5 / 6 * (o[d] - np.delete(o, d, axis=0).mean(axis=0)) for o, d in zip(other, draws, strict=True)]
    scenes = np.stack([scene + more for scene, more in zip(scenes, worded, strict=True)])
    import torch

    shown = torch.from_numpy(
        moved_to_images(scenes, unit(np.stack(list(features.values()))), EmbeddingTable(table.path))
    )
    said = [text for text, _ in run.generate(shown, [""] * 12, modality="image")]
    expected, _ = score_rows(run.task, list(RowFile(rows)), said, tokenizer="python")
    assert found["scores"]["bleu_1"] == expected["bleu_1"]
    assert found["scores"]["cider"] == expected["cider"]
    assert selection_score(run, rows)["image"] is None
    EmbeddingTable.from_numpy(table[:], tmp_path / "other", encoder="x", fingerprint="ab" * 16, modality="image")
    with pytest.raises(MismatchError, match="x"):
        selection_score(run, rows, image=tmp_path / "other")


def test_sweep_command(cli, told, tiny_encoder, tiny_t5, captions, tables, tmp_path):
    import yaml

    base = {
        "data": {"train": str(captions)},
        "encoder": str(tiny_encoder),
        "language_model": str(tiny_t5),
        "training": {"max_steps": 1, "batch_size": 16, "save_strategy": "no"},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(base))
    given = ("sweep", tmp_path / "r.yaml", "--noise", 0.67, "--no-image", "--out", tmp_path / "s")
    given += ("--select", captions, "--adapter", "mean_shift", "--image", tables / "V")
    ran = cli(*given, "--seeds", 1)
    assert ran.code == 0, ran.err
    assert "Chosen by text" in ran.out
    assert "| mean_shift + gaussian cosine 0.67 |" in ran.out
    assert f"Fitted: mean_shift on the training texts, images {tables / 'V'}." in ran.out
    _plans(cli, tmp_path, given, tables)
    assert "give --test, --select" in told("sweep", tmp_path / "r.yaml", "--out", tmp_path / "t")


def _plans(cli, folder, given, tables):
    """Dry runs of more than a sweep has trained: they say so, and write nothing."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    planned = json.loads(cli(*given, "--seeds", 2, "--dry-run", "--json").out)
    arms = planned.pop("arms")
    assert planned == {"runs": 4, "finished": 2, "stopped": 0, "seeds": [0, 1], "methods": 2, "settings": 1}
    (none,) = (folder / "s" / "runs").glob("none-0-*")
    assert arms[0] == {
        "name": "none",
        "runs": [{"seed": 0, "state": "finished", "folder": str(none)}, {"seed": 1, "state": "to be trained"}],
    }
    paired = ("--adapter", "linear", "--text", tables / "T", "--vary", "training.warmup_steps=0,5")
    said = cli(*given, *paired, "--seeds", 1, "--dry-run").out.splitlines()
    assert said[0] == "6 runs: 3 methods × 2 settings × 1 seed (0)"  # other recipes than those that are finished
    assert said[-1] == "linear + gaussian cosine 0.67, warmup_steps 5: to be trained with seed 0"
    said = cli(*given, "--arm", "DeCap=[memory]", "--seeds", 1, "--dry-run").out.splitlines()
    assert said[-1] == "DeCap: to be trained with seed 0"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def _found(seeds):
    arms = {"none": 10.0, "shift & {scale: 50 %}": 30.0, "image": 50.0}
    return summarise(
        {
            name: {
                "runs": [{"seed": s, "image": {"cider": value + s}, "text": {"cider": 60.0 + s}} for s in range(seeds)]
            }
            for name, value in arms.items()
        }
    )


def test_tables_say_what_their_numbers_are():
    half = stats.t.ppf(0.975, 2) * np.std([0, 1, 2], ddof=1) / np.sqrt(3)
    three = table_of(_found(3))
    assert f"| shift & {{scale: 50 %}} | 31.0 ± {half:.1f} | 61.0 ± {half:.1f} | 0.50 |" in three
    assert "± is half the 95 % interval of the mean over 3 seeds (Student's t)." in three
    assert "Recovered is (method − none) / (image − none)" in three
    two = table_of(_found(2))
    assert "| shift & {scale: 50 %} | 30.0, 31.0 | 60.0, 61.0 | 0.50 |" in two
    assert "±" not in two
    assert "each one's value is shown (2 seeds)" in two
    assert "– where image − none is within chance." in two
    one = table_of(_found(1))
    assert "| none | 10.0 | 60.0 | 0.00 |" in one
    assert "within chance" not in one
    assert "– where image is no better than none, whatever chance may do to one seed." in one


@pytest.mark.parametrize(
    ("none", "image", "recovered"),
    [
        ((20, 24), (22, 25), None),
        ((20, 24), (25, 30), 0.5),
        ((20, 24, 22), (21, 26, 21), None),
        ((20, 24, 22), (24, 28, 27), 0.5),
    ],
)
def test_nothing_is_recovered_of_less_than_chance(none, image, recovered):
    values = {"none": none, "a": [sum(both) / 2 for both in zip(none, image, strict=True)], "image": image}
    found = summarise(
        {
            name: {
                "runs": [{"seed": n, "image": {"cider": float(one)}, "length_ratio": 2.0} for n, one in enumerate(own)]
            }
            for name, own in values.items()
        }
    )
    assert found["arms_scored"]["a"]["recovered_share"]["cider"] == (recovered and pytest.approx(recovered))
    assert (" | – | 2.00 |" in table_of(found)) == (recovered is None)
    assert "Captions of all arms are much longer" in table_of(found)


def test_a_stopped_sweep_compares_the_seeds_that_all_arms_have():
    """The second seed is a lucky one, and has been given to the first two arms only."""
    values = {"none": (10.0, 50.0), "a": (20.0, 90.0), "b": (30.0,), "image": (50.0,)}
    found = summarise(
        {
            name: {
                "runs": [
                    {"seed": n, "image": {"cider": own}, "selection": {"cider": own}} for n, own in enumerate(both)
                ]
            }
            for name, both in values.items()
        }
    )
    assert [arm["recovered_share"]["cider"] for arm in found["arms_scored"].values()] == [0, 0.25, 0.5, 1]
    assert (found["selected"]["arm"], found["selected"]["best_score"]) == ("image", 50)
    assert found["arms_scored"]["a"]["image"]["cider"]["mean"] == 55
    assert "What is recovered and chosen is of the seeds that all arms have." in table_of(found)


def test_what_the_selection_scores_and_the_test_rows_do_not():
    """Of several tasks."""
    runs = [{"seed": 0, "image": {"accuracy": 50.0}, "selection": {"cider": 10.0}}]
    assert summarise({"none": {"runs": runs}, "a": {"runs": runs}})["selected"] == {"arm": "none", "by": "cider"}


def test_a_table_says_where_text_in_is_of_other_examples():
    runs = [{"seed": 0, "image": {"cider": 50.0}, "text": {"cider": 60.0}, "examples": {"image": 5, "text": 10}}]
    assert "Images in: 5 images, each against the captions of all its rows; text in: 10 rows" in table_of(
        summarise({"none": {"runs": runs}})
    )


def test_where_no_score_is_a_headline_the_first_is_shown():
    assert sweeping._headlines({"bleu_1": 3.0, "rouge_l": 2.0, "n": 4}) == {"bleu_1": 3.0}
    assert sweeping._headlines({"n": 4}) == {}


def test_a_score_has_the_digits_that_its_metric_says(monkeypatch):
    from close.evaluation.metrics import METRICS, Metric, Score

    monkeypatch.setattr(METRICS, "_order", [*METRICS._order])
    monkeypatch.setattr(METRICS, "_metrics", copy.deepcopy(METRICS._metrics))
    score = Score("share", "Share", scale=(0, 1), headline=True, digits=3)
    METRICS.register(Metric("share", "caption", (score,)))(dict)
    runs = {
        f"{name}, {setting}": {
            "method": name,
            "setting": setting,
            "runs": [{"seed": n, "image": {"share": at + n / 1000}, "tuning": {"share": at}} for n in range(3)],
        }
        for name, at in (("a", 0.7), ("b", 0.65))
        for setting in ("x", "y")
    }
    told = table_of(summarise(runs))
    assert "| a, x | 0.701 ± 0.002 |" in told
    assert "| a | 0.701 [" in told
    assert "a is ahead of b by 0.050 [0.0" in told


def test_tables_for_papers_and_for_programs():
    rows = list(csv.DictReader(csv_of(_found(3)).splitlines()))
    assert len(rows) == 6
    shift = next(row for row in rows if row["method"] == "shift & {scale: 50 %}" and row["input"] == "image")
    assert (shift["score"], float(shift["mean"]), float(shift["recovered"])) == ("cider", 31.0, 0.5)
    assert [float(shift[f"seed {seed}"]) for seed in range(3)] == [30.0, 31.0, 32.0]
    low, high = stats.t.interval(0.95, 2, loc=31, scale=stats.sem([30, 31, 32]))
    assert (float(shift["low"]), float(shift["high"])) == pytest.approx((low, high))
    few = list(csv.DictReader(csv_of(_found(2)).splitlines()))
    assert {(row["low"], row["high"]) for row in few} == {("", "")}  # as the tables say: they give no interval
    lines = latex_of(_found(3)).splitlines()
    assert lines[1:4] == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"method & cider, images in & cider, text in & recovered cider \\",
    ]
    assert r"shift \& \{scale: 50 \%\} & 31.0 $\pm$ 2.5 & 61.0 $\pm$ 2.5 & 0.50 \\" in lines
    assert r"\par{\footnotesize $\pm$ is half the 95 \% interval of the mean over 3 seeds (Student's t).}" in lines


def test_figures_for_papers(tmp_path):
    for seeds in (1, 3):
        plot(_found(seeds), tmp_path / "sweep.png")
        assert (tmp_path / "sweep.pdf").read_bytes()[:5] == b"%PDF-"
        drawn = (tmp_path / "sweep.svg").read_bytes()
        assert b"<svg" in drawn
        plot(_found(seeds), tmp_path / "sweep.png")
        assert (tmp_path / "sweep.svg").read_bytes() == drawn
        texts = re.findall(r"<!-- (.*?) -->", drawn.decode())  # as matplotlib tells what it draws as outlines
        assert "CIDEr" in texts
        assert "no adapter" in texts
        assert not [text for text in texts if "interval" in text or "dotted" in text]
    told = (
        "sweep.png shows CIDEr: means with 95 % intervals over seeds; vertical lines are of images in, dotted without"
    )
    assert told in table_of(_found(3))
    assert "sweep.png shows CIDEr: points are means, ticks each seed's value; vertical lines" in table_of(_found(2))


def test_a_page_says_what_each_arm_was_fitted_on(tmp_path):
    """Also of an adapter that came fitted; one that the sweep fitted on pairs is told by its data."""
    (tmp_path / "sweep.svg").write_bytes(b"<svg/>")
    found = _found(3)
    own = {"load": str(tmp_path / "adapters" / "linear-0")}
    specs = {"none": "none", "shift & {scale: 50 %}": [own, {"load": "saved/shift"}], "image": "none"}
    fitted = {"shift & {scale: 50 %}": ["linear on texts T, images V"]}
    about = {"arms": {name: {"adapter": spec} for name, spec in specs.items()}, "fitted_on": fitted}
    about["recipe"] = {"adapter": "none"}
    examples = {"task": "caption", "n": 2, "data": "rows", "measure": "cider", "examples": [], "groups": []}
    page = html.unescape(sweep_page(examples, found | about, [0, 0, 0], tmp_path))
    assert page.count("fitted: ") == 1
    assert '<span class="times">fitted: linear on texts T, images V; saved/shift, as it was saved</span>' in page
    assert "Intervals are over 3 seeds" in page
    assert "Intervals over seeds are given from 3 of them on." in sweep_page(
        examples, _found(2) | about, [0, 0, 0], tmp_path
    )


def test_a_run_of_few_steps_says_so(recipe, tmp_path, caplog):
    train(recipe({"max_steps": 2, "save_strategy": "no"}), tmp_path / "short")
    assert "2 steps in all, which is short" in caplog.text
    caplog.clear()
    train(recipe({"max_steps": 2, "save_strategy": "no"}, init_from=tmp_path / "short"), tmp_path / "goes-on")
    train(recipe({"max_steps": 100, "save_strategy": "no"}), tmp_path / "long")
    assert "steps in all" not in caplog.text


def test_two_data_sets_of_one_name_have_an_evaluation_each(recipe, rows, tmp_path):
    """`close mini export` calls every split eval.jsonl."""
    other = tmp_path / "other" / rows.name
    other.parent.mkdir()
    other.write_text("".join(rows.read_text().splitlines(keepends=True)[:6]))
    for image in rows.parent.rglob("*.png"):
        place = other.parent / image.relative_to(rows.parent)
        place.parent.mkdir(exist_ok=True, parents=True)
        place.write_bytes(image.read_bytes())
    arms, out = arms_of(["none"], [0.5], image=False), tmp_path / "sweep"
    found = sweep(recipe({"max_steps": 2}), arms, [0], rows, out, tune=other)
    runs = [run / "evaluations" for run in sorted((out / "runs").iterdir()) if run.is_dir()]
    assert [len(list(run.glob("*image/scores.json"))) for run in runs] == [2, 2]
    assert (out / "index.html").is_file()
    assert sweep(recipe({"max_steps": 2}), arms, [0], rows, out, tune=other) == found
    changed = tmp_path / "changed.jsonl"
    changed.write_text(other.read_text().replace('"image": "', f'"image": "{other.parent}/'))
    run = runs[0].parent
    place = evaluate(run, changed)["folder"]
    changed.write_text("".join(changed.read_text().splitlines(keepends=True)[:3]))
    assert evaluate(run, changed)["folder"] == place  # the same file, which has changed


def test_files_called_alike_from_their_own_folders_have_an_evaluation_each(run, tmp_path, monkeypatch):
    """And so has a part of one."""
    values = [{"id": f"{i}", "source": "a dog", "references": ["a dog"], "image": "1.png"} for i in range(4)]
    folders = []
    for seed, name in enumerate("ab"):
        tiny.picture(tmp_path / name / "1.png", seed)
        tiny.write_jsonl(tmp_path / name / "named.jsonl", [one | {"id": f"{name}{one['id']}"} for one in values])
        monkeypatch.chdir(tmp_path / name)
        folders += [evaluate(run, "named.jsonl", limit=limit)["folder"] for limit in (None, 1)]
        assert evaluate(run, tmp_path / name / "named.jsonl")["folder"] == folders[-2]
    assert len(set(folders)) == 4
    assert folders[1].endswith("named-image-first1")


def test_scores_are_of_the_pictures_that_were_looked_at(run, tmp_path):
    """Rows only name them: blurred ones beside the same lines have scores of their own, and replaced ones new scores."""
    values = [{"id": f"{i}", "source": "a dog", "references": ["a dog"], "image": f"{i}.png"} for i in range(3)]
    places = []
    for number, name in enumerate(("clean", "blurred", "dark")):
        for i in range(3):
            tiny.picture(tmp_path / name / f"{i}.png", 3 * number + i)
        data = tiny.write_jsonl(tmp_path / name / "pictures.jsonl", values)
        evaluated(run, data)
        places.append({path.parent for path in run.glob("evaluations/pictures-*/scores.json")})
    assert [len(found) for found in places] == [1, 2, 3]
    written = {path: (path / "scores.json").stat().st_mtime_ns for path in places[2]}
    for name in ("clean", "blurred", "dark"):
        evaluated(run, tmp_path / name / "pictures.jsonl")
    assert written == {path: (path / "scores.json").stat().st_mtime_ns for path in places[2]}
    tiny.picture(tmp_path / "clean" / "1.png", 30)
    evaluated(run, tmp_path / "clean" / "pictures.jsonl")
    (new,) = (path for path in places[2] if (path / "scores.json").stat().st_mtime_ns > written[path])
    assert new == places[0].pop()
    found = [json.loads((path / "scores.json").read_text()) for path in sorted(places[2])]
    assert len(set(_names(found))) == 3  # on the card too
    tiny.picture(tmp_path / "dark" / "1.png", 31)
    evaluated(run, tmp_path / "dark" / "pictures.jsonl")
    assert places[2] == {path.parent for path in run.glob("evaluations/pictures-*/scores.json")}


def test_pictures_are_looked_at_once_and_known_where_they_are_moved_to(run, tmp_path, monkeypatch):
    values = [{"id": f"{i}", "source": "a dog", "references": ["a dog"], "image": "1.png"} for i in range(3)]
    tiny.picture(tmp_path / "a" / "1.png", 1)
    data, looked, files = tiny.write_jsonl(tmp_path / "a" / "moved.jsonl", values), [], []
    state, pictures = evaluations._state, evaluations.looked_at
    monkeypatch.setattr(evaluations, "_state", lambda file: files.append(file) or state(file))
    monkeypatch.setattr(evaluating, "looked_at", lambda *given: looked.append(given) or pictures(*given))
    own = evaluated(run, data)
    assert (len(looked), len(files)) == (1, 1)  # one picture, whatever rows name it
    (scores,) = run.glob("evaluations/moved-*/scores.json")
    made = scores.stat().st_mtime_ns
    (tmp_path / "a").rename(tmp_path / "b")
    assert evaluated(run, tmp_path / "b" / "moved.jsonl") == own
    assert (len(looked), len(files)) == (2, 2)
    assert [path.stat().st_mtime_ns for path in run.glob("evaluations/moved-*/scores.json")] == [made]
    evaluate(run, tmp_path / "b" / "moved.jsonl", tokenizer="unicode")
    evaluated(run, tmp_path / "b" / "moved.jsonl")
    assert len(looked) == 4  # where other things differ, pictures are not compared


def test_a_key_that_came_later_leaves_runs_their_names(tmp_path, monkeypatch):
    """Or a sweep of before would train every arm again; what is named was made before `max_new_tokens` and others."""
    monkeypatch.chdir(tmp_path)
    base = Recipe.model_validate({"data": {"train": "a.jsonl"}, "seed": 3})
    assert run_folder(base, Arm("x", {}), 0, tmp_path)[1] == tmp_path / "runs" / "x-0-f395ce77a8"


def test_a_run_is_named_alike_from_every_working_directory(tmp_path, monkeypatch):
    (tmp_path / "one" / "words").mkdir(parents=True)
    for other in ("two", "elsewhere"):
        shutil.copytree(tmp_path / "one", tmp_path / other)
    values = {"data": {"train": "a.jsonl", "val": "v.jsonl"}, "language_model": "words"}

    def folder(here, places, out):
        monkeypatch.chdir(here)
        (Path(places) / "recipe.yaml").write_text(json.dumps(values))
        return run_folder(load_recipe(Path(places) / "recipe.yaml"), Arm("x", {}), 0, Path(out))[1]

    own = folder(tmp_path / "one", ".", "s").name
    assert folder(tmp_path, "one", "one/s").name == own
    assert folder(tmp_path / "two", str(tmp_path / "one"), "../one/s").name == own
    assert (
        folder(tmp_path / "elsewhere", ".", "s").name == own
    )  # all of it was moved; not what was fitted, which has its own
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link").symlink_to(tmp_path / "one")  # a working directory is known by its real path
    linked = str(tmp_path / "home" / "link")
    for given in ((".", "s"), (linked, "s"), (".", f"{linked}/s"), (linked, f"{linked}/s")):
        assert folder(tmp_path / "one", *given).name == own, given
    assert folder(tmp_path, "two", "one/s").name != own  # data of the same names in another folder
    before = tmp_path / "one" / "s" / "runs" / "x-0-b063425774"
    before.mkdir(parents=True)  # of before, by places as they were given
    assert folder(tmp_path / "one", ".", "s").resolve() == before
