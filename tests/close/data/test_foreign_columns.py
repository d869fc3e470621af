"""Columns and fields of our names and of any other type never stop a file: what does not fit goes to `meta`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_readers_formats import picture, shard

from close.data.readers import ReadOptions, read_rows
from close.data.shards import open_rows
from close.errors import DataError

NAMES = [
    "meta",
    "label",
    "id",
    "group",
    "image",
    "task",
    "context",
    "target",
    "answers",
    "references",
    "image_id",
    "Title",
]
VALUES: list[Any] = ["train", 7, 1.5, True, [1, 2], ["a", "b"], [["a"]], {"a": 1}, [{"a": 1}], None, float("nan")]


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_any_value_under_any_name(tmp_path: Path, name: str, value: Any) -> None:
    record = {"caption": "A dog", name: value}
    pq.write_table(pa.Table.from_pylist([record, {"caption": "A cat", name: None}]), tmp_path / "t.parquet")
    shard(tmp_path / "t.tar", [("0.json", json.dumps(record).encode()), ("1.txt", b"A cat")])
    for kind in ("parquet", "webdataset"):
        first, second = read_rows(kind, tmp_path / f"t.{'tar' if kind == 'webdataset' else kind}")
        assert (first["source"], second["source"]) == ("A dog", "A cat")
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value == value:
            kept = {**first, **first.get("meta", {})}
            assert value in kept.values() or str(value) in kept.values() or [value] in kept.values()
    (tmp_path / "t.csv").write_text(f'caption,{name}\nA dog,"{value}"\n')
    assert [row.source for row in open_rows(tmp_path / "t.csv")] == [("A dog",)]


def test_classes_are_named_by_the_schema_of_hugging_face(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "img": {"_type": "Image"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    content = picture(tmp_path / "x.png").read_bytes()
    table = pa.table({"img": [{"bytes": content, "path": None}] * 3, "label": [1, 0, 5]})
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"row 0: its picture lies in the table, .*--images says"):
        list(read_rows("parquet", tmp_path / "t.parquet"))
    options = ReadOptions(images=tmp_path / "out")
    got = list(read_rows("parquet", tmp_path / "t.parquet", options=options, skip_errors=True, folder=tmp_path))
    (file,) = (tmp_path / "out").iterdir()  # one picture is one file
    assert [(row["label"], row["image"]) for row in got] == [(label, f"out/{file.name}") for label in ("dog", "cat")]


@pytest.mark.parametrize(
    "columns",
    [
        {"sentences_raw": [["A dog", "A hound"], ["A cat"]]},
        {"caption": [["A dog", "A hound"], ["A cat"]]},
        {"sentences": [[{"raw": "A dog"}, {"raw": "A hound"}], [{"raw": "A cat"}]]},
        {"caption_0": ["A dog", "A cat"], "caption_1": ["A hound", None]},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_several_captions_of_a_picture_are_rows_of_a_group(tmp_path: Path, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns | {"filename": ["a.jpg", "b.jpg"]}), tmp_path / "t.parquet")
    got = [(row.source[0], row.group) for row in open_rows(tmp_path / "t.parquet")]
    assert got == [("A dog", "a.jpg"), ("A hound", "a.jpg"), ("A cat", "b.jpg")]
    images = read_rows("parquet", tmp_path / "t.parquet", options=ReadOptions(per="image"))
    assert [row["references"] for row in images] == [["A dog", "A hound"], ["A cat"]]


def test_dates_and_text_beyond_python_are_read_or_told(tmp_path: Path) -> None:
    dates = pa.array([2**62, 0], pa.timestamp("us"))
    text = pa.array([b"A dog \xff", b"A cat"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"caption": ["A", "B"], "seen": dates}), tmp_path / "d.parquet")
    assert [row["source"] for row in read_rows("parquet", tmp_path / "d.parquet")] == ["A", "B"]
    pq.write_table(pa.table({"caption": text}), tmp_path / "t.parquet")
    assert [row["source"] for row in read_rows("parquet", tmp_path / "t.parquet", skip_errors=True)] == ["A cat"]


@pytest.mark.parametrize(
    ("members", "columns", "sources"),
    [
        (
            ["s0.input.jpg", "s0.outputs.txt", "s1.input.jpg", "s1.outputs.txt"],
            None,
            ["s0.outputs.txt", "s1.outputs.txt"],
        ),
        (["img.v1.0.jpg", "img.v1.0.txt", "img.v1.1.jpg", "img.v1.1.txt"], None, ["img.v1.0.txt", "img.v1.1.txt"]),
        (["0.img", "0.cap"], None, ["0.cap"]),
        (["0.JPG", "0.TXT", "0.cls"], None, ["0.TXT"]),
        (["0.jpg", "0.seg.png", "0.txt"], None, ["0.txt"]),
        (["0.jpg", "0.en.txt", "0.fr.txt"], {"caption": "fr.txt"}, ["0.fr.txt"]),
        (["0.jpg", "0.alt"], {"text": ".alt"}, ["0.alt"]),
    ],
)
def test_names_of_parts_in_shards(tmp_path: Path, members: list[str], columns: Any, sources: list[str]) -> None:
    content = picture(tmp_path / "x.jpg").read_bytes()
    path = shard(
        tmp_path / "t.tar", [(m, content if m[-3:].lower() in ("jpg", "png", "img") else m.encode()) for m in members]
    )
    options = ReadOptions(images=tmp_path / "out", columns=columns)
    got = list(read_rows("webdataset", path, options=options, folder=tmp_path))
    assert [row["source"] for row in got] == sources
    assert all((tmp_path / row["image"]).read_bytes() == content for row in got)
    assert len({row["id"] for row in got}) == len(got)


@pytest.mark.parametrize(
    ("members", "columns", "words"),
    [
        (
            ["0.jpg", "1.jpg", "0.txt", "1.txt"],
            None,
            "the parts of a sample lie side by side, else pack the shard in order of name (tar --sort=name)",
        ),
        (["0.txt", "1.txt", "0.jpg"], None, "sample '0': its parts do not lie side by side"),
        (
            ["0.jpg", "0.en.txt", "0.fr.txt"],
            None,
            "which part is the caption, .en.txt, .fr.txt? --columns caption=en.txt",
        ),
        (["0.jpg", "0.meta"], None, "(tar --sort=name); --columns caption=SUFFIX says which part"),
        (["0.txt", "0.TXT"], None, "sample '0': two members are its .txt"),
        (["0.jpg", "0.txt", "0.txt"], None, "sample '0': two members are its .txt"),
        (["0.jpg", "0.txt"], {"caption": "de.txt"}, "no 'de.txt' for 'caption'; it has .jpg, .txt"),
    ],
)
def test_shards_whose_captions_are_not_found(tmp_path: Path, members: list[str], columns: Any, words: str) -> None:
    path = shard(tmp_path / "t.tar", [(name, name.encode()) for name in members])
    with pytest.raises(ValueError, match=r"t\.tar: ") as told:
        list(read_rows("webdataset", path, options=ReadOptions(columns=columns)))
    assert words in str(told.value)
