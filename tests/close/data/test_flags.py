"""What a data set itself leaves out is left out, counted, and not scored."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_readers_formats import COCO, KARPATHY, QUESTIONS, put, shard

from close.data.readers import ReadOptions, ReadSummary, read_rows
from close.data.shards import open_rows
from close.errors import DataError
from close.evaluation.compare import compare
from close.evaluation.scores import score_files

WRITTEN = {
    0: ["A can of soup on a wooden table.", "A soup can stands on a table.", "Soup in a can."],
    1: ["A blurry photo of a keyboard.", "Black keyboard on a desk."],
    2: [],
}
SAID = {0: "a can of soup on a table", 1: "a black keyboard", 2: "quality issues are too severe"}


def annotations(*, flagged: bool) -> dict:
    """A file in VizWiz' layout, with the captions that its tools leave out, or made without them."""
    found = [(image, text, None) for image, texts in WRITTEN.items() for text in texts]
    if flagged:
        found += [(image, "Quality issues are too severe.", "is_precanned") for image in WRITTEN]
        found.insert(1, (0, "a can", "is_rejected"))
    return {
        "images": [
            {"id": image, "file_name": f"VizWiz_val_{image}.jpg"} for image in WRITTEN if flagged or WRITTEN[image]
        ],
        "annotations": [
            {"id": n, "image_id": image, "caption": text}
            | {flag: flag == said for flag in ("is_precanned", "is_rejected") if flagged}
            for n, (image, text, said) in enumerate(found)
        ],
    }


def test_vizwiz_trains_on_what_its_tools_keep(tmp_path: Path) -> None:
    path, summary = put(tmp_path / "val.json", annotations(flagged=True)), ReadSummary()
    assert [row["source"] for row in read_rows("coco", path, summary=summary)] == [
        t for ts in WRITTEN.values() for t in ts
    ]
    assert summary.skipped == {"is_precanned": 3, "is_rejected": 1}
    images = list(read_rows("coco", path, options=ReadOptions(per="image"), summary=(again := ReadSummary())))
    assert {int(row["id"]): row["references"] for row in images} == {0: WRITTEN[0], 1: WRITTEN[1]}
    assert again.skipped == {"every caption is flagged": 1}


def test_vizwiz_is_scored_as_without_the_flagged(tmp_path: Path) -> None:
    def predictions(name: str, keys: list[int]) -> Path:
        return put(tmp_path / name, [{"image_id": key, "caption": SAID[key]} for key in keys])

    every, some = predictions("p.json", [0, 1, 2]), predictions("q.json", [0, 1])
    with_flags, without = (put(tmp_path / f"{f}.json", annotations(flagged=f)) for f in (True, False))
    metrics = ("bleu", "cider")
    got = score_files(every, with_flags, "caption", metrics=metrics, tokenizer="python", samples=0)
    plain = score_files(some, without, "caption", metrics=metrics, tokenizer="python", samples=0)
    assert "flagged" in got.pop("notes")["flags"]
    assert got == {key: value for key, value in plain.items() if key != "notes"}
    assert (got["n"], got["missing"]) == (2, 0)
    with pytest.raises(DataError, match="prediction '2' has no reference"):
        score_files(every, without, "caption", metrics=metrics, tokenizer="python", samples=0)
    both = compare(every, some, references=with_flags, task="caption", tokenizer="python", samples=100)
    assert both["n"] == 2


def test_tables_of_any_kind_tell_what_they_leave_out_and_keep_each_time(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    rows = {"caption": ["a dog", "a cat", "a cow"], "is_rejected": [False, True, False], "wide": [1, 2, 3]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    lines = [",".join(map(str, cells)) for cells in (rows, *zip(*rows.values(), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    for _ in range(2):
        said = {}
        for name in ("t.csv", "t.parquet"):
            caplog.clear()
            assert [row.source[0] for row in open_rows(tmp_path / name)] == ["a dog", "a cow"]
            said[name] = [record.getMessage().partition(f"{name}: ")[2] for record in caplog.records]
        assert said["t.csv"] == said["t.parquet"]
        assert said["t.csv"][0].endswith("kept in meta: is_rejected, wide")
        assert said["t.csv"][1] == "1 rows are left out: is_rejected"


def test_flags_in_every_format_that_may_have_them(tmp_path: Path) -> None:
    karpathy = json.loads(json.dumps(KARPATHY))
    karpathy["images"][0]["sentences"][0]["is_rejected"] = True
    assert [row["id"] for row in read_rows("karpathy", put(tmp_path / "k.json", karpathy))] == ["771687", "5"]

    rows = [{"caption": f"dog {n}", "status": status} for n, status in enumerate(("success", "failed_to_download"))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert [row["source"] for row in read_rows("parquet", tmp_path / "t.parquet")] == ["dog 0"]

    members = [(f"{n}.json", json.dumps(row).encode()) for n, row in enumerate(rows)]
    assert [row["source"] for row in read_rows("webdataset", shard(tmp_path / "t.tar", members))] == ["dog 0"]

    flagged = json.loads(json.dumps(COCO))
    flagged["annotations"][0]["is_precanned"] = True
    options = ReadOptions(captions=put(tmp_path / "c.json", flagged))
    assert [row["id"] for row in read_rows("vqa", put(tmp_path / "q.json", QUESTIONS), options=options)] == ["42000"]
