"""Pictures, recordings and films inside tar shards and Parquet: written out under an ending that says what they are, or told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_readers_formats import picture, shard

from close.data.readers import ReadOptions, ReadSummary, read_rows
from close.data.readers.inside import Unpacked
from close.data.shards import open_rows
from close.io.media import HEIC_SUFFIXES, SOUND_SUFFIXES, media_below

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "


def parquet(folder: Path, table: dict[str, list[Any]], **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a table that is converted with `--images`, and what is told of it."""
    pq.write_table(pa.table(table), folder / "t.parquet")
    return read("parquet", folder / "t.parquet", **options)


def read(kind: str, path: Path, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    summary, taken = ReadSummary(), ReadOptions(**{"images": path.parent / "out"} | options)
    return list(read_rows(kind, path, options=taken, summary=summary, folder=path.parent)), summary.notes


@pytest.mark.parametrize(
    ("name", "content", "ending"),
    [
        ("clip.wav", b"any", ".wav"),
        ("CLIP.OPUS", b"any", ".opus"),
        ("film.mp4", b"any", ".mp4"),
        ("a.webp", b"any", ".webp"),
        (None, WAV, ".wav"),
        (None, b"fLaC\0\0", ".flac"),
        (None, b"\xff\xfb\x90", ".mp3"),
        (None, b"\0\0\0\x20ftypisom", ".mp4"),
        (None, b"\0\0\0\x20ftypavif", ".jpg"),
        (None, b"\xff\xd8\xff\xe0", ".jpg"),
        ("clip.bin", b"any", ".jpg"),
    ],
)
@pytest.mark.parametrize("column", ["audio", "video", "image"])
def test_what_lies_in_parquet_keeps_its_ending(tmp_path, column, name, content, ending):
    struct = {"bytes": content, "path": name}
    (row,), notes = parquet(tmp_path, {column: [struct], "caption": ["A dog barks"]})
    assert (tmp_path / row["image"]).suffix == ending
    assert (tmp_path / row["image"]).read_bytes() == content
    assert not notes
    assert len(media_below(tmp_path / "out", SOUND_SUFFIXES)) == (ending in SOUND_SUFFIXES)


def test_pictures_that_are_bytes_alone_and_lists_of_pictures(tmp_path):
    """img2dataset writes the first; a record of several pictures is a row of several images."""
    content = picture(tmp_path / "x.png").read_bytes()
    for column, options in (("jpg", {}), ("image", {}), ("foto", {"columns": {"image": "foto"}})):
        (row,), _ = parquet(tmp_path, {column: [content], "caption": ["A dog"]}, **options)
        assert (tmp_path / row["image"]).read_bytes() == content
    one, two = ({"bytes": content + end, "path": "x.png"} for end in (b"1", b"2"))
    for pictures in ([one, two], [content + b"1", content + b"2"]):
        (row,), _ = parquet(tmp_path, {"image": [pictures], "caption": ["A dog"]})
        assert [(tmp_path / name).read_bytes()[-1:] for name in row["image"]] == [b"1", b"2"]
        assert "meta" not in row


def test_pictures_of_other_splits_are_not_written(tmp_path):
    pictures = [{"bytes": content, "path": "x.png"} for content in (b"1", b"2")]
    rows, _ = parquet(tmp_path, {"image": pictures, "caption": ["A", "B"], "split": ["train", "test"]}, split=("test",))
    assert [row["source"] for row in rows] == ["B"]
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_records_without_a_picture_are_told(tmp_path):
    struct = {"bytes": b"x", "path": "x.png"}
    rows, notes = parquet(
        tmp_path, {"image": [struct, None, {"bytes": None, "path": "y.png"}], "caption": ["A", "B", "C"]}
    )
    assert ["image" in row for row in rows] == [True, False, False]
    assert notes == [f"{tmp_path / 't.parquet'}: 2 records have no picture, recording or film, and their rows no image"]
    assert not read("parquet", tmp_path / "t.parquet", images=None)[1]
    path = shard(
        tmp_path / "t.tar",
        [("1.txt", b"A dog"), ("1.json", b'{"image": "a.jpg"}'), ("2.txt", b"A cat"), ("2.png", b"")],
    )
    assert read("webdataset", path)[1] == [
        f"{path}: 1 records have no picture, recording or film, and their rows no image"
    ]


@pytest.mark.parametrize("ending", ["flac", "mp3", "opus", "mp4"])
def test_shards_of_recordings_and_films(tmp_path, ending):
    captions = json.dumps({"text": ["A dog barks", "Barks"], "tag": ["dog"]}).encode()
    members = [("1.txt", b"A dog barks"), (f"1.{ending}", b"1"), (f"2.{ending.upper()}", b"2"), ("2.json", captions)]
    rows, notes = read("webdataset", shard(tmp_path / "t.tar", members))
    assert [(tmp_path / row["image"]).suffix for row in rows] == [f".{ending}"] * 3
    assert [(tmp_path / row["image"]).read_bytes() for row in rows] == [b"1", b"2", b"2"]
    assert not notes
    for key in ("image", "audio", "video"):
        assert read("webdataset", tmp_path / "t.tar", columns={key: ending})[0] == rows


def test_a_picture_is_taken_before_a_recording_beside_it(tmp_path):
    path = shard(
        tmp_path / "t.tar", [("1.flac", b"sound"), ("1.jpg", b"picture"), ("1.mp4", b"film"), ("1.txt", b"A dog")]
    )
    for columns, content in (({}, b"picture"), ({"audio": "flac"}, b"sound"), ({"video": "mp4"}, b"film")):
        (row,), _ = read("webdataset", path, columns=columns)
        assert (tmp_path / row["image"]).read_bytes() == content


@pytest.mark.parametrize("ending", HEIC_SUFFIXES)
def test_a_phones_photo_is_taken_where_no_other_picture_lies_beside_it(tmp_path, ending):
    members = [(f"1{ending}", b"heic"), ("1.jpg", b"jpeg"), ("1.txt", b"A dog")]
    members += [(f"2{ending}", b"2"), ("2.txt", b"A cat")]
    rows, notes = read("webdataset", shard(tmp_path / "t.tar", members))
    assert [(tmp_path / row["image"]).read_bytes() for row in rows] == [b"jpeg", b"2"]
    assert [(tmp_path / row["image"]).suffix for row in rows] == [".jpg", ending]
    assert not notes


def test_captions_of_one_picture_inside_are_of_one_group(tmp_path):
    same, other = ({"bytes": content, "path": "x.png"} for content in (b"same", b"other"))
    columns = {"image": [same, other, same], "captions": [["A dog", "A hound"], ["A cat"], ["A puppy"]]}
    rows, _ = parquet(tmp_path, columns)
    assert [row["source"] for row in rows] == ["A dog", "A hound", "A cat", "A puppy"]
    assert [row["group"] for row in rows] == [Path(row["image"]).name for row in rows]
    assert len({row["group"] for row in rows}) == 2
    images, _ = parquet(tmp_path, columns, per="image")
    assert [row["references"] for row in images] == [["A dog", "A hound", "A puppy"], ["A cat"]]
    assert [row["id"] for row in images] == [Path(row["image"]).name for row in images]
    own, _ = parquet(tmp_path, columns | {"image_id": [7, 8, 9]})
    assert [row["group"] for row in own] == ["7", "7", "8", "9"]
    path = shard(
        tmp_path / "t.tar",
        [("1.png", b"same"), ("1.txt", b"A dog"), ("2.png", b"same"), ("2.json", b'{"captions": ["A", "B"]}')],
    )
    rows, _ = read("webdataset", path)
    assert len(rows) == 3
    assert len({row["group"] for row in rows}) == 1


def test_tables_read_for_training_are_as_before(tmp_path):
    """Without a place for its pictures, a table's rows and its sum are what they were."""
    struct = {"bytes": b"x", "path": "x.png"}
    pq.write_table(pa.table({"image": [struct] * 2, "captions": [["A", "B"], ["C"]]}), tmp_path / "t.parquet")
    rows = open_rows(tmp_path / "t.parquet")
    assert [(row.id, row.source, row.group, row.images) for row in rows] == [
        ("1#0", ("A",), "1", ()),
        ("1#1", ("B",), "1", ()),
        ("2", ("C",), None, ()),
    ]


def test_names_of_images_stay_in_their_column(tmp_path):
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"], "caption": ["A", "B"]}), tmp_path / "t.parquet")
    assert open_rows(tmp_path / "t.parquet").sha256[:16] == "3341284a1f71685b"


def test_each_is_written_once_and_their_folder_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    listed, replaced = [], []
    for name, seen in (("listdir", listed), ("replace", replaced)):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, seen=seen: (seen.append(args), real(*args))[1])
    unpacked = Unpacked(tmp_path / "out")
    paths = [unpacked.write("x.png", str(number % 20).encode()) for number in range(100)]
    assert (len(set(paths)), len(replaced), len(listed)) == (20, 20, 1)
    Path(paths[0]).write_bytes(b"")  # a disk was full
    assert Path(Unpacked(tmp_path / "out").write("x.png", b"0")).read_bytes() == b"0"


def test_what_a_killed_conversion_left_is_removed(tmp_path):
    unpacked = Unpacked(tmp_path)
    path = Path(unpacked.write("x.png", b"0"))
    gone = 2**22 + 1  # no process has this number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getpid", lambda: gone)
        patch.setattr("os.replace", lambda *args: None)
        patch.setattr("close.io.files.remove", lambda path: None)
        unpacked.write("x.png", b"1")
    own = tmp_path / ".notes.tmp"
    own.touch()
    assert len(list(tmp_path.iterdir())) == 3
    assert Unpacked(tmp_path).write("x.png", b"0") == str(path)
    assert set(tmp_path.iterdir()) == {path, own}
