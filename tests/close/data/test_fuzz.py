"""Nothing but a told error comes of any file that a reader reads: seeded damage and foreign values, in every format."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import INPUTS, Tried, as_json, damaged, reshaped
from test_readers_formats import (
    ANNOTATIONS,
    BLIP,
    COCO,
    KARPATHY,
    NEWS,
    NOCAPS,
    QUESTIONS,
    SNLI,
    TEXTCAPS,
    VQA_E,
    lines,
)
from test_readers_senses import BOXES, CORPUS, DETECTED, GENOME, MSRVTT, NLVR2

from close.data.readers import ReadOptions, ReadSummary, convert
from close.data.rows import RowFile

ROWS = [
    {"id": "a", "source": ["A dog", "A hound"], "image": "a.jpg", "group": 1, "meta": {"n": 1}},
    {"source": "A cat"},
]
JSON: dict[str, Any] = {
    "coco": COCO, "nocaps": NOCAPS, "karpathy": KARPATHY, "vqa": QUESTIONS, "vqa-e": VQA_E, "visualnews": NEWS,
    "textcaps": TEXTCAPS, "json": BLIP, "coco-boxes": BOXES, "visual-genome": GENOME, "coco-results": DETECTED, "msr-vtt": MSRVTT,
}  # fmt: skip
LINES: dict[str, Any] = {
    "snli": SNLI,
    "snli-ve": [row | {"Flickr30K_ID": "1"} for row in SNLI],
    "jsonl": ROWS,
    "nlvr2": NLVR2,
}
CSV = 'image,caption,width,meta\na.jpg,"A dog, ""big""",3,x\nb.jpg,Zoë,4,\nc.jpg,"A cat\nasleep",,\n'
TOKEN = "1.jpg#0\tA dog\n1.jpg#1\tA hound\n2.jpg#0\tA cat\n"
WAYS: dict[str, list[dict[str, Any]]] = {
    "coco": [{}, {"per": "image"}],
    "karpathy": [{}, {"per": "image"}, {"split": ("test",)}],
    "textcaps": [{}, {"per": "image"}],
    "json": [{}, {"per": "image"}, {"split": ("a",)}, {"columns": {"caption": "title", "id": 0}}],
    "csv": [
        {},
        {"per": "image"},
        {"columns": {"caption": 1}},
        {"columns": {"text": "caption", "label": 0}},
        {"encoding": "cp1252"},
    ],
    "parquet": [{}, {"per": "image"}, {"columns": {"caption": 0}}, {"images": Path("out")}],
    "webdataset": [{}, {"images": Path("out")}, {"columns": {"caption": "cap", "image": "JPG"}}],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    article = Path("bbc/articles/7.txt")
    article.parent.mkdir(parents=True)
    article.write_text("Rain.")


def every_way(tried: Tried, kind: str, path: Path, inputs: Iterable[bytes]) -> None:
    """Convert each input, stopping at errors and skipping them; what comes of it is whole and can be read."""
    for number, content in enumerate(inputs):
        path.write_bytes(content)
        way = random.Random(number).choice(WAYS.get(kind, [{}]))
        for skip in (False, True):
            options = ReadOptions(**way)
            made = tried(
                lambda o=options, s=skip: convert(kind, path, "out.jsonl", options=o, skip_errors=s, overwrite=True)
            )
            if isinstance(made, ReadSummary):
                assert made.read == made.written + sum(made.skipped.values())
                assert made.written == len(RowFile("out.jsonl"))
                json.loads("[" + ",".join(Path("out.jsonl").read_text().splitlines()) + "]", parse_constant=pytest.fail)
        if path.suffix in (".jsonl", ".txt", ".csv", ".tsv", ".token"):
            rows = tried(lambda: RowFile(path))
            if isinstance(rows, RowFile):
                assert [rows[n] for n in range(len(rows))][::-1] == list(rows)[::-1]


@pytest.mark.parametrize("kind", JSON)
def test_fuzz_of_json(tried: Tried, kind: str) -> None:
    every_way(tried, kind, Path("x.json"), map(as_json, reshaped(JSON[kind])))
    every_way(tried, kind, Path("x.json"), damaged(json.dumps(JSON[kind], ensure_ascii=False).encode(), INPUTS // 4))


@pytest.mark.parametrize("file", ["annotations", "captions"])
def test_fuzz_of_answers_and_captions_beside_questions(tried: Tried, file: str) -> None:
    whole: Any = {"annotations": ANNOTATIONS, "captions": COCO}[file]
    Path("q.json").write_text(json.dumps(QUESTIONS))
    for content in map(as_json, reshaped(whole)):
        Path("x.json").write_bytes(content)
        options = ReadOptions(**{file: Path("x.json")})  # type: ignore[arg-type]
        for skip in (False, True):
            tried(
                lambda o=options, s=skip: convert(
                    "vqa", "q.json", "out.jsonl", options=o, skip_errors=s, overwrite=True
                )
            )


@pytest.mark.parametrize("kind", LINES)
def test_fuzz_of_json_lines(tried: Tried, kind: str) -> None:
    whole = [b"\n".join(map(as_json, rows)) for rows in reshaped(LINES[kind]) if isinstance(rows, list)]
    every_way(tried, kind, Path("x.jsonl"), whole)
    every_way(tried, kind, Path("x.jsonl"), damaged(lines(LINES[kind]).encode()))


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("csv", "x.csv", CSV),
        ("csv", "x.tsv", CSV.replace(",", "\t")),
        ("txt", "x.txt", "A dog\nZoë 😀\n"),
        ("csv", "x.token", TOKEN),
        ("msvd", "video_corpus.csv", CORPUS),
    ],
)
def test_fuzz_of_text(tried: Tried, kind: str, name: str, text: str) -> None:
    every_way(tried, kind, Path(name), damaged(text.encode()))


def shards() -> Iterator[bytes]:
    parts = {"0.jpg": b"x", "0.txt": b"A dog", "0.json": as_json(ROWS[0]), "1.json": b'{"caption": "A cat"}'}
    names = [
        "../0.txt",
        "0.a.txt",
        "",
        "0",
        ".txt",
        "0.TXT",
        "a/" * 60 + "0.txt",
        "0.cls",
        "é.cap",
        "x" * 300,
        "1.JPG",
        "1.b.json",
    ]
    for number, fields in enumerate(reshaped(ROWS[0])):
        chance, made = random.Random(number), io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for part, content in parts.items():
                member = tarfile.TarInfo(chance.choice(names) if chance.random() < 0.3 else part)
                content = (
                    chance.choice([b"", b"\xff", as_json(fields), b"[" * 5000]) if chance.random() < 0.3 else content
                )
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        yield made.getvalue()
        yield from damaged(made.getvalue(), 1, number)


def test_fuzz_of_shards(tried: Tried) -> None:
    every_way(tried, "webdataset", Path("x.tar"), shards())


COLUMNS: list[Callable[[], Any]] = [
    lambda: pa.array(["A dog", "A cat", None]),
    lambda: pa.array([["A dog"], [], ["A", None]]),
    lambda: pa.array([{"bytes": b"x", "path": "../a.jpg"}, {"bytes": None, "path": None}, None]),
    lambda: pa.array([b"A \xff", b"x", b""], pa.binary()).view(pa.string()),
    lambda: pa.array([2**62, -(2**62), 0], pa.timestamp("us")),
    lambda: pa.array([2**62, 1, 0], pa.timestamp("ns", tz="Nowhere/At_All")),
    lambda: pa.array([2**31 - 1, -(2**31), 0], pa.date32()),
    lambda: pa.array([2**62, 1, 0], pa.duration("s")),
    lambda: pa.array([float("nan"), 1.0, None]),
    lambda: pa.array([1, 2, 3], pa.uint64()),
    lambda: pa.nulls(3),
    lambda: pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    lambda: pa.array([b"x", b"y", None]),
    lambda: pa.array([{"raw": "A dog"}, {"raw": None}, None]),
    lambda: pa.array(["a", "b", "a"]).dictionary_encode(),
    lambda: pa.array([True, False, None]),
]
NAMES = [
    "caption",
    "captions",
    "image",
    "id",
    "meta",
    "label",
    "sentences",
    "text",
    "other",
    "status",
    "is_rejected",
    "Caption",
]


def tables() -> Iterator[bytes]:
    """Of any types, with classes of any form; every fourth is cut. (What a flipped byte does, is pyarrow's own.)"""
    for number, about in enumerate(reshaped({"info": {"features": {"label": {"names": ["a", "b"]}}}})):
        chance, made = random.Random(number), io.BytesIO()
        chosen = chance.sample(NAMES, chance.randint(1, 5))
        table = pa.table([chance.choice(COLUMNS)() for _ in chosen], names=chosen)
        pq.write_table(table.replace_schema_metadata({b"huggingface": as_json(about)}), made)
        yield made.getvalue()[: chance.randrange(500) if number % 4 == 0 else None]


def test_fuzz_of_parquet(tried: Tried) -> None:
    every_way(tried, "parquet", Path("x.parquet"), tables())
