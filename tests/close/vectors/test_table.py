"""Embedding tables: one vector a distinct text, on disk, resumable, refused when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from close.data.rows import RowFile
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import CloseError, DataError, MismatchError, MissingError, OutputExistsError
from close.io.files import locked
from close.io.keys import text_key
from close.vectors import build
from close.vectors import table as reading
from close.vectors.build import TableBuilder, embed_images, embed_texts, find_images
from close.vectors.cache import cached_images, cached_table
from close.vectors.open import check_encoder
from close.vectors.table import EmbeddingTable

ABOUT = {"encoder": "e", "fingerprint": "f", "modality": "text", "dim": 3}


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> ContrastiveEncoder:
    return load_encoder(str(tiny_encoder), device="cpu")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (reading, build):
        monkeypatch.setattr(room, "CHUNK", 7)
    monkeypatch.setattr(build, "IMAGE_CHUNK", 5)


@pytest.fixture
def rows(tmp_path: Path) -> RowFile:
    """60 rows with 20 distinct texts, some rows with several."""
    texts = tiny.sentences(20)
    several = [[texts[i % 20], texts[(i * 3) % 20]] if i % 5 == 0 else texts[i % 20] for i in range(60)]
    values = [{"id": f"ü{i}", "source": source} for i, source in enumerate(several)]
    return RowFile(tiny.write_jsonl(tmp_path / "rows.jsonl", values))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("small_chunks")
def test_texts(rows, encoder, tmp_path):
    table = embed_texts(rows, encoder, tmp_path / "t")
    assert table.shape == (72, 16)  # 12 rows have two sources
    assert table.vectors.shape == (20, 16)
    assert table.ids[:3] == ["ü0#0", "ü0#1", "ü1"]
    assert table.ids[-1] == "ü59"
    sources = [text for row in rows for text in row.source]
    wanted = encoder.encode_text(sources).numpy()
    assert np.allclose(np.asarray(table), wanted, atol=1e-5)
    assert np.allclose(table[5:9], wanted[5:9], atol=1e-5)
    assert np.allclose(table[np.array([70, 1])], wanted[[70, 1]], atol=1e-5)
    raw = encoder.text_features(sources).numpy()
    assert np.allclose(table.raw(table.index[:]), raw, atol=1e-4)
    assert (table.locate(sources) == table.index).all()
    with pytest.raises(DataError, match="'a text unheard of' is not in this table"):
        table.locate([sources[0], "a text unheard of"])
    assert (table.encoder, table.fingerprint, table.modality) == (encoder.name, encoder.fingerprint, "text")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("t.")] == []


def test_the_chunk_size_changes_nothing_but_rounding(rows, encoder, tmp_path, monkeypatch):
    whole = embed_texts(rows, encoder, tmp_path / "a")
    monkeypatch.setattr(build, "CHUNK", 3)
    parts = embed_texts(rows, encoder, tmp_path / "b")
    assert np.allclose(whole[:], parts[:], atol=1e-6)
    assert list(whole.ids) == list(parts.ids)


@pytest.mark.usefixtures("small_chunks")
def test_images(pictures, encoder, tmp_path):
    values = [{"image": str(pictures / f"p{i % 12:02}.png")} for i in range(30)]
    values[4]["image"] = str(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no picture")
    values[9]["image"] = values[20]["image"] = str(tmp_path / "text.png")
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", values)
    table = embed_images(find_images(data, encoder.item_suffixes), encoder, tmp_path / "t")
    assert table.info["failed"] == 3
    assert table.vectors.shape == (12, 16)
    kept = [i for i in range(30) if i not in (4, 9, 20)]
    assert list(table.ids) == [str(i + 1) for i in kept]
    assert np.allclose(table[:], encoder.encode_image([values[i]["image"] for i in kept]).numpy(), atol=1e-5)
    failures = [json.loads(line) for line in (tmp_path / "t" / "failures.jsonl").read_text().splitlines()]
    assert [failure["id"] for failure in failures] == ["5", "10"]
    assert "no such file" in failures[0]["reason"]
    assert "text.png" in failures[1]["reason"]


def test_a_folder_of_images(pictures, encoder, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "sub/a.png", "notes.txt"):
        (tmp_path / name).write_bytes((pictures / "p00.png").read_bytes())
    found = find_images(tmp_path, encoder.item_suffixes)
    assert [name for name, _ in found] == ["b.PNG", "sub/a.png"]
    with pytest.raises(DataError, match="no image in it"):
        find_images(tmp_path / "sub", (".gif",))
    with pytest.raises(MissingError):
        find_images(tmp_path / "gone", (".png",))


def test_nothing_readable_leaves_nothing(encoder, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"no item could be embedded; the first: .*a\.png"):
        embed_images([("a", tmp_path / "a.png")], encoder, tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    tiny.picture(tmp_path / "a.png", 0)
    assert len(embed_images([("a", tmp_path / "a.png")], encoder, tmp_path / "t")) == 1


@pytest.mark.parametrize("name", ["table.partial", "table.whole"])
@pytest.mark.parametrize("kind", ["notes.txt", ".env", "a table"])
def test_what_no_build_has_begun_stays(name, kind, pictures, encoder, tmp_path):
    if kind == "a table":
        stranger = embed_images(pictures_in(pictures, encoder)[:3], encoder, tmp_path / name).path
    else:
        (stranger := tmp_path / name).mkdir()
        (stranger / kind).write_text("mine", encoding="utf-8")
    held = {file.name: file.read_bytes() for file in stranger.iterdir()}
    (tmp_path / "bad.png").write_bytes(b"no picture")  # what can't be read makes the second folder
    with pytest.raises(OutputExistsError, match="move it away"):
        embed_images([*pictures_in(pictures, encoder), ("bad", tmp_path / "bad.png")], encoder, tmp_path / "table")
    assert {file.name: file.read_bytes() for file in stranger.iterdir()} == held


def test_a_whole_table_minds_no_neighbour(pictures, encoder, tmp_path):
    made = embed_images(pictures_in(pictures, encoder), encoder, tmp_path / "table")
    (tmp_path / "table.partial").mkdir()
    for file in (tmp_path / "table.partial" / "notes.txt", tmp_path / "table.partial.json"):
        file.write_text('{"my": "notes"}', encoding="utf-8")
    again = embed_images(pictures_in(pictures, encoder), encoder, tmp_path / "table")
    assert again.info == made.info
    assert (tmp_path / "table.partial" / "notes.txt").is_file()
    assert (tmp_path / "table.partial.json").is_file()
    (tmp_path / "other.partial.json").write_text('{"my": "notes"}', encoding="utf-8")
    with pytest.raises(OutputExistsError, match=r"other\.partial\.json exists"):
        embed_images(pictures_in(pictures, encoder), encoder, tmp_path / "other")


def pictures_in(folder, encoder):
    return find_images(folder, encoder.item_suffixes)


def test_a_changed_picture_is_another_picture(encoder, tmp_path):
    path = tiny.picture(tmp_path / "a.bmp", 0)
    first = embed_images([("a", path)], encoder, tmp_path / "t")[:]
    tiny.picture(path, 1)  # of the same size in bytes
    with pytest.raises(OutputExistsError):
        embed_images([("a", path)], encoder, tmp_path / "t")
    assert not np.allclose(first, embed_images([("a", path)], encoder, tmp_path / "u")[:])


class TestResume:
    """Stopped anywhere, a build continues to the same bytes."""

    def encode(self, seen: list[int], stop: int | None = None) -> Callable[..., tuple[torch.Tensor, dict[int, str]]]:
        def encode(positions):
            if stop is not None and len(seen) >= stop:
                raise KeyboardInterrupt
            seen.extend(positions.tolist())
            return torch.stack([torch.tensor([1.0, p, p * p]) for p in positions.tolist()]), {}

        return encode

    def rows(self, count: int = 50) -> Iterator[tuple[str, int]]:
        return ((f"r{i}", text_key(str(i % 40))) for i in range(count))

    @pytest.mark.parametrize("stop", [0, 8, 16, 32])
    def test_no_item_is_encoded_twice(self, tmp_path, stop):
        TableBuilder(tmp_path / "whole", ABOUT, chunk=8).build(self.rows(), self.encode([]))
        seen: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), self.encode(seen, stop))
        with pytest.raises(MissingError, match="unfinished"):
            EmbeddingTable(tmp_path / "t")
        TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), self.encode(seen))
        assert seen == list(range(40))
        assert contents(tmp_path / "t") == contents(tmp_path / "whole")
        TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), self.encode(seen))
        assert seen == list(range(40))  # a whole table is left as it is

    def test_other_work_is_refused(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), self.encode([], stop=8))
        with pytest.raises(OutputExistsError, match="belongs to another job"):
            TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(49), self.encode([]))
        with pytest.raises(OutputExistsError, match="belongs to another job"):
            TableBuilder(tmp_path / "t", ABOUT | {"fingerprint": "g"}, chunk=8).build(self.rows(), self.encode([]))
        TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), self.encode([]))
        with pytest.raises(OutputExistsError, match="holds something else"):
            TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(49), self.encode([]))

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "thesis.tex").touch()
        with pytest.raises(OutputExistsError, match="holds something else"):
            TableBuilder(tmp_path / "t", ABOUT).build(self.rows(), self.encode([]))
        assert (tmp_path / "t" / "thesis.tex").exists()

    def test_failures_are_remembered(self, tmp_path):
        def encode(positions):
            features, _ = self.encode([])(positions)
            bad = [i for i, p in enumerate(positions.tolist()) if p % 10 == 3]
            features[bad] = torch.nan
            return features, {int(positions[i]): f"broken {positions[i]}" for i in bad}

        def stopping(positions):
            if positions[0] >= 16:
                raise KeyboardInterrupt
            return encode(positions)

        TableBuilder(tmp_path / "whole", ABOUT, chunk=8).build(self.rows(), encode)
        with pytest.raises(KeyboardInterrupt):
            TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), stopping)
        table = TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(self.rows(), encode)
        assert contents(tmp_path / "t") == contents(tmp_path / "whole")
        assert table.info["failed"] == 5  # four items, one of them in two rows
        assert [i for i in range(50) if f"r{i}" not in table.ids[:]] == [3, 13, 23, 33, 43]
        assert (table.vectors[:, 1] / table.vectors[:, 0] % 10 != 3).all()


@pytest.mark.parametrize(("value", "words"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "zero")])
def test_a_vector_that_is_none_is_told(tmp_path, value, words):
    vectors = np.ones((5, 3), np.float32)
    vectors[3] = value
    with pytest.raises(DataError, match=rf"row 3 is {words}"):
        EmbeddingTable.from_numpy(vectors, tmp_path / "t")
    assert not list(tmp_path.iterdir())
    vectors[3] = 2
    table = EmbeddingTable.from_numpy(vectors, tmp_path / "t", encoder="mine")
    assert repr(table) == f"EmbeddingTable({str(tmp_path / 't')!r}: 5 rows, dim=3, modality='text', encoder='mine')"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.usefixtures("small_chunks")
def test_numpy_and_back(tmp_path, dtype):
    vectors = np.random.default_rng(0).normal(size=(23, 6)).astype(dtype)
    np.save(tmp_path / "given.npy", vectors)
    names = [f"name {i}" for i in range(23)]
    texts = [f"text {i % 9}" for i in range(23)]
    table = EmbeddingTable.from_numpy(
        tmp_path / "given.npy", tmp_path / "t", encoder="e", fingerprint="f", modality="image", ids=names, texts=texts
    )
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    assert np.allclose(table[:], unit, atol=1e-6)
    assert np.allclose(table.raw(np.arange(23)), vectors.astype(np.float32), rtol=1e-5, atol=1e-6)
    assert texts[int(table.locate(["text 4"])[0])] == "text 4"
    table.export(tmp_path / "out" / "given.npy")
    assert (np.load(tmp_path / "out" / "given.npy") == table[:]).all()
    assert (tmp_path / "out" / "given.ids.txt").read_text().splitlines() == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["given.ids.txt", "given.npy"]
    again = EmbeddingTable.from_numpy(tmp_path / "out" / "given.npy", tmp_path / "u", modality="image", ids=names)
    assert np.allclose(again[:], table[:], atol=1e-6)


def test_rows_of_unit_length_stay_to_the_bit(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    given = unit.copy()
    given[7:10] *= 1.0001  # no rounding
    table = EmbeddingTable.from_numpy(given, tmp_path / "t")
    assert (np.delete(table[:], slice(7, 10), 0) == np.delete(unit, slice(7, 10), 0)).all()
    assert (table.raw(np.arange(200))[:7] == unit[:7]).all()
    assert np.abs(np.linalg.norm(table[7:10], axis=1) - 1).max() <= 1e-6
    assert np.allclose(table.norms[7:10], 1.0001, rtol=1e-6)
    other = EmbeddingTable.from_numpy(vectors, tmp_path / "o")
    other.export(tmp_path / "o.npy")
    assert (EmbeddingTable.from_numpy(tmp_path / "o.npy", tmp_path / "again")[:] == other[:]).all()


def test_other_vectors_are_not_taken_for_those_that_are_there(tmp_path):
    first, second = np.random.default_rng(0).normal(size=(2, 10, 4))
    kept = EmbeddingTable.from_numpy(first, tmp_path / "t")
    assert np.array_equal(EmbeddingTable.from_numpy(first, tmp_path / "t")[:], kept[:])
    with pytest.raises(OutputExistsError, match="holds something else"):
        EmbeddingTable.from_numpy(second, tmp_path / "t")


def test_wrong_arrays(tmp_path):
    for wrong in (np.ones(3), np.ones((0, 3)), np.ones((2, 3, 4))):
        with pytest.raises(DataError, match=r"embeddings are \(N, D\)"):
            EmbeddingTable.from_numpy(wrong, tmp_path / "t")
    with pytest.raises(MismatchError, match="3 ids for 2 vectors"):
        EmbeddingTable.from_numpy(np.ones((2, 3)), tmp_path / "t", ids=["a", "b", "c"])
    with pytest.raises(MismatchError, match="1 texts for 2 vectors"):
        EmbeddingTable.from_numpy(np.ones((2, 3)), tmp_path / "t", texts=["a"])
    for wrong, said in (
        ({"modality": "img"}, "modality is 'text' or 'image', not 'img'"),
        ({"ids": ["a", None]}, "ids are texts, and that of row 1 is None"),
        ({"texts": [1, 2]}, "texts are texts, and that of row 0 is 1"),
    ):
        with pytest.raises(CloseError, match=said):
            EmbeddingTable.from_numpy(np.ones((2, 3)), tmp_path / "t", **wrong)
    assert not (tmp_path / "t").exists()


def test_numbers_as_of_a_data_frame_name_rows_too(tmp_path):
    table = EmbeddingTable.from_numpy(np.eye(3), tmp_path / "t", ids=np.arange(7, 10))
    assert table.ids[:] == ["7", "8", "9"]


@pytest.mark.parametrize(
    "name", ["vectors.npy", "norms.npy", "keys.npy", "index.npy", "ids.npy", "ids.bin", "table.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_damage_is_found(tmp_path, name, damage):
    EmbeddingTable.from_numpy(np.eye(8), tmp_path / "t")
    path = tmp_path / "t" / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "gone":
        path.unlink()
    elif name == "table.json":
        path.write_text("[]")
    elif name.endswith(".npy"):
        np.save(path, np.zeros((3, 3)))
    with_other_bytes = damage == "other" and name == "ids.bin"  # as long as before, which no check can tell
    if with_other_bytes:
        return
    with pytest.raises((DataError, MissingError)) as told:
        EmbeddingTable(tmp_path / "t")
    assert str(tmp_path / "t") in str(told.value)


def test_another_encoder_is_refused(tmp_path):
    table = EmbeddingTable.from_numpy(np.eye(3), tmp_path / "t", encoder="one", fingerprint="1" * 32)
    of = ("the table", table.encoder, table.fingerprint, "the run")
    check_encoder(*of, "moved", "1" * 32)
    check_encoder(*of, None, None)
    check_encoder("a table of an encoder without weights", "one", sha256().hexdigest()[:32], "the run", "one", "2" * 32)
    with pytest.raises(MismatchError) as told:
        check_encoder(*of, "two", "2" * 32)
    assert all(word in str(told.value) for word in ("'one'", "11111111", "'two'", "22222222", "the run"))


HOLD = """
import sys, time
from pathlib import Path
from close.io.files import locked

