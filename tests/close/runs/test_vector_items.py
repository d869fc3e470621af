"""Text of vectors: what the files that they come from would have said, whatever they lie in."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import close
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import CloseError, DataError, MismatchError, MissingError, UnknownNameError
from close.io.results import ResultFile
from close.runs.pipeline import CloseCaptioner
from close.runs.vector_items import VectorItems
from close.vectors.build import embed_images, embed_texts, images_of
from close.vectors.table import EmbeddingTable


@pytest.fixture(scope="module")
def run(train_small) -> Path:
    return train_small(epochs=4, learning_rate=2e-2, save_strategy="no")


@pytest.fixture(scope="module")
def captioner(run: Path) -> CloseCaptioner:
    return close.load(run, device="cpu")


@pytest.fixture(scope="module")
def embeds(tiny_encoder: Path, pictures: Path) -> torch.Tensor:
    """(12, D) unit rows of the pictures."""
    return load_encoder(str(tiny_encoder)).encode_image(sorted(pictures.iterdir()))


@pytest.fixture(scope="module")
def table(embeds: torch.Tensor, tiny_encoder: Path, tmp_path_factory) -> EmbeddingTable:
    encoder = load_encoder(str(tiny_encoder))
    return EmbeddingTable.from_numpy(
        embeds.numpy(),
        tmp_path_factory.mktemp("tables") / "images",
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        modality="image",
        ids=[f"photo {i}" for i in range(12)],
    )


@pytest.fixture(scope="module")
def said(captioner: CloseCaptioner, pictures: Path) -> list[Any]:
    """What the run says of the pictures themselves."""
    return captioner(str(pictures))


def same(outputs: Any, said: list[Any]) -> None:
    assert [output.text for output in outputs] == [output.text for output in said]
    assert [output.score for output in outputs] == pytest.approx([output.score for output in said], abs=1e-4)
    assert not any(output.error for output in outputs)


def test_says_what_it_says_of_the_pictures(captioner, embeds, table, said, tmp_path):
    lengths = torch.linspace(0.01, 50, 12)[:, None]
    np.save(tmp_path / "v.npy", (embeds * lengths).double().numpy())
    forms = {
        "tensor": embeds,
        "bfloat16's place": (embeds * lengths).requires_grad_(),
        "numpy": embeds.numpy(),
        "far from unit": (embeds * lengths).double().numpy() * 1e30,
        "near zero": embeds.numpy() * np.float32(1e-30),
        "lists": embeds.tolist(),
        "a table": table,
        "its place": table.path,
        "npy": str(tmp_path / "v.npy"),
    }
    for name, vectors in forms.items():
        outputs = captioner.embed_to_text(vectors, batch_size=5)
        same(outputs, said)
        ids = [
            f"photo {i}" if "table" in name or ("place" in name and name != "bfloat16's place") else str(i)
            for i in range(12)
        ]
        assert [output.item for output in outputs] == ids
    one = captioner.embed_to_text(embeds[3] * 7)
    same([one], said[3:4])
    assert (one.item, captioner.embed_to_text(embeds[:0])) == ("0", [])


def test_needs_no_encoder(run, embeds, said, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"encoder": "/gone/away"}))
    same(close.load(tmp_path / "run").embed_to_text(embeds), said)


def test_the_side_of_the_adapter(captioner, embeds, table, tiny_encoder, tmp_path, monkeypatch):
    seen = []
    answer = captioner.answer
    monkeypatch.setattr(captioner, "answer", lambda *a, **k: seen.append(k["modality"]) or answer(*a, **k))
    encoder = load_encoder(str(tiny_encoder))
    about = {"encoder": encoder.name, "fingerprint": encoder.fingerprint}
    texts = EmbeddingTable.from_numpy(embeds.numpy(), tmp_path / "texts", modality="text", **about)
    for vectors, modality in ((embeds, None), (embeds, "text"), (table, None), (texts, None), (texts.path, "image")):
        captioner.embed_to_text(vectors, modality=modality)
    assert seen == ["image", "text", "image", "text", "image"]


def test_bad_rows_are_told_and_the_others_said(captioner, embeds, said, tmp_path):
    vectors = embeds.numpy().copy()
    vectors[2], vectors[7, 3], vectors[8, 0] = 0, np.nan, np.inf
    np.save(tmp_path / "v.npy", vectors)
    for given, where in ((vectors, "the array"), (tmp_path / "v.npy", f"{tmp_path / 'v.npy'}")):
        outputs = captioner.embed_to_text(given, batch_size=4)
        told = {i: output.error for i, output in enumerate(outputs) if output.error}
        assert told == {
            2: f"{where}: row 2 is zero",
            7: f"{where}: row 7 is not finite (NaN or infinity)",
            8: f"{where}: row 8 is not finite (NaN or infinity)",
        }
        same([output for output in outputs if not output.error], [said[i] for i in range(12) if i not in told])
    with pytest.raises(DataError, match="row 0 is zero"):
        captioner.embed_to_text(vectors[2])


@pytest.mark.parametrize(
    ("vectors", "error", "words"),
    [
        (np.ones((3, 5)), MismatchError, "the array has 5 columns, and encoder"),
        (np.ones(5), MismatchError, "has 5 columns"),
        (np.ones((2, 3, 4, 16)), DataError, r"not float64 of shape \(2, 3, 4, 16\)"),
        (np.float32(3), DataError, r"not float32 of shape \(\)"),
        (np.array(["a"] * 16), DataError, "not <U1 of shape"),
        (np.ones((2, 16), complex), DataError, "not complex128"),
        (np.ones((2, 16), bool), DataError, "not bool"),
        (np.ones((2, 0)), DataError, "of shape"),
        ([[1.0], [2.0, 3.0]], DataError, "vectors: expected rows of one length, got several"),
        (None, DataError, "not NoneType of others"),
        ({"a": 1}, DataError, "not dict of others"),
        ("gone.npy", MissingError, "gone.npy: no such embedding table"),
    ],
    ids=str,
)
def test_what_is_no_vectors(captioner, vectors, error, words):
    with pytest.raises(CloseError, match=words) as told:
        captioner.embed_to_text(vectors)
    assert isinstance(told.value, error)


@pytest.mark.parametrize(
    "none", [[], (), np.zeros(0), torch.zeros(0), np.zeros((0, 16)), np.zeros((0, 3, 16))], ids=str
)
def test_no_vectors_have_no_texts(captioner, none):
    assert captioner.embed_to_text(none) == []


def test_vectors_of_another_encoder(captioner, table, zoo, embeds, tmp_path):
    other = EmbeddingTable.from_numpy(embeds.numpy(), tmp_path / "t", encoder="theirs", fingerprint="f" * 32)
    with pytest.raises(MismatchError, match=r"encoder 'theirs' \(weights ffffffff\), but .* uses encoder"):
        captioner.embed_to_text(other)
    with pytest.raises(UnknownNameError, match="modality 'picture'"):
        captioner.embed_to_text(table, modality="picture")
    with pytest.raises(DataError, match="2 contexts for 12 items"):
        captioner.embed_to_text(table, ["a", "b"])


@pytest.mark.parametrize("form", ["table", "npy"])
def test_another_process_reads_the_same_rows(captioner, table, embeds, tmp_path, form):
    np.save(tmp_path / "v.npy", embeds.numpy())
    source = VectorItems(table if form == "table" else tmp_path / "v.npy", captioner.model.config, "run")
    again = pickle.loads(pickle.dumps(source))
    for (one, _), (other, _) in zip(source.batches(range(12), 5), again.batches(range(12), 5), strict=True):
        assert torch.equal(one, other)
    assert (again.name(3), again.modality) == (source.name(3), "image")


def test_rows_are_items_whatever_their_ids_end_in(captioner, tiny_encoder, pictures, tmp_path, caplog):
    encoder = load_encoder(str(tiny_encoder))
    files = [str(path) for path in sorted(pictures.iterdir())]
    (tmp_path / "broken.png").write_text("no picture")
    own = [{"id": f"x#{i}", "source": text, "image": files[i]} for i, text in enumerate(["a dog", "a cat", "a car"])]
    several = {"id": "y", "source": ["a boat", "a ball"], "image": [files[3], str(tmp_path / "broken.png"), files[4]]}
    (tmp_path / "f.token").write_text("1.jpg#0\ta dog\n1.jpg#1\ta cat\n2.jpg#0\ta car\n")
    mixed = open_rows(tiny.write_jsonl(tmp_path / "mixed.jsonl", [*own, several, {"id": "y#0", "source": "a tree"}]))
    made = {
        "token": embed_texts(open_rows(tmp_path / "f.token"), encoder, tmp_path / "token"),
        "mixed": embed_texts(mixed, encoder, tmp_path / "mixed"),
        "images": embed_images(images_of(mixed), encoder, tmp_path / "images"),
    }
    names = {
        "token": ["1.jpg#0", "1.jpg#1", "2.jpg#0"],
        "mixed": ["x#0", "x#1", "x#2", "y", "y#0"],
        "images": ["x#0", "x#1", "x#2", "y"],
    }
    for name, table in made.items():
        outputs = captioner.embed_to_text(table)
        assert [output.item for output in outputs] == names[name]
        assert not any(output.error for output in outputs)
    assert [line for line in caplog.messages if "are taken as" in line] == []


def test_rows_that_a_table_does_not_know_the_parts_of_are_told(captioner, embeds, tiny_encoder, tmp_path, caplog):
    encoder = load_encoder(str(tiny_encoder))
    about = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "modality": "image"}
    table = EmbeddingTable.from_numpy(embeds[:3].numpy(), tmp_path / "t", ids=["x#0", "x#1", "z"], **about)
    assert [output.item for output in captioner.embed_to_text(table)] == ["x", "z"]
    (told,) = [line for line in caplog.messages if "are taken as" in line]
    assert told.startswith(f"{table.path}: 3 rows are taken as 2 items, since ids that end in #0, #1, … count as parts")


class TestCommand:
    """close caption --vectors."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path, monkeypatch, embeds):
        monkeypatch.chdir(tmp_path)
        np.save("v.npy", embeds.numpy() * 3)

    def test_lines_are_those_of_pictures(self, cli, run, pictures, table):
        of_pictures = [json.loads(line) for line in cli("caption", run, pictures, "--json").out.splitlines()]
        for vectors, ids in ((table.path, [f"photo {i}" for i in range(12)]), ("v.npy", list(map(str, range(12))))):
            lines = [json.loads(line) for line in cli("caption", run, "--vectors", vectors, "--json").out.splitlines()]
            assert [line | {"item": None, "score": None} for line in lines] == [
                line | {"item": None, "score": None} for line in of_pictures
            ]
            assert [line["item"] for line in lines] == ids
        plain = cli("caption", run, "--vectors", table.path, "--n", "2").out.splitlines()
        assert plain[0].split("\t")[0] == "photo 0"
        assert len(plain[0].split("\t")) == 3

    @pytest.mark.parametrize("changed", [False, True])
    def test_a_file_of_results_goes_on(self, cli, run, embeds, monkeypatch, changed):
        command = ("caption", run, "--vectors", "v.npy", "--batch-size", "5", "--sample", "--seed", "3", "--out")
        write, read = ResultFile.write, VectorItems.batches
        written, asked = [], []

        def stop_at_the_eighth(results: ResultFile, row: dict[str, Any]) -> None:
            written.append(row)
            if len(written) == 8:
                raise KeyboardInterrupt
            write(results, row)

        with monkeypatch.context() as patch:
            patch.setattr(ResultFile, "write", stop_at_the_eighth)
            assert cli(*command, "cut.jsonl").code == 130
        if changed:
            np.save("v.npy", embeds.flip(0).numpy())
        monkeypatch.setattr(
            VectorItems, "batches", lambda items, rows, size: asked.append(rows) or read(items, rows, size)
        )
        assert cli(*command, "cut.jsonl").code == 0
        assert asked == [range(0 if changed else 5, 12)]
        assert cli(*command, "whole.jsonl").out == "whole.jsonl: 12 rows\n"
        assert Path("cut.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()

    def test_bad_input_is_told_in_one_line(self, told, refused, cli, run, table, pictures, embeds):
        np.save("narrow.npy", np.ones((2, 5), np.float32))
        np.save("none.npy", np.ones((0, embeds.shape[1]), np.float32))
        Path("text.npy").write_text("no array")
        broken = embeds.numpy().copy()
        broken[4] = np.nan
        np.save("broken.npy", broken)
        assert "narrow.npy has 5 columns, and encoder" in told("caption", run, "--vectors", "narrow.npy")
        assert "none.npy: there are no vectors in it" in told("caption", run, "--vectors", "none.npy")
        assert "gone: no such embedding table" in told("caption", run, "--vectors", "gone")
        assert "text.npy" in told("caption", run, "--vectors", "text.npy")
        assert "not a plain .npy array" in told("caption", run, "--vectors", pictures / "p00.png")
        other = EmbeddingTable.from_numpy(embeds.numpy(), "other", encoder="theirs", fingerprint="f" * 32)
        assert "encoder 'theirs'" in told("caption", run, "--vectors", other.path)
        ran = cli("caption", run, "--vectors", "broken.npy", "--json")
        assert (ran.code, len(ran.messages), len(ran.out.splitlines())) == (1, 1, 12)
        assert "1 of 12 items could not be read: broken.npy: row 4 is not finite" in ran.messages[0]
        assert "give images or vectors (--vectors), one of the two" in refused("caption", run)
        assert "give images or vectors (--vectors), one of the two" in refused(
            "caption", run, "p.png", "--vectors", "v.npy"
        )
        assert "it goes with --vectors" in refused("caption", run, "p.png", "--modality", "text")
