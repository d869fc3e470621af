"""`--per image`: a row an image gathers captions alone, and what it would lose is refused or told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from close.data.readers import ReadOptions, ReadSummary, read_rows
from close.data.shards import open_rows
from close.errors import DataError

KINDS = ["csv", "json", "parquet"]


def table(folder: Path, kind: str, records: list[dict[str, Any]]) -> Path:
    path = folder / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("\n".join([",".join(records[0]), *(",".join(map(str, record.values())) for record in records)]))
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["question", "answer", "target", "label"])
def test_what_differs_within_an_image_is_refused(tmp_path, kind, key):
    records = [{"image": "a.jpg", "caption": "A dog", key: "x"}, {"image": "a.jpg", "caption": "A hound", key: "y"}]
    path, options = table(tmp_path, kind, records), ReadOptions(per="image")
    ours = {"question": "context", "answer": "target"}.get(key, key)
    with pytest.raises(
        DataError, match=rf"'{ours}' is '?y'?, but '?x'? in .*t\.{kind}.*, of the same image; --per image"
    ):
        list(read_rows(kind, path, options=options))
    records[1][key] = "x"
    (row,) = read_rows(kind, table(tmp_path, kind, records), options=options, folder=tmp_path)
    assert (row[ours], row["references"]) == ("x", ["A dog", "A hound"])
    assert len(list(read_rows(kind, path))) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_two_images_of_one_group_are_refused(tmp_path, kind):
    """Clips of one video, say."""
    records = [{"image": f"{name}.jpg", "image_id": 3, "caption": "A dog"} for name in "ab"]
    with pytest.raises(DataError, match=r"'image' is 'b\.jpg', but 'a\.jpg' in .*, of the same group '3'"):
        list(read_rows(kind, table(tmp_path, kind, records), options=ReadOptions(per="image")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["train", "test"])
def test_splits_are_parted_before_captions_are_gathered(tmp_path, kind, first):
    records = [{"image": "a.jpg", "caption": f"A {split}", "split": split} for split in ("train", "test", "train")]
    path = table(tmp_path, kind, records if first == "train" else records[::-1][1:] + records[:1])
    summary = ReadSummary()
    options = ReadOptions(per="image", split=("train",))
    (row,) = read_rows(kind, path, options=options, summary=summary, folder=tmp_path)
    assert row["references"] == ["A train", "A train"]
    assert summary.skipped == {"split test": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_of_an_image_without_captions_is_a_row(tmp_path, kind):
    records = [{"image": f"{name}.jpg", "question": "what?", "answer": name} for name in "ab"]
    rows = list(read_rows(kind, table(tmp_path, kind, records), options=ReadOptions(per="image"), folder=tmp_path))
    assert [(row["image"], row["context"], row["target"]) for row in rows] == [
        ("a.jpg", "what?", "a"),
        ("b.jpg", "what?", "b"),
    ]
    assert not any("references" in row for row in rows)


@pytest.mark.parametrize("kind", [*KINDS, "audiocaps"])
@pytest.mark.parametrize("group", [True, False])
def test_rows_an_image_need_the_image(tmp_path, kind, group):
    own = {"youtube_id": "abcdefghijk"} if kind == "audiocaps" else {"image_id": 3} if group else {}
    path = table(tmp_path, "csv" if kind == "audiocaps" else kind, [own | {"caption": "A dog"}, own | {"caption": "B"}])
    with pytest.raises(DataError, match=r"t\..*: no image, .*--images says in which folder"):
        list(read_rows(kind, path, options=ReadOptions(per="image")))


@pytest.mark.parametrize("key", ["image", "audio", "video", "video_path"])
@pytest.mark.parametrize("per", ["caption", "image"])
def test_lists_of_names_are_several_images(tmp_path, key, per):
    records = [{key: ["a.jpg", "b.jpg"], "caption": ["A dog", "A hound"]}, {key: ["c.jpg"], "caption": ["A cat"]}]
    for kind in ("json", "parquet"):
        path = table(tmp_path, kind, records)
        rows = list(read_rows(kind, path, options=ReadOptions(per=per), folder=tmp_path))
        assert [row["image"] for row in rows] == [["a.jpg", "b.jpg"]] * (2 if per == "caption" else 1) + [["c.jpg"]]
        assert [row["group"] for row in rows] == [", ".join(row["image"]) for row in rows]
        with pytest.raises(DataError, match=r"image 'a\.jpg' is not in"):
            list(read_rows(kind, path, options=ReadOptions(images=tmp_path)))
    for row in open_rows(tmp_path / "t.parquet"):
        assert [path.parent.resolve() for path in row.images] == [tmp_path.resolve()] * len(row.images)
        assert row.group == ", ".join(path.name for path in row.images)


@pytest.mark.parametrize("per", ["caption", "image"])
def test_an_object_is_no_image(tmp_path, per):
    path = table(tmp_path, "json", [{"image": {"a": 1}, "caption": ["A dog", "A cat"]}])
    with pytest.raises(DataError, match=r"'image' is|no image"):
        list(read_rows("json", path, options=ReadOptions(per=per)))


@pytest.mark.parametrize("value", [[], [1], [{"a": 1}], ["http://x/a.jpg"], ["a.jpg", 3], ["a.jpg", "http://x/b.jpg"]])
def test_lists_that_are_no_images_are_kept_in_meta(tmp_path, value):
    (row,) = read_rows("json", table(tmp_path, "json", [{"image": value, "caption": "A dog"}]))
    assert ("image" in row, row["meta"]) == (False, {"image": value})


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.opus", "a.jpg"])
def test_names_of_recordings_are_images_in_an_object_of_captions(tmp_path, name):
    (tmp_path / "t.json").write_text(json.dumps({name: "A dog"}))
    (row,) = read_rows("json", tmp_path / "t.json", folder=tmp_path)
    assert row["image"] == name


def test_a_column_of_films_is_the_image(tmp_path):
    path = table(tmp_path, "csv", [{"video": "a.mp4", "caption": "A dog"}])
    (row,) = open_rows(path)
    assert row.image == tmp_path / "a.mp4"
    path = table(tmp_path, "csv", [{"clip": "a.mp4", "words": "A dog"}])
    (row,) = open_rows(path, {"video": "clip", "caption": "words"})
    assert (row.image, row.source) == (tmp_path / "a.mp4", ("A dog",))
