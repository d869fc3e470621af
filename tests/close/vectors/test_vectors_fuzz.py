"""Tables, arrays and what is fitted on them, damaged: the same vectors, or an error of one line."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import INPUTS, Tried, as_json, damaged, reshaped

from close.errors import CloseError
from close.runs.inspection import describe
from close.vectors.build import TableBuilder
from close.vectors.open import open_vectors
from close.vectors.table import EmbeddingTable

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
ABOUT = {"encoder": "e", "fingerprint": "f" * 32, "modality": "text", "dim": 6}
NAMED = [(f"r{i}", i % 30) for i in range(40)]


def encode(chosen: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    return ROWS[chosen], {int(i): "unreadable" for i in chosen if i == 7}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return TableBuilder(tmp_path / "t", ABOUT, chunk=8).build(NAMED, encode).path


def seen(folder: Path) -> list[Any]:
    found = EmbeddingTable(folder)
    data = (found[:], found.raw(np.arange(3)), found.keys, found.index)
    return [found.info, found.failures, found.ids[:], *(np.asarray(part).tobytes() for part in data)]


def each(folder: Path, count: int = INPUTS) -> Any:
    """Every file of a folder in turn, with other bytes; JSON also with other values."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for number, path in enumerate(files):
        whole = path.read_bytes()
        given = list(damaged(whole, count // len(files) + 1, seed=number))
        if path.suffix == ".json":
            given += map(as_json, reshaped(json.loads(whole), count // len(files) + 1, seed=number))
        for content in given:
            path.write_bytes(content)
            yield
        path.write_bytes(whole)


def test_fuzzed_tables_are_the_same_or_refused(table: Path, tried: Tried):
    before = seen(table)
    for _ in each(table):
        found = tried(lambda: seen(table))
        assert isinstance(found, CloseError) or found == before
        tried(lambda: describe(str(table), verify=True))


def test_fuzzed_tables_without_checksums(table: Path, tried: Tried):
    (table / "checksums.json").unlink()
    info = json.loads((table / "table.json").read_text())
    del info["checksums"]
    (table / "table.json").write_text(json.dumps(info))
    for _ in each(table):
        found = tried(lambda: open_vectors(table)[:])
        if not isinstance(found, CloseError):
            assert np.isfinite(found).all()
            assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=2e-3)
        tried(lambda: seen(table))


def test_fuzzed_builds_go_on_or_are_refused(tmp_path: Path, tried: Tried):
    def stopped(chosen: np.ndarray) -> Any:
        if chosen[0] >= 16:
            raise KeyboardInterrupt
        return encode(chosen)

    half = tmp_path / "half"
    half.mkdir()
    with pytest.raises(KeyboardInterrupt):
        TableBuilder(half / "t", ABOUT, chunk=8).build(NAMED, stopped)
    kept = tmp_path / "kept"
    shutil.copytree(half, kept)
    for folder in (Path("."), Path("t.partial")):
        for _ in each(kept / folder, INPUTS // 4):
            shutil.rmtree(half)
            shutil.copytree(kept, half)
            tried(lambda: describe(str(half / "t")))
            tried(lambda: TableBuilder(half / "t", ABOUT, chunk=8).build(NAMED, encode)[:])


def test_fuzzed_arrays(tmp_path: Path, tried: Tried):
    place, folder = tmp_path / "v.npy", tmp_path / "parts"
    folder.mkdir()
    for kind in (np.float32, np.float16):
        np.save(place, ROWS.astype(kind))
        for content in damaged(place.read_bytes(), INPUTS // 2, seed=kind().itemsize):
            for path in (place, folder / "v1.npy"):
                path.write_bytes(content)
                np.save(folder / "v0.npy", ROWS)
                found = tried(lambda path=path: open_vectors(path if path == place else folder)[:])
                if not isinstance(found, CloseError):
                    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=2e-3)
            shutil.rmtree(tmp_path / "made", ignore_errors=True)
            tried(lambda: EmbeddingTable.from_numpy(place, tmp_path / "made")[:])


HEADERS = [
    {"shape": shape, "descr": descr, "fortran_order": order}
    for shape in [
        (10**9, 6),
        (10**30, 6),
        (0, 6),
        (40, 0),
        (40,),
        (),
        (-1, 6),
        (40, -6),
        (2**63, 2),
        ("40", 6),
        None,
        (True, 6),
    ]
    for descr in [
        "<f4",
        ">f4",
        "<f2",
        "<f8",
        "|O",
        "<U9",
        [("a", "<f4")],
        "<M8[D]",
        "V24",
        "<c8",
        "|b1",
        "<i4",
        "(6,)<f4",
        None,
    ]
    for order in (False, True, 3)
]


def test_fuzzed_headers_of_arrays(tmp_path: Path, tried: Tried):
    for header in HEADERS[:: max(1, len(HEADERS) // INPUTS)]:
        text = f"{header!r}\n".encode().ljust(128 - 10)
        (tmp_path / "v.npy").write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + ROWS.tobytes())
        found = tried(lambda: open_vectors(tmp_path / "v.npy")[:])
        assert isinstance(found, CloseError) or found.nbytes <= 2 * ROWS.nbytes
