"""A damaged table gives an error, and never other vectors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from close.errors import CloseError, DataError
from close.vectors import arrays
from close.vectors.build import TableBuilder
from close.vectors.table import EmbeddingTable

Make = Callable[..., Path]
INPUTS = int(os.environ.get("FUZZ_INPUTS", 200))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A table of some rows, one of which could not be embedded."""

    def make(count: int, dim: int = 4) -> Path:
        values = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
        about = {"encoder": "e", "fingerprint": "f" * 32, "modality": "text", "dim": dim}
        rows = ((f"é{i}", i % (count - 1)) for i in range(count))
        failed = lambda chosen: {int(i): "unreadable" for i in chosen if i == 1}  # noqa: E731
        return TableBuilder(tmp_path / "t", about).build(rows, lambda chosen: (values[chosen], failed(chosen))).path

    return make


def old(folder: Path) -> None:
    """As versions before checksums left it."""
    (folder / "checksums.json").unlink()
    info = json.loads((folder / "table.json").read_text())
    del info["checksums"]
    (folder / "table.json").write_text(json.dumps(info))


def seen(folder: Path) -> list[Any]:
    """All that a table tells."""
    table = EmbeddingTable(folder)
    told = [table.info, table.failures, table.ids[:], table.encoder, table.fingerprint, table.modality, table.dim]
    data = (table[:], table[::2], table.vectors, table.raw(np.arange(2)), table.keys, table.index)
    return [*told, *(np.asarray(part).tobytes() for part in data)]


def after(folder: Path, path: Path, damaged: bytes) -> list[Any] | None:
    """What is told of a table in which one file holds other bytes; None where that is an error."""
    whole, told = path.read_bytes(), None
    path.write_bytes(damaged)
    try:
        return seen(folder)
    except CloseError as error:
        told = str(error)
    finally:
        path.write_bytes(whole)
    assert str(folder) in told
    assert "\n" not in told
    return None


def flipped(whole: bytes, place: int, rng: np.random.Generator) -> bytes:
    return whole[:place] + bytes([whole[place] ^ int(rng.integers(1, 256))]) + whole[place + 1 :]


def test_every_byte_of_a_small_table(make):
    folder, rng = make(4), np.random.default_rng(0)
    before, noticed = seen(folder), 0
    step = 4 if INPUTS < 3000 else 1
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in range(int(rng.integers(step)), len(whole), step):
            found = after(folder, path, flipped(whole, place, rng))
            assert found in (None, before), (path, place)
            noticed += found is None
    assert noticed * step > 1200  # all but spaces in a JSON file


def test_bytes_of_a_table_in_many_blocks(make, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 4096)
    folder, rng = make(600, dim=24), np.random.default_rng(1)
    before = seen(folder)
    assert len(json.loads((folder / "checksums.json").read_text())["vectors.npy"]) == 15
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), INPUTS // 25).tolist():
            assert after(folder, path, flipped(whole, place, rng)) in (None, before)
            assert after(folder, path, whole[:place]) is None
            assert after(folder, path, whole + whole[:9]) in (None, before)
            assert after(folder, path, whole[:place] + bytes(len(whole[place:]))) in (None, before)


def test_only_the_blocks_that_are_read_are_verified(make, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 4096)
    folder = make(600, dim=24)
    path = folder / "vectors.npy"
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size - 5, np.random.default_rng(0)))
    table = EmbeddingTable(folder)
    assert table[:100].shape == (100, 24)
    for last in (-2, slice(-3, None), [0, -2], np.arange(599) > 590):
        with pytest.raises(DataError, match=r"vectors\.npy: damaged"):
            table[last]
    with pytest.raises(DataError, match="damaged"):
        table.verify()


def test_files_of_other_tables(make, tmp_path):
    folder = make(6)
    other = shutil.copytree(folder, tmp_path / "u")
    shutil.rmtree(folder)
    folder = make(7)
    for path in folder.iterdir():
        assert after(folder, path, (other / path.name).read_bytes()) is None or path.name == "failures.jsonl"


def test_a_table_without_checksums_is_read_and_told(make, told, cli, caplog):
    folder = make(6)
    wanted = EmbeddingTable(folder)[:]
    old(folder)
    assert (EmbeddingTable(folder)[:] == wanted).all()
    assert "made before tables had checksums" in caplog.text
    assert "the table has no checksums" in cli("info", folder, "--verify").out
    rng = np.random.default_rng(2)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), INPUTS // 10).tolist():
            after(folder, path, flipped(whole, place, rng))  # an error is a told one
    rows = np.load(folder / "vectors.npy")
    for wrong in (np.nan, 1.5):
        np.save(folder / "vectors.npy", np.where(np.arange(len(rows))[:, None] == 2, wrong, rows))
        assert "row 2 is not of unit length" in told("info", folder, "--verify")


def test_checksums_can_be_missed(make, told):
    folder = make(6)
    (folder / "checksums.json").unlink()
    assert "checksums.json" in told("info", folder)


def test_exports_on_a_full_disk_are_told(make, tmp_path, monkeypatch):
    """A limit on files stands for the disk; a memory map would end the process where a real one is full."""
    resource = pytest.importorskip("resource", reason="no limits on this system")
    table = EmbeddingTable(make(600, dim=24))
    monkeypatch.setattr(np.lib.format, "open_memmap", lambda *_, **__: pytest.fail("written through a memory map"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in ("v.npy", "v.parquet"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                table.export(tmp_path / "out" / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list((tmp_path / "out").iterdir())


def test_ids_of_an_export_are_a_line_each(tmp_path):
    names = ["a\nb", "c\r", "d\\n", "é"]
    EmbeddingTable.from_numpy(np.eye(4), tmp_path / "t", ids=names).export(tmp_path / "v.npy")
    lines = (tmp_path / "v.ids.txt").read_text(encoding="utf-8").split("\n")
    assert lines == [r"a\nb", r"c\r", r"d\n", "é", ""]


@pytest.mark.skipif(os.name != "posix", reason="no umask on this system")
def test_files_are_as_open_as_the_user_says(make, tmp_path):
    from close.adapters import build_adapter, load_adapter, save_adapter

    before = os.umask(0o027)
    try:
        table = EmbeddingTable(make(600, dim=24))
        table.export(tmp_path / "v.npy")
        save_adapter(build_adapter({"memory": {"disk": True}}, 24).fit(text=table), tmp_path / "memory")
        save_adapter(build_adapter("centring", 24).fit(text=table, image=table), tmp_path / "centring")
        assert load_adapter(tmp_path / "memory").is_fitted
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 14
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


def test_info_says_what_was_verified(make, cli, told):
    folder = make(6)
    assert "every file but the vectors" in cli("info", folder).out
    assert json.loads(cli("info", folder, "--verify", "--json").out)["verified"] == "every file"
    path = folder / "vectors.npy"
    path.write_bytes(flipped(path.read_bytes(), 140, np.random.default_rng(0)))
    assert "every file but the vectors" in cli("info", folder).out
    assert "vectors.npy: damaged" in told("info", folder, "--verify")
