"""A memory of texts, searched from both sides, against sorting everything."""

import json
import os

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import DataError, MismatchError, MissingError, RecipeError
from close.retrieval.finder import open_finder
from close.retrieval.memory import Memory
from close.retrieval.settings import Retrieval
from close.retrieval.training import find
from close.tasks import get_task
from close.vectors.build import embed_texts
from close.vectors.cache import cached_table

ROWS = [
    *tiny.caption_rows(40),
    {"id": "twin", "source": tiny.sentences(40)[3], "group": "other"},
    {"id": "TWIN", "source": f"{tiny.sentences(40)[3].upper()}.", "group": "third"},
    {"id": "two", "source": ["a red dog", "a blue cat"], "group": "g0"},
]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return load_encoder(str(tiny_encoder))


@pytest.fixture(scope="module")
def other(zoo):
    return load_encoder(str(zoo("hf_clip_dir")))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return open_rows(tiny.write_jsonl(tmp_path_factory.mktemp("memory") / "rows.jsonl", ROWS))


class Queries:
    """The mean of a row's vectors."""

    def __init__(self, rows, encoder):
        self.x = torch.stack([F.normalize(encoder.text_features(list(row.source)).mean(0), dim=0) for row in rows])

    def __len__(self):
        return len(self.x)

    def main(self, rows):
        return self.x[list(rows)].numpy()


def search(memory, rows, encoder, seed=0, part=0, **settings):
    return find(
        memory,
        Queries(rows, encoder),
        "queries",
        Retrieval(**settings),
        rows,
        get_task("caption"),
        seed=seed,
        part=part,
    )


def own_words(text):
    return text.lower().strip(".").split()


@pytest.mark.parametrize("index", ["exact", "lists"])
@pytest.mark.parametrize("leave_out", ["texts", "groups"])
def test_training_finds_the_nearest_that_are_not_its_own(rows, encoder, leave_out, index):
    if index == "lists":
        pytest.importorskip("faiss")
    memory = Memory.open(rows.path, lambda: encoder)
    found = search(memory, rows, encoder, k=5, leave_out=leave_out, index=index)
    texts = memory.texts(range(len(memory)))
    assert len(memory) == len(
        {text for row in ROWS for text in ([row["source"]] if isinstance(row["source"], str) else row["source"])}
    )
    groups = {}
    for row in rows:
        groups.setdefault(row.group, set()).update(" ".join(own_words(text)) for text in row.source)
    vectors = F.normalize(encoder.text_features(texts), dim=-1)
    for number, row in enumerate(rows):
        hidden = {" ".join(own_words(text)) for text in row.source} | (
            groups[row.group] if leave_out == "groups" else set()
        )
        cosines = vectors @ Queries([row], encoder).x[0]
        left = [place for place in range(len(texts)) if " ".join(own_words(texts[place])) not in hidden]
        best = sorted((float(cosines[place]) for place in left), reverse=True)[:5]
        assert not {" ".join(own_words(text)) for text in memory.texts(found.places[number])} & hidden, row.id
        np.testing.assert_allclose(cosines[torch.from_numpy(found.places[number])], best, atol=1e-5)


def test_the_noise_is_of_seed_and_row_and_what_was_found_is_kept(rows, encoder, monkeypatch):
    memory = Memory.open(rows, lambda: encoder)
    clean, noised = search(memory, rows, encoder), search(memory, rows, encoder, noise={"cosine": 0.3})
    assert (clean.places != noised.places).mean() > 0.3
    assert (search(memory, rows, encoder, seed=1, noise={"cosine": 0.3}).places != noised.places).mean() > 0.3
    assert (search(memory, rows, encoder, part=1, noise={"cosine": 0.3}).places != noised.places).mean() > 0.3
    twice = np.flatnonzero([row.id in ("r3", "twin") for row in rows])
    assert (noised.places[twice[0]] != noised.places[twice[1]]).any()  # one text, two rows
    monkeypatch.setattr("close.retrieval.training.nearest", None)  # not searched again
    assert np.array_equal(search(memory, rows, encoder, noise={"cosine": 0.3}).places, noised.places)


