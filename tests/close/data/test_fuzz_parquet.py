"""Parquet with bytes flipped, cut and moved: it is read, or told in one line. Each is read in a child: Arrow may die of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing import INPUTS, Tried, damaged

TESTS = Path(__file__).parents[2]
WAYS: dict[str, dict[str, Any]] = {
    "snappy": {},
    "plain": {"compression": "none", "use_dictionary": False},
    "gzip, checksums": {"compression": "gzip", "write_page_checksum": True},
    "zstd, pages of version 2": {"compression": "zstd", "data_page_version": "2.0"},
}


def whole(**options: Any) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    pictures = pa.array([{"bytes": b"x", "path": "a.jpg"}] * 15)
    columns = {"caption": ["A dog", "A cat", "Zoë"] * 5, "sentences": [["A"], [], ["B", "C"]] * 5, "image": pictures}
    more = {"width": [*range(15)], "label": pa.array(["a", "b", "a"] * 5).dictionary_encode()}
    made = io.BytesIO()
    parquet.write_table(pa.table(columns | more), made, **options)
    return made.getvalue()


def inputs(way: str) -> list[bytes]:
    return list(damaged(whole(**WAYS[way]), INPUTS // 4, seed=len(way)))


def read(way: str, start: int) -> None:
    """Print a line of JSON for each input from `start`: the rows that are read, or the error; be the child."""
    from close.data.readers import ReadOptions, convert
    from close.errors import CloseError

    for number, content in enumerate(inputs(way)[start:], start):
        Path("x.parquet").write_bytes(content)
        options = ReadOptions(images=Path("pictures")) if number % 2 else ReadOptions()
        try:
            made = convert(
                "parquet", "x.parquet", "out.jsonl", options=options, skip_errors=number % 3 == 0, overwrite=True
            )
            print(json.dumps(made.written), flush=True)
        except CloseError as error:
            print(json.dumps(str(error)), flush=True)


def said(way: str, place: Path) -> Iterator[Any]:
    """What each input came to: rows, an error's text, or None where the child died of a signal."""
    done, count = 0, len(inputs(way))
    while done < count:
        command = [sys.executable, __file__, way, str(done)]
        path = os.pathsep.join([os.getcwd(), str(TESTS)])
        ran = subprocess.run(
            command, cwd=place, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300
        )
        lines = ran.stdout.splitlines()
        yield from map(json.loads, lines)
        done += len(lines)
        if done < count:
            assert ran.returncode < 0, f"input {done}: {ran.stderr[-2000:]}"
            yield None
            done += 1


@pytest.mark.parametrize("way", WAYS)
def test_fuzz_of_flipped_parquet(tried: Tried, tmp_path: Path, way: str) -> None:
    found = list(said(way, tmp_path))
    assert len(found) == INPUTS // 4
    for one in found:
        if isinstance(one, str):
            tried(lambda text=one: told(text))
        else:
            tried.inputs += 1
    assert found.count(None) <= len(found) // 20, "Arrow dies of more damaged files than it should"
    assert {str, int} <= {type(one) for one in found}


def test_pages_are_verified_where_they_have_checksums(tmp_path: Path) -> None:
    from close.data.readers import convert
    from close.errors import DataError

    for checksums in (True, False):
        file = tmp_path / "x.parquet"
        file.write_bytes(whole(compression="none", use_dictionary=False, write_page_checksum=checksums))
        file.write_bytes(file.read_bytes().replace(b"A cat", b"A bat"))
        if checksums:
            with pytest.raises(DataError, match=r"x\.parquet: not a whole Parquet file \(.*checksum"):
                convert("parquet", file, tmp_path / "out.jsonl")
        else:  # nothing says that it was another word
            convert("parquet", file, tmp_path / "out.jsonl")
            assert "A bat" in (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def told(text: str) -> None:
    from close.errors import DataError

    raise DataError(text)


if __name__ == "__main__":
    read(sys.argv[1], int(sys.argv[2]))
