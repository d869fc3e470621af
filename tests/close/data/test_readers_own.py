"""A format of one's own, in a file outside the package; and what every format says of itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from close.data import readers
from close.data.readers import READERS, ReadOptions, convert, formats
from close.data.rows import RowFile
from close.errors import DataError, RecipeError
from close.plugins import load_plugins

OWN = """
from close.data import readers
from close.data.readers import READERS, Reader
from close.errors import DataError


@READERS.register("pipes")
class Pipes(Reader):
    reads = "captions with their number before a |"
    uses = ()

    def records(self):
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            yield f"{self.path}:{number}", line

    def row(self, record, where):
        number, bar, caption = record.partition("|")
        if not bar:
            raise DataError(f"{where}: no |")
        return {"id": number, "source": caption}
"""


def test_convert_reads_a_format_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "pipes.py").write_text(OWN)
    (tmp_path / "in").write_text("7|A dog.\n8|A cat.\n")
    load_plugins([str(tmp_path / "pipes.py")])
    convert("pipes", tmp_path / "in", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == [{"id": "7", "source": "A dog."}, {"id": "8", "source": "A cat."}]
    assert formats()["pipes"] == "captions with their number before a | (encoding)"
    with pytest.raises(RecipeError, match="'images' means nothing to this format; it takes encoding"):
        convert("pipes", tmp_path / "in", tmp_path / "no.jsonl", options=ReadOptions(images=tmp_path))
    (tmp_path / "bad").write_text("7|A dog.\nA cat.\n")
    with pytest.raises(DataError, match=r"bad:2: no \|"):
        convert("pipes", tmp_path / "bad", tmp_path / "no.jsonl")
    assert not (tmp_path / "no.jsonl").exists()


def test_pictures_are_named_as_they_are_found_from_a_linked_folder(tmp_path: Path) -> None:
    """The system follows the link before it goes up."""
    for name in ("disk/deep/out", "pictures"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "deep" / "out", target_is_directory=True)
    (tmp_path / "pictures" / "1.png").write_bytes(b"a picture")
    (tmp_path / "c.csv").write_text("caption,image\na dog,1.png\n")
    convert("csv", tmp_path / "c.csv", tmp_path / "out" / "c.jsonl", options=ReadOptions(images=tmp_path / "pictures"))
    (row,) = RowFile(tmp_path / "out" / "c.jsonl")
    assert row.image is not None
    assert row.image.read_bytes() == b"a picture"


def test_pictures_on_another_mount_are_named_relatively_too(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"a picture")
    (tmp_path / "c.csv").write_text("caption,image\na dog,1.png\n")
    (row,) = readers.read_rows("csv", tmp_path / "c.csv", options=ReadOptions(images=tmp_path), folder="/mnt")
    assert row["image"] == os.path.relpath(tmp_path / "1.png", "/mnt")


def test_the_example_in_the_documentation_runs(tmp_path: Path) -> None:
    example = textwrap.dedent((readers.__doc__ or "").partition("names:\n")[2])
    (tmp_path / "example.py").write_text(example.replace('"pipes"', '"example"'))
    (tmp_path / "in").write_text("7|A dog.\n")
    load_plugins([str(tmp_path / "example.py")])
    convert("example", tmp_path / "in", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"id": "7", "source": "A dog."}


def test_every_format_says_what_it_reads_and_takes() -> None:
    known = {field.name for field in fields(ReadOptions)}
    for name, reader in READERS.items():
        assert reader.reads, name
        assert "\n" not in reader.reads
        assert set(reader.uses) <= known, name
    assert formats()["karpathy"].endswith("(images, per, split, encoding)")


def test_help_of_convert_names_every_format() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "close", "convert", "--help"], capture_output=True, text=True, check=True
    )
    shown = " ".join(done.stdout.split())
    for name in ("coco", "karpathy", "parquet", "webdataset"):
        assert f"{name} – {formats()[name]}" in shown