def test_what_was_kept_and_is_damaged_is_found_again(rows, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path))
    memory = Memory.open(rows, lambda: encoder)
    before = search(memory, rows, encoder).places.copy()
    (file,) = (tmp_path / "neighbours").glob("*.npy")
    data = bytearray(file.read_bytes())
    data[-8] ^= 1
    file.write_bytes(data)
    assert np.array_equal(search(memory, rows, encoder).places, before)


def test_what_was_kept_is_of_the_rows_of_a_table_too(rows, encoder, tmp_path, monkeypatch):
    """The groups, and what says the same, are in the rows; a table's plan does not change with them."""
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    table = embed_texts(rows, encoder, tmp_path / "table").path
    text = tmp_path / "texts.jsonl"

    def found(values):
        memory = Memory.open(table, lambda: encoder, texts=tiny.write_jsonl(text, values))
        return search(memory, rows, encoder, k=2, leave_out="groups").places

    in_groups = found(ROWS)
    alone = found([row | {"group": row["id"]} for row in ROWS])
    assert not np.array_equal(in_groups, alone)
    without = search(Memory.open(table, lambda: encoder), rows, encoder, k=40)
    with_rows = search(Memory.open(table, lambda: encoder, texts=text), rows, encoder, k=40)
    assert not np.array_equal(without.places, with_rows.places)  # only rows tell that TWIN says the same
    assert np.array_equal(found(ROWS), in_groups)


def test_what_becomes_of_it(rows, encoder):
    memory = Memory.open(rows, lambda: encoder)
    found = search(memory, rows, encoder, k=3)
    assert np.array_equal(found.vectors(0), memory.vectors[found.places[0]])
    assert found.context(0, "why?", 0) == "why?"
    raw = search(memory, rows, encoder, k=3, raw=True).vectors(0)
    np.testing.assert_allclose(raw, encoder.text_features(memory.texts(found.places[0])), atol=1e-5)
    said = search(memory, rows, encoder, k=3, into="captions")
    assert said.vectors(0) is None
    assert said.context(0, "why?", 0) == f"why? Similar images show {'; '.join(memory.texts(found.places[0]))}."
    words = search(memory, rows, encoder, into="words", dropout=0.0, attributes=False)
    assert words.context(len(rows) - 1, "", 0) == "There are dog, cat in image."
    dropped = search(memory, rows, encoder, into="words", dropout=0.5, prompt="Was ist {}?")
    first = [dropped.context(row, "", 0) for row in range(len(rows))]
    assert first == [dropped.context(row, "", 0) for row in range(len(rows))]
    kept = sum(text.count(",") + 1 for text in first if "something" not in text)
    every = sum(
        search(memory, rows, encoder, into="words", dropout=0.0).context(row, "", 0).count(",") + 1
        for row in range(len(rows))
    )
    assert 0.3 * every < kept < 0.7 * every
    assert first != [dropped.context(row, "", 1) for row in range(len(rows))]  # others in each epoch
    both = search(memory, rows, encoder, k=3, into=["vectors", "words"], dropout=0.0, attributes=False)
    assert np.array_equal(both.vectors(0), found.vectors(0))
    assert both.context(len(rows) - 1, "", 0) == "There are dog, cat in image."
    assert any(text == "Was ist something?" for text in first) or kept


def test_in_use(rows, encoder):
    finder = open_finder({"k": 2}, rows, lambda: encoder, "run")
    x = encoder.encode_text(["a red dog", "a green bird at night"])
    by_image, by_text = finder(x, "image"), finder(x, "text")
    assert finder.memory.texts(by_image.places[0])[0] == "a red dog"
    assert by_text.places[0][0] == by_image.places[0][1]  # a text does not find itself
    assert by_image.vectors.shape == (2, 2, encoder.embed_dim)
    np.testing.assert_allclose(by_image.vectors[0, 0], x[0], atol=1e-6)
    said = open_finder({"k": 2, "into": "captions"}, rows, lambda: encoder, "run")(x, "image")
    assert said.context(0, "").startswith("Similar images show a red dog; ")
    words = open_finder({"k": 3, "into": "words", "at_least": 3}, rows, lambda: encoder, "run")(x[:1], "image")
    named = words.context(0, "what?")
    assert named.startswith("what? There are ")
    assert named.endswith(" in image.")
    settings = {"k": 2, "into": ["vectors", "words"], "among": 3, "at_least": 3}
    both = open_finder(settings, rows, lambda: encoder, "run")(x[:1], "image")
    assert torch.equal(both.vectors, by_image.vectors[:1])
    assert both.context(0, "what?") == named