with locked(Path(sys.argv[1]), "it is built"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_at_a_time(tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path / ".t.lock"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(OutputExistsError, match="by another process right now"):
        EmbeddingTable.from_numpy(np.eye(3), tmp_path / "t")
    holder.kill()  # a lock dies with its process
    holder.communicate()
    assert len(EmbeddingTable.from_numpy(np.eye(3), tmp_path / "t")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_lock_removed_while_waiting_is_not_held(tmp_path):
    path = tmp_path / "lock"
    with locked(path, "it is built"):
        path.unlink()
        path.touch()  # another process's, of the same name
        with path.open() as other:
            import fcntl

            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(OutputExistsError), locked(path, "it is built"):
                pass


class TestCache:
    def test_made_once(self, encoder, tmp_path):
        captions = tiny.write_jsonl(tmp_path / "own.jsonl", tiny.caption_rows(48, seed=5))
        rows = RowFile(captions)
        calls: list[int] = []
        first = cached_table(rows, encoder, "text", progress=lambda done, total: calls.append(done))
        again = cached_table(RowFile(captions), encoder, "text", progress=lambda done, total: calls.append(done))
        assert first.path == again.path
        assert str(first.path).startswith(os.environ["CLOSE_CACHE"])
        assert calls == [0, 48]

    def test_the_same_weights_elsewhere(self, captions, encoder, tiny_encoder, tmp_path):
        import shutil

        cached_table(RowFile(captions), encoder, "text")
        moved = load_encoder(str(shutil.copytree(tiny_encoder, tmp_path / "moved")))
        assert cached_table(RowFile(captions), moved, "text").encoder == moved.name

    def test_an_unreadable_image_is_told(self, pictures, encoder, tmp_path):
        (tmp_path / "bad.png").write_text("no picture")
        values = [{"id": "a", "image": str(pictures / "p00.png")}, {"id": "b", "image": "bad.png"}]
        rows = RowFile(tiny.write_jsonl(tmp_path / "rows.jsonl", values))
        with pytest.raises(DataError, match=r"1 of the images can't be read, the first in row 'b': .*bad\.png"):
            cached_table(rows, encoder, "image")
        again: list[int] = []
        with pytest.raises(DataError, match="1 of the images"):  # by the table, which is kept
            cached_table(rows, encoder, "image", progress=lambda done, total: again.append(done))
        assert not again
        tiny.picture(tmp_path / "bad.png", 0)
        assert len(cached_table(rows, encoder, "image")) == 2

    def test_what_can_be_read_by_now_is_read(self, encoder, tmp_path, monkeypatch):
        """A package was installed, a limit raised, a disk is back: the file itself is as it was."""
        images = [(f"{size}", tiny.picture(tmp_path / f"{size}.png", 0, size=size)) for size in (8, 80)]
        with monkeypatch.context() as small:
            small.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
            for _ in range(2):
                table = cached_images(images, encoder)
                assert [failed["id"] for failed in table.failures] == ["80"]
        table = cached_images(images, encoder)
        assert (list(table.ids), table.failures) == (["8", "80"], [])


MEMORY = """
import resource, sys
import numpy as np, torch
from close.io.keys import text_key
from close.vectors.build import TableBuilder

about = {"encoder": "e", "fingerprint": "f", "modality": "text", "dim": 512}

def encode(positions):
    return torch.ones(len(positions), 512) + torch.from_numpy(positions)[:, None], {}

for count in (4_096, 81_920):
    rows = ((str(i), i) for i in range(count))
    table = TableBuilder(f"{sys.argv[1]}/{count}", about).build(rows, encode)
    assert len(table) == count and np.isclose(np.linalg.norm(table[count - 1]), 1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_memory_does_not_grow_with_the_vectors(tmp_path):
    ran = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], check=True, capture_output=True, text=True)
    few, many = map(int, ran.stdout.split())
    assert many - few < 81_920 * 512 * 4 / 4
