"""close init: the recipe that it writes loads and trains as it is, and says where it is no advice."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml

from close.data.shards import open_rows
from close.errors import WeightsError
from close.gap import recommend
from close.io.keys import cache_folder
from close.mini.export import export
from close.runs.recipe import load_recipe
from close.runs.survey import survey
from close.vectors.table import EmbeddingTable

MINI = ("--encoder", "mini", "--language-model", "mini")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    export(folder, "train", 24)
    news = ({"source": f"a dog number {n}", "context": f"An article on dog {n}. It barked."} for n in range(24))
    (folder / "news.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in news))
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


TASKS = {"captions": "caption", "vqa": "vqa", "entailment": "entailment", "pairs": "nlvr2", "news": "news"}


@pytest.mark.parametrize("file", TASKS)
def test_the_recipe_loads_with_and_without_its_commented_lines(cli, place, world, file):
    ran = cli("init", world / f"{file}.jsonl", *MINI, "--out", "mine/first.yaml")
    assert ran.code == 0, ran
    assert f"rows for task {TASKS[file]}" in ran.out
    assert f"close train mine/first.yaml --out runs/{file}" in ran.out
    recipe = load_recipe("mine/first.yaml")
    assert (recipe.task, recipe.encoder, recipe.data.train.resolve()) == (TASKS[file], "mini", world / f"{file}.jsonl")
    text = Path("mine/first.yaml").read_text()
    more = re.sub(r"^# (?=(captions|tune|init_from): )", "", text, flags=re.MULTILINE)
    assert more != text
    Path("mine/more.yaml").write_text(more)
    assert load_recipe("mine/more.yaml").tune == "lora"


def test_what_is_written_trains_and_embeds_nothing_again(cli, place, world):
    assert cli("init", world / "captions.jsonl", *MINI).code == 0
    tables = sorted((cache_folder() / "embeddings").iterdir())
    ran = cli("train", "recipe.yaml", "training.max_steps=2", "--out", "runs/two")
    assert ran.code == 0, ran
    assert sorted((cache_folder() / "embeddings").iterdir()) == tables


def test_the_reasons_are_those_of_the_same_advice(cli, place, world):
    assert cli("init", world / "vqa.jsonl", *MINI).code == 0
    said = Path("recipe.yaml").read_text().partition("# why: close ")[2].partition("\n# noise")[0]
    ran = cli(*shlex.split(said.replace("\n# ", " ")))
    assert ran.code == 0, ran
    assert "without noise" in ran.out
    assert yaml.safe_load(ran.out)["adapter"] == load_recipe("recipe.yaml").adapter


def test_photos_are_embedded_beside_the_recipe_and_learnt_from(cli, place, world, monkeypatch):
    centred = lambda *tables, **about: replace(recommend(*tables, **about), adapter="centring")  # noqa: E731
    monkeypatch.setattr("close.gap.advice.advise.recommend", centred)
    ran = cli("init", world / "captions.jsonl", *MINI, "--photos", world / "images", "--out", "mine/r.yaml")
    assert ran.code == 0, ran
    assert "{image: tables/images}" in ran.out
    assert load_recipe("mine/r.yaml").adapter[0] == {"centring": {"fit": {"image": "mine/tables/images"}}}
    assert f"runs/captions {world / 'images'} --out said.jsonl" in ran.out


def test_a_recipe_that_is_there_stays_unless_it_is_said(told, cli, place, world):
    Path("recipe.yaml").write_text("mine")
    assert "recipe.yaml exists" in told("init", world / "captions.jsonl", *MINI)
    assert Path("recipe.yaml").read_text() == "mine"
    assert cli("init", world / "captions.jsonl", *MINI, "--overwrite").code == 0
    assert load_recipe("recipe.yaml")


def test_without_weights_the_papers_noise_is_written_and_told(cli, place, world, monkeypatch):
    def fails(reference):
        raise WeightsError("no weights here")

    monkeypatch.setattr("close.encoders.load_encoder", fails)
    ran = cli("init", world / "captions.jsonl", "--language-model", "mini", "--json")
    assert ran.code == 0, ran
    assert ran.messages == ["note: the paper's noise, without advice: no weights here"]
    assert json.loads(ran.out)["advice"] is None
    assert "# the paper's noise, without advice: no weights here\n" in Path("recipe.yaml").read_text()
    recipe = load_recipe("recipe.yaml")
    assert (recipe.adapter, recipe.encoder) == ([{"gaussian": {"cosine": 0.41}}], "open_clip:ViT-L-14/openai")


def test_too_few_texts_are_told(cli, place):
    Path("few.txt").write_text("a dog\na cat\n")
    ran = cli("init", "few.txt", *MINI)
    assert ran.code == 0, ran
    assert ran.messages[-1].startswith("note: the paper's noise, without advice: ")
    assert "2 texts; advice takes 8 at least" in ran.messages[-1]


def test_names_and_long_texts_get_their_keys(cli, place):
    words = " ".join(["blue"] * 40)
    Path("long.txt").write_text("".join(f"The MRI of Anna shows {n} {words}\n" for n in range(12)))
    assert cli("init", "long.txt", *MINI).code == 0
    recipe = load_recipe("recipe.yaml")
    assert recipe.lowercase is False
    assert recipe.max_new_tokens >= 46


def test_other_letters_are_told(cli, place):
    Path("ja.txt").write_text("".join(f"浜辺で犬が走っている{n}\n" for n in range(9)))
    ran = cli("init", "ja.txt", *MINI)
    assert ran.code == 0, ran
    assert "Hiragana" in ran.out
    assert "characters (" in ran.out
    assert "unknown to mini" in ran.out


def test_characters_that_the_language_model_writes_otherwise_are_told(cli, place):
    file = tiny.t5_dir(place / "model") / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "NFKC"}}))
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in tiny.WORDS[5])
    Path("c.txt").write_text("".join(f"{tiny.WORDS[n]} {tiny.WORDS[n + 1]}\n" for n in range(9)) + f"{wide}\n")
    ran = cli("init", "c.txt", "--encoder", "mini", "--language-model", "model")
    assert ran.code == 0, ran
    assert f"model writes 10% of the targets otherwise: {wide} as {tiny.WORDS[5]}; and so its captions" in ran.out
    Path("c.txt").write_text("a dog\n  a cat , and  a bird .\n")
    assert "characters:" not in cli("init", "c.txt", *MINI, "--overwrite").out


def test_columns_are_given_once(cli, place):
    lines = "".join(f"{n};ein Hund läuft über die Wiese {n}\n" for n in range(9))
    Path("t.csv").write_text("Nummer;Beschreibung\n" + lines, encoding="utf-8")
    ran = cli("init", "t.csv", *MINI, "--columns", "caption=Beschreibung")
    assert ran.code == 0, ran
    assert load_recipe("recipe.yaml").data.columns == {"caption": "Beschreibung"}
    assert len([line for line in ran.messages if "columns:" in line]) == 1
    assert "function words of English" in ran.out


BAD = [
    ("empty.txt", b"", "empty.txt: the file is empty"),
    ("win.csv", "file,caption\na.jpg,größer\n".encode("cp1252"), "--encoding cp1252"),
    ("mixed.jsonl", b'{"source": "a", "task": "vqa"}\n{"source": "b", "task": "news"}\n', "several tasks (news, vqa)"),
    ("what.jsonl", b'{"source": "a", "context": "b", "target": "c"}\n', "it is not known what for; say it: --task"),
    ("asks.jsonl", b'{"source": "a", "task": "vqa"}\n', "asks.jsonl: row '1': task 'vqa' needs 'context'"),
    ("half.jsonl", b'{"source": "a"}\n{"image": "a.png", "target": "b"}\n', "half.jsonl: row '2' has no 'source' text"),
    ("eval.jsonl", b'{"image": "a.png", "references": ["a"]}\n', "no row has a 'source' text to learn from"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD, ids=[name for name, _, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(told, place, name, content, words):
    Path(name).write_bytes(content)
    assert words in told("init", name, *MINI)
    assert [path.name for path in place.iterdir()] == [name]


def test_photos_in_place_of_captions(told, place, pictures):
    assert "12 pictures and no captions; expected a file of captions" in told("init", pictures, *MINI)
    assert "2 files: a recipe learns from one" in told("init", "a.txt", "b.txt", *MINI)
    assert "no such folder or table of photos" in told("init", "a.txt", *MINI, "--photos", "gone")


@pytest.mark.parametrize("table", ["nan.npy", "one.npy", "damaged"])
def test_what_is_wrong_with_photos_is_told_and_nothing_is_written(told, cli, place, world, table):
    vectors = np.random.default_rng(0).normal(size=(12, 64)).astype(np.float32)
    if table == "damaged":
        assert cli("embed", "images", world / "images", "--encoder", "mini", "--out", table).code == 0
        content = bytearray(Path(table, "vectors.npy").read_bytes())
        content[-3] ^= 1
        Path(table, "vectors.npy").write_bytes(content)
    else:
        vectors[3] = np.nan if table == "nan.npy" else vectors[3]
        np.save(table, vectors[: 1 if table == "one.npy" else 12])
    assert table in told("init", world / "captions.jsonl", *MINI, "--photos", table)
    assert not Path("recipe.yaml").exists()


def test_photos_of_another_encoder_are_told_before_texts_are_embedded(told, place, world, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(12, 64)).astype(np.float32)
    EmbeddingTable.from_numpy(vectors, "theirs", encoder="theirs", fingerprint="f" * 64, modality="image")
    np.save("narrow.npy", vectors)
    monkeypatch.setattr("close.vectors.cache.cached_table", lambda *_, **__: pytest.fail("embeds"))
    said = told("init", world / "captions.jsonl", *MINI, "--photos", "theirs")
    assert "--photos theirs comes from encoder 'theirs'" in said
    said = told("init", world / "captions.jsonl", *MINI, "--photos", "narrow.npy")
    assert "--photos narrow.npy has 64 columns, and encoder 'mini' of close init has 256" in said


def test_other_captions_are_refused_before_anything_is_embedded(told, place, world, monkeypatch):
    monkeypatch.setattr("close.encoders.load_encoder", lambda _: pytest.fail("embeds"))
    Path("c.txt").write_text("".join(f"a dog {n}\n" for n in range(20)))
    rows = [{"source": text, "group": "g"} for text in ("a dog", "a brown dog")]
    Path("g.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    several = (*MINI, "--captions", "multiple")
    assert "no images have several: 8 are needed" in told("init", "c.txt", *several)
    assert "1 images have several: 8 are needed" in told("init", "g.jsonl", *several)
    assert "task vqa asks something of each" in told("init", world / "vqa.jsonl", *several)


def test_photos_that_are_rows_are_not_named_where_files_are_wanted(cli, place, world):
    Path("rows.jsonl").write_text("".join(f'{{"image": "{path}"}}\n' for path in sorted((world / "images").iterdir())))
    ran = cli("init", world / "captions.jsonl", *MINI, "--photos", "rows.jsonl")
    assert ran.code == 0, ran
    assert "close caption runs/captions PHOTOS" in ran.out


def test_all_rows_are_counted_and_the_longest_is_looked_at(cli, place):
    long = f"the last {'very ' * 118}end"
    Path("tail.txt").write_text("".join(f"a dog number {n} runs\n" for n in range(1200)) + long)
    ran = cli("init", "tail.txt", *MINI)
    assert ran.code == 0, ran
    assert "words (5 to 121)" in ran.out
    assert re.search(r"tokens \(\d+ to 1\d\d\) of mini in 1,001 of 1,201", ran.out)


def test_captions_count_where_they_differ_and_are_of_one_image(tmp_path):
    two, asked = ["a dog", "a cat"], {"source": "a dog", "context": "how many dogs?", "target": "one", "group": "g"}
    files = {
        "nlvr2": [{"source": two, "context": f"{n} dogs", "label": "True", "group": "g"} for n in range(3)],
        "vqa": [asked, asked],
        "caption": [{"source": two}, {"source": "a dog", "group": "g"}, {"source": "a cat", "group": "g"}],
    }
    for task, rows in files.items():
        (tmp_path / f"{task}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = {task: survey(open_rows(tmp_path / f"{task}.jsonl")).several for task in files}
    assert found == {"nlvr2": 0, "vqa": 0, "caption": 2}


def test_the_captions_of_two_pictures_are_not_advised_by_as_of_one(cli, place):
    things = [
        f"{colour} {shape}"
        for colour in ("red", "green", "purple", "blue")
        for shape in ("ring", "diamond", "triangle")
    ]
    rows = [{"source": [f"a {one}", f"a large {one}"], "context": "one is blue", "label": "True"} for one in things]
    Path("two.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ran = cli("init", "two.jsonl", *MINI)
    assert ran.code == 0, ran
    assert "12 rows for task nlvr2; no two are of one image" in ran.out
    assert "no two texts share a group" in ran.messages[-1]


CAPITALS = {
    "my cat and I at home": False,
    "I'm sure that I saw it. It ran": False,
    "A DOG": False,
    "the iMac, an eBook of theirs": False,
    "a DOG": True,
    "a dog of Anna": True,
    "the McDonald sign": True,
    "充電器 型番ＡＢ－7対応です。": True,
    "USBポート": True,
    "商品です。": False,
}


@pytest.mark.parametrize(("text", "tells"), CAPITALS.items(), ids=CAPITALS)
def test_capitals_that_tell_something(tmp_path, text, tells):
    (tmp_path / "c.txt").write_text(text)
    assert survey(open_rows(tmp_path / "c.txt")).capitals == tells


def test_tasks_are_told_by_their_keys(tmp_path):
    rows = {
        "vqa": {"source": "a dog", "context": "how many dogs are there?", "target": "one"},
        "entailment": {"source": "a dog", "context": "an animal", "label": "entailment"},
        "nlvr2": {"source": ["a", "b"], "context": "one is a dog", "label": "True"},
        "news": {"source": "a dog", "context": "an article"},
        "caption": {"source": "a dog"},
    }
    for task, row in rows.items():
        (tmp_path / f"{task}.jsonl").write_text(json.dumps(row))
        assert survey(open_rows(tmp_path / f"{task}.jsonl")).task.name == task


def test_a_slip_is_told_before_torch_is_loaded(place, pictures):
    code = (
        "import sys, close.cli as c\ntry: c.main()\n"
        "except SystemExit as stop: print(stop.code, [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    own = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    for data in ("gone.txt", pictures):
        command = [sys.executable, "-c", code, "init", data]
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=300)
        assert done.stdout == "1 []\n", done.stderr