def test_validation_in_bf16_finds_what_is_found_in_use(rows, encoder):
    finder = open_finder({"k": 9}, rows, lambda: encoder, "run")
    x = F.normalize(torch.randn(20, encoder.embed_dim, generator=torch.Generator().manual_seed(0)), dim=-1)
    wanted = finder(x, "image").places
    with torch.autocast("cpu", torch.bfloat16):
        found = finder(x, "image").places
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("of", "asks"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_text_does_not_find_itself_in_another_precision(tmp_path, of, asks):
    """A run that holds its memory, made on an accelerator, is asked on a laptop."""
    encoders = {name: load_encoder("mini", precision=name) for name in {of, asks}}
    texts = ["a red star", "a big blue ring", "a tiny green dog on the left", "two yellow circles"]
    rows = open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": text} for text in texts]))
    finder = open_finder({"k": 3}, rows, lambda: encoders[of], "run")
    found = finder(torch.cat([encoders[asks].encode_text([text]) for text in texts]), "text").places
    assert all(text not in finder.memory.texts(places) for text, places in zip(texts, found, strict=True))


def test_it_can_be_searched_in_another_encoder(rows, encoder, other, tmp_path):
    memory = Memory.open(rows, lambda: encoder, search=lambda: other)
    found = search(memory, rows, other, k=4)
    alone = Memory.open(rows, lambda: other)
    assert np.array_equal(found.places, search(alone, rows, other, k=4).places)
    assert found.vectors(0).shape == (4, encoder.embed_dim)
    memory.save(tmp_path / "kept")
    kept = Memory.open(tmp_path / "kept", lambda: encoder, search=lambda: other)
    x = other.encode_text(["a red dog"])
    finder = open_finder({"k": 4}, memory, lambda: encoder, "run")
    again = open_finder({"k": 4}, kept, lambda: encoder, "run")
    assert torch.equal(finder(x, "image").vectors, again(x, "image").vectors)
    assert kept.texts(range(len(kept))) == memory.texts(range(len(memory)))


def test_a_memory_that_does_not_fit(rows, encoder, other, tmp_path):
    table = embed_texts(rows, encoder, tmp_path / "table")
    assert len(Memory.open(table.path, lambda: encoder)) == len(Memory.open(rows, lambda: encoder))
    with pytest.raises(MismatchError, match="comes from encoder"):
        Memory.open(table.path, lambda: other)
    with pytest.raises(RecipeError, match="give rows to search in another one"):
        Memory.open(table.path, lambda: encoder, search=lambda: other)
    Memory.open(table.path, lambda: encoder).save(tmp_path / "saved")
    with pytest.raises(RecipeError, match="give rows to search in another one"):
        Memory.open(tmp_path / "saved", lambda: encoder, search=lambda: other)
    with pytest.raises(RecipeError, match="its words are in the rows"):
        open_finder({"k": 2, "into": "captions"}, table.path, lambda: encoder, "run")
    few = open_rows(tiny.write_jsonl(tmp_path / "few.jsonl", ROWS[:5]))
    with pytest.raises(RecipeError, match="5 different texts, and k is 5"):
        open_finder({"k": 5}, few, lambda: encoder, "run")
    with pytest.raises(MismatchError, match="is not what the table"):
        Memory.open(table.path, lambda: encoder, texts=few.path).texts([0])
    memory = Memory.open(few, lambda: encoder)
    with pytest.raises(DataError, match=r"row 'r0' .* finds 1 texts that are not its own"):
        search(memory, few, encoder, k=2, leave_out="groups")


def test_the_memory_of_a_run_is_the_one_it_was_trained_with(rows, encoder, tmp_path):
    place = tmp_path / "memory.jsonl"
    place.write_text(rows.path.read_text())
    about = {"k": 2, "memory": {"reference": "../memory.jsonl", "sha256": open_rows(place).sha256}}
    assert len(open_finder(about, None, lambda: encoder, tmp_path / "run").memory) > 40
    with place.open("a") as file:
        file.write(json.dumps({"id": "new", "source": "a new one"}) + "\n")
    with pytest.raises(MismatchError, match="has changed since"):
        open_finder(about, None, lambda: encoder, tmp_path / "run")
    assert open_finder(about, place, lambda: encoder, tmp_path / "run")  # asked for by name
    place.unlink()
    with pytest.raises(MissingError, match="give one"):
        open_finder(about, None, lambda: encoder, tmp_path / "run")


def test_a_run_finds_its_table_and_the_rows_that_it_was_made_of(rows, encoder, tmp_path):
    table = embed_texts(rows, encoder, tmp_path / "table")
    memory = Memory.open(table.path, lambda: encoder, texts=rows.path)
    kept = {"reference": "../table", "texts": os.path.relpath(rows.path, tmp_path / "run"), "sha256": memory.sha256}
    finder = open_finder({"k": 2, "into": "captions", "memory": kept}, None, lambda: encoder, tmp_path / "run")
    said = finder(encoder.encode_text(["a red dog"]), "image").context(0, "")
    assert said.startswith("Similar images show a red dog; ")
    assert memory.path == table.path


COLUMNS = {"caption": "beschreibung", "group": "bild"}


def as_tables(rows, folder, shards):
    """The first rows as CSV with columns that nobody knows, in so many files."""
    folder.mkdir()
    for part in range(shards):
        lines = [f"{row.source[0]},{row.group}\n" for row in rows[part:40:shards]]
        (folder / f"{part}.csv").write_text("beschreibung,bild\n" + "".join(lines))
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_run_reads_its_memory_by_the_columns_it_was_trained_with(rows, encoder, tmp_path, shards):
    place = as_tables(rows, tmp_path / "tables", shards)
    place = place / "0.csv" if shards == 1 else place
    sum_of_it = open_rows(place, COLUMNS).sha256
    kept = {"reference": os.path.relpath(place, tmp_path / "run"), "sha256": sum_of_it, "columns": COLUMNS}
    about = {"k": 2, "into": "captions", "memory": kept}
    finder = open_finder(about, None, lambda: encoder, tmp_path / "run")
    assert sorted(finder.memory.texts(range(40))) == sorted(row.source[0] for row in rows[:40])
    with (place if shards == 1 else place / "0.csv").open("a") as file:
        file.write("a new one,g0\n")
    with pytest.raises(MismatchError, match="has changed since"):
        open_finder(about, None, lambda: pytest.fail("it was embedded"), tmp_path / "run")


def test_the_rows_of_a_table_are_read_by_their_columns(rows, encoder, tmp_path):
    texts = as_tables(rows, tmp_path / "tables", 1) / "0.csv"
    table = embed_texts(open_rows(texts, COLUMNS), encoder, tmp_path / "table").path
    memory = Memory.open(table, lambda: encoder, texts=texts, columns=COLUMNS)
    assert memory.groups["g1"] == [row.source[0] for row in rows[4:8]]
    with pytest.raises(DataError, match="no column of captions"):
        Memory.open(table, lambda: encoder, texts=texts)
    kept = {"reference": "../table", "texts": "../tables/0.csv", "sha256": memory.sha256, "columns": COLUMNS}
    finder = open_finder({"k": 2, "into": "captions", "memory": kept}, None, lambda: encoder, tmp_path / "run")
    assert finder.memory.texts([0]) == [rows[0].source[0]]


@pytest.mark.parametrize(
    "settings",
    [
        {"k": "5"}, {"k": 10**9}, {"k": True}, {"into": ["captions", "words"]},
        {"raw": 1}, {"language": None}, {"prompt": "{} {}"},
        {"encoder": 3}, {"at_least": 0}, {"dropout": 2}, {"noise": 0.5}, {"memory": "x.jsonl"}, {"memory": {"reference": 3}},
    ],
)  # fmt: skip
def test_a_configuration_that_was_damaged(encoder, settings):
    with pytest.raises(RecipeError, match=r"can't be|into is one of|prompt has one"):
        open_finder(settings, None, lambda: encoder, "run")


def test_a_table_is_of_texts(encoder, pictures, tmp_path):
    values = [{"id": p.name, "image": str(p)} for p in sorted(pictures.iterdir())]
    images = open_rows(tiny.write_jsonl(tmp_path / "images.jsonl", values))
    with pytest.raises(MismatchError, match="a memory is of texts"):
        Memory.open(cached_table(images, encoder, "image").path, lambda: encoder)
