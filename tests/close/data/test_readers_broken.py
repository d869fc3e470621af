"""Broken files: each is told with file and line or record, in one line, and can be skipped where only a record is bad."""

import gc
import gzip
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_readers_formats import ANNOTATIONS, COCO, KARPATHY, NEWS, NOCAPS, QUESTIONS, SNLI, VQA_E, lines, put, shard

from close.data.readers import ReadOptions, ReadSummary, convert, read_rows
from close.data.readers.json_stream import _Text, json_items
from close.errors import CloseError, DataError, MissingError, OutputExistsError, RecipeError


def fails(name: str, path: Path, *parts: str, **options: Any) -> None:
    with pytest.raises(CloseError) as caught:
        list(read_rows(name, path, options=ReadOptions(**options)))
    message = str(caught.value)
    assert "\n" not in message
    for part in (path.name, *parts):
        assert part in message, message


BIG = {
    "coco": COCO,
    "nocaps": NOCAPS,
    "karpathy": KARPATHY,
    "vqa": QUESTIONS,
    "vqa-e": VQA_E,
    "visualnews": NEWS,
}


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated_json(tmp_path: Path, name: str, part: float) -> None:
    text = json.dumps(BIG[name])
    put(tmp_path / "bbc/articles/7.txt", "Rain.")
    fails(name, put(tmp_path / "cut.json", text[: int(len(text) * part)]), "cut off")


@pytest.mark.parametrize("name", BIG)
def test_damaged_json(tmp_path: Path, name: str) -> None:
    text = json.dumps(BIG[name]).replace('": ', '"; ', 3) + " " * 100
    fails(name, put(tmp_path / "bad.json", text), "not JSON")


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("value", ["", "[]", "{}", '"x"', "[1]"])
def test_json_of_another_structure(tmp_path: Path, name: str, value: str) -> None:
    fails(name, put(tmp_path / "other.json", value))


def every_cut(text: str) -> Iterator[str]:
    return (text[:end] for end in range(len(text)))


def test_no_cut_of_a_json_file_passes_as_whole(tmp_path: Path) -> None:
    text = '{"n": 12, "s": "a\\u00e9\\n", "images": [{"id": 1, "x": [true, null]}, {"id": -2.5e3}], "z": "end"}'
    whole = json.loads(text)["images"]
    for cut in every_cut(text):
        items = []
        try:
            items = [item for _, item in json_items(put(tmp_path / "c.json", cut), "images")]
        except DataError:
            continue
        assert items == whole


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_json_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("close.data.readers.json_stream._CHUNK", chunk)
    path = tmp_path / "c.json"
    path.write_text(json.dumps(COCO, ensure_ascii=False, indent=1), encoding="utf-8")
    assert [item for _, item in json_items(path, "annotations")] == COCO["annotations"]


def test_one_long_value_is_not_begun_once_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("close.data.readers.json_stream._CHUNK", 16)
    text = _Text(put(tmp_path / "long.json", json.dumps({"info": "x" * 50_000, "images": []})), "utf-8")
    begun, decode = [], text.decode
    monkeypatch.setattr(text, "decode", lambda buffer, place: (begun.append(place), decode(buffer, place))[1])
    for name in text.names():
        text.skip(name)
    assert len(begun) < 30


def changed(value: Any, change: Callable[[Any], None]) -> Any:
    copy = json.loads(json.dumps(value))
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("name", "value", "change", "where", "what"),
    [
        ("coco", COCO, lambda c: c["annotations"][1].pop("caption"), "annotations[1]", "no 'caption'"),
        ("coco", COCO, lambda c: c["annotations"][1].update(caption=5), "annotations[1]", "'caption' is 5"),
        ("coco", COCO, lambda c: c["annotations"][1].update(caption="  "), "annotations[1]", "empty"),
        ("coco", COCO, lambda c: c["annotations"][2].update(image_id=99), "annotations[2]", "no image has that id"),
        ("coco", COCO, lambda c: c["annotations"][2].update(id=1), "annotations[2]", "second row has the id '1'"),
        ("coco", COCO, lambda c: c["images"][0].pop("file_name"), "annotations[1]", "no 'file_name'"),
        ("nocaps", NOCAPS, lambda c: c["annotations"].pop(1), "images[1]", "no annotation is about image 1"),
        ("nocaps", NOCAPS, lambda c: c["images"][1].update(id=0), "images[1]", "second row"),
        ("karpathy", KARPATHY, lambda c: c["images"][1].pop("sentences"), "images[1]", "no 'sentences'"),
        ("karpathy", KARPATHY, lambda c: c["images"][0]["sentences"][1].pop("raw"), "sentences[1]", "no 'raw'"),
        ("karpathy", KARPATHY, lambda c: c["images"][1].pop("split"), "images[1]", "no 'split'"),
        (
            "vqa",
            QUESTIONS,
            lambda c: c["questions"][1].update(question=""),
            "questions[1]",
            "'question' is an empty text",
        ),
        ("vqa", QUESTIONS, lambda c: c["questions"][1].update(question_id=42000), "questions[1]", "second row"),
        ("vqa-e", VQA_E, lambda c: c[0].update(answers=[]), "record[0]", "'answers' is []"),
        ("vqa-e", VQA_E, lambda c: c[0].update(answers=["a", ""]), "record[0]", "none of them empty"),
        ("vqa-e", VQA_E, lambda c: c[0].update(explanation=[]), "record[0]", "'explanation' is []"),
        ("visualnews", NEWS, lambda c: c[0].pop("caption"), "record[0]", "no 'caption'"),
        ("visualnews", NEWS, lambda c: c[0].update(article_path="gone.txt"), "record[0]", "gone.txt"),
        ("visualnews", NEWS, lambda c: c[0].update(article_path="empty.txt"), "record[0]", "is empty"),
    ],
)
def test_wrong_records(tmp_path: Path, name: str, value: Any, change: Any, where: str, what: str) -> None:
    put(tmp_path / "bbc/articles/7.txt", "Rain.")
    put(tmp_path / "empty.txt", " \n")
    fails(name, put(tmp_path / "wrong.json", changed(value, change)), where, what)


def test_vqa_answers_missing_or_empty(tmp_path: Path) -> None:
    questions = put(tmp_path / "q.json", QUESTIONS)
    gone = put(tmp_path / "a.json", changed(ANNOTATIONS, lambda c: c["annotations"].pop(0)))
    fails("vqa", questions, "questions[1]", "a.json has no answers to question 73000", annotations=gone)
    empty = put(tmp_path / "b.json", changed(ANNOTATIONS, lambda c: c["annotations"][0].update(answers=[])))
    fails("vqa", questions, "questions[1]", "'answers' is []", annotations=empty)
    captions = put(tmp_path / "c.json", changed(COCO, lambda c: c["annotations"].pop(0)))
    fails("vqa", questions, "questions[1]", "no caption of image 73", captions=captions)


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("snli", lines(SNLI)[:-30], ":2", "cut off"),
        ("snli", lines([SNLI[0] | {"gold_label": "maybe"}]), ":1", "'gold_label' is 'maybe'"),
        ("snli", lines([SNLI[0], SNLI[0]]), ":2", "second row has the id"),
        ("snli", lines([SNLI[0] | {"sentence2": ""}]), ":1", "'sentence2' is an empty text"),
        ("snli", '{"pairID": 1}\n', ":1", "no 'gold_label'"),
        ("snli", "[]\n", ":1", "expected an object"),
        ("snli-ve", lines(SNLI), ":1", "no 'Flickr30K_ID'"),
        ("jsonl", '{"source": "a"}\n{"sorce": "b"}\n', ":2", "did you mean 'source'"),
        ("jsonl", '{"source": "a", "id": "2"}\n{"source": "b"}\n', ":2", "second row has the id '2'"),
        ("jsonl", '{"source": ""}\n', ":1", "empty text"),
        ("jsonl", '"a"\n', ":1", "expected a JSON object"),
        ("txt", "", "", "not one row"),
        ("csv", "caption,n\na,1\nb\n", ":3", "1 columns"),
        ("csv", 'caption,n\n"a"b,1\n', ":2", "not CSV"),
        ("csv", 'caption,n\na,1\n"b,2\n', ":3", "not CSV"),
        ("csv", "n,m\n1,2\n", ":1", "no column of captions (columns: n, m)"),
        ("csv", "caption,caption\na,b\n", ":1", "two columns have one name"),
        ("csv", "id,caption\n1,a\n1,b\n", ":3", "second row"),
        ("csv", "caption,n\n,1\n", ":2", "no text in it"),
    ],
)
def test_wrong_lines(tmp_path: Path, name: str, text: str, where: str, what: str) -> None:
    fails(name, put(tmp_path / "wrong.txt", text), f"wrong.txt{where}", what)


@pytest.mark.parametrize(
    ("name", "value"), [*BIG.items(), ("snli", SNLI), ("snli-ve", [s | {"Flickr30K_ID": "1"} for s in SNLI])]
)
def test_encodings(tmp_path: Path, name: str, value: Any) -> None:
    put(tmp_path / "bbc/articles/7.txt", "\ufeffRain.")
    text = json.dumps(value, ensure_ascii=False) if name in BIG else lines(value)
    text = text.replace("dog", "dög").replace("horse", "hörse").replace("raw", "raw").replace("A ", "Ä ")
    path = tmp_path / "t.json"
    path.write_bytes(text.encode("utf-8-sig"))
    with_mark = list(read_rows(name, path))
    path.write_bytes(text.encode("utf-8"))
    assert list(read_rows(name, path)) == with_mark
    text = text.replace("\u2013", "-").replace("\\u2013", "-")
    path.write_bytes(text.encode("utf-8"))
    plain = list(read_rows(name, path))
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_rows(name, path))
    assert list(read_rows(name, path, options=ReadOptions(encoding="latin-1"))) == plain


@pytest.mark.parametrize(("name", "head"), [("txt", ""), ("csv", "caption\n"), ("jsonl", "")])
def test_encodings_of_line_files(tmp_path: Path, name: str, head: str) -> None:
    path = tmp_path / "t"
    text = head + '{"source": "Zoë"}\n' if name == "jsonl" else head + "Zoë\n"
    path.write_bytes(text.encode("utf-8-sig"))
    row = next(iter(read_rows(name, path)))
    assert row["source"] == "Zoë"
    path.write_bytes(text.encode("latin-1"))
    fails(name, path, f":{2 if head else 1}", "not UTF-8 at byte", "latin-1")
    assert list(read_rows(name, path, options=ReadOptions(encoding="latin-1"))) == [row]
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        path.write_bytes(("\ufeff" * encoding.endswith("be") + text).encode(encoding))
        assert list(read_rows(name, path)) == [row]


@pytest.mark.parametrize("encoding", ["utf-9", "hex", "rot13", "", "a\0b", "Ä"])
def test_unknown_encoding(encoding: str) -> None:
    with pytest.raises(RecipeError, match="unknown encoding"):
        ReadOptions(encoding=encoding)


@pytest.mark.parametrize(
    "encoding", ["idna", "punycode", "utf-7", "undefined", "unicode_escape", "iso2022_jp", "cp037"]
)
@pytest.mark.parametrize("name", ["csv", "txt", "jsonl", "coco"])
def test_odd_encodings_read_or_are_told(tmp_path: Path, name: str, encoding: str) -> None:
    path = put(tmp_path / "t", COCO if name == "coco" else "caption\nZoë \\x\n")
    with suppress(CloseError):
        list(read_rows(name, path, options=ReadOptions(encoding=encoding)))


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("coco", COCO, {}),
        ("nocaps", NOCAPS, {}),
        ("karpathy", KARPATHY, {}),
        ("vqa", QUESTIONS, {}),
        ("vqa-e", VQA_E, {"split": ("val2014",)}),
        ("visualnews", NEWS, {}),
    ],
)
def test_missing_image(tmp_path: Path, name: str, value: Any, options: dict[str, Any]) -> None:
    put(tmp_path / "pictures/bbc/articles/7.txt", "Rain.")
    fails(name, put(tmp_path / "t.json", value), "image '", "is not in", images=tmp_path / "pictures", **options)


def test_missing_image_of_snli_ve_and_csv(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    ve = put(tmp_path / "ve.jsonl", lines([SNLI[0] | {"Flickr30K_ID": "77"}]))
    fails("snli-ve", ve, ":1", "'77.jpg' is not in", images=tmp_path / "p")
    fails("csv", put(tmp_path / "t.csv", "caption,image\na,x.jpg\n"), ":2", "'x.jpg'", images=tmp_path / "p")


def test_missing_file_and_wrong_kind(tmp_path: Path) -> None:
    for name in ("coco", "folder", "csv", "parquet", "webdataset"):
        with pytest.raises(MissingError, match="no such file or folder"):
            list(read_rows(name, tmp_path / "gone"))
    for name in ("coco", "csv", "snli", "txt"):
        fails(name, tmp_path, "is a folder")
    fails("folder", put(tmp_path / "x.txt", "a"), "expected a folder")


def test_folder_with_a_broken_image(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg", "no picture at all")
    fails("folder", tmp_path, "b.jpg", "not an image")
    summary = ReadSummary()
    assert len(list(read_rows("folder", tmp_path, skip_errors=True, summary=summary))) == 1
    assert summary.skipped == {"error": 1}
    assert "b.jpg" in summary.messages[0]
    put(tmp_path / "a.txt", "\n")
    fails("folder", tmp_path, "a.txt", "no caption")


def test_broken_tars(tmp_path: Path) -> None:
    members = [(f"{i:04d}.txt", b"A dog." * 200) for i in range(20)]
    whole = shard(tmp_path / "a.tar", members).read_bytes()
    for size in (700, 5000, 20000):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        fails("webdataset", tmp_path / "cut.tar", "not a whole tar file")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole)[:150])
    fails("webdataset", tmp_path / "a.tar.gz", "not a whole tar file")
    fails("webdataset", put(tmp_path / "no.tar", "text"), "not a whole tar file")
    fails("webdataset", shard(tmp_path / "b.tar", [("1.json", b"{")]), "sample", ".json: not JSON")
    fails("webdataset", shard(tmp_path / "c.tar", [("1.txt", "é".encode("latin-1"))]), "sample", "not UTF-8")
    fails("webdataset", shard(tmp_path / "d.tar", [("1.jpg", b"x")]), "no caption in it")
    evil = shard(tmp_path / "e.tar", [("../../../x.jpg", b"x"), ("../../../x.txt", b"A dog.")])
    (row,) = read_rows("webdataset", evil, options=ReadOptions(images=tmp_path / "out" / "deep"), folder=tmp_path)
    assert (tmp_path / row["image"]).parent == tmp_path / "out" / "deep" / "e"
    assert not (tmp_path / "x.jpg").exists()
    double = shard(tmp_path / "f.tar", [("1.txt", b"a"), ("2.txt", b"b"), ("1.txt", b"c")])
    fails("webdataset", double, "sample '1': its parts do not lie side by side")


def test_broken_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"caption": ["a", "b"]}), tmp_path / "a.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    fails("parquet", tmp_path / "cut.parquet", "not a whole Parquet file")
    fails("parquet", put(tmp_path / "t.parquet", "text"), "not a whole Parquet file")
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "b.parquet")
    fails("parquet", tmp_path / "b.parquet", "no column of captions (columns: words)")
    pq.write_table(pa.table({"caption": ["a", ""]}), tmp_path / "c.parquet")
    fails("parquet", tmp_path / "c.parquet", "row 1")


def test_a_bad_record_among_good_ones_says_how_to_go_on(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "file,caption\nthere.jpg,a dog\ngone.jpg,a cat\n")
    (tmp_path / "there.jpg").write_bytes(b"")
    fails(
        "csv",
        path,
        "mine.csv:3: image 'gone.jpg'",
        "; close convert csv IN OUT --skip-errors leaves such rows out",
        images=tmp_path,
    )
    with pytest.raises(DataError) as told:  # the folder is wrong, not the record
        list(read_rows("csv", path, options=ReadOptions(images=tmp_path / "elsewhere")))
    assert "--skip-errors" not in str(told.value)


def test_skipped_errors_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    bad = changed(COCO, lambda c: c["annotations"][1].update(caption=""))
    summary = convert("coco", put(tmp_path / "c.json", bad), tmp_path / "o.jsonl", skip_errors=True)
    assert summary.to_dict()["read"] == 3
    assert (summary.written, summary.skipped) == (2, {"error": 1})
    assert "annotations[1]" in summary.messages[0]


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    bad = put(tmp_path / "c.json", json.dumps(COCO)[:-40])
    with pytest.raises(DataError):
        convert("coco", bad, tmp_path / "out" / "o.jsonl")
    assert not (tmp_path / "out").exists()
    out = put(tmp_path / "there.jsonl", "kept")
    with pytest.raises(OutputExistsError):
        convert("coco", put(tmp_path / "d.json", COCO), out)
    assert out.read_text() == "kept"
    convert("coco", tmp_path / "d.json", out, overwrite=True)
    assert out.read_text().count("\n") == 3


def many(name: str, path: Path, count: int) -> Path:
    caption = "A dog runs over the wet grass of a park. " * 16 + "{}"
    if name == "snli":
        with path.open("w") as file:
            for i in range(count):
                file.write(json.dumps(SNLI[0] | {"pairID": f"p{i}", "sentence1": caption.format(i)}) + "\n")
    elif name in ("csv", "txt"):
        with path.open("w") as file:
            file.write("caption\n" if name == "csv" else "")
            file.writelines(f'"{caption.format(i)}"\n' for i in range(count))
    elif name == "jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps({"source": caption.format(i)}) + "\n" for i in range(count))
    elif name == "vqa-e":
        with path.open("w") as file:
            file.write(
                "["
                + ",\n".join(json.dumps(VQA_E[0] | {"img_id": i, "question": caption.format(i)}) for i in range(count))
                + "]"
            )
    elif name == "karpathy":
        image = KARPATHY["images"][0]
        with path.open("w") as file:
            items = (
                json.dumps(image | {"cocoid": i, "sentences": [{"raw": caption.format(i), "sentid": i}]})
                for i in range(count)
            )
            file.write('{"images": [' + ",".join(items) + '], "dataset": "coco"}')
    elif name == "webdataset":
        shard(path, [(f"{i:06d}.txt", caption.format(i).encode()) for i in range(count)])
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"caption": [caption.format(i) for i in range(count)]}), path, row_group_size=1000)
    return path


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use from /proc")
@pytest.mark.parametrize("name", ["jsonl", "csv", "txt", "snli", "webdataset", "parquet", "karpathy", "vqa-e"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """The files are above 30 MB; the ids' hashes take about 5."""
    if name == "parquet":
        pytest.importorskip("pyarrow.parquet")
    path = many(name, tmp_path / "big", 50_000)
    gc.collect()
    before, most, read = resident(), 0, 0
    for read, _ in enumerate(read_rows(name, path), 1):
        if read % 500 == 0:
            most = max(most, resident() - before)
    assert read == 50_000
    assert most < 20e6


def test_skipped_errors_are_also_those_of_a_file_that_ends_too_soon(tmp_path: Path) -> None:
    summary = ReadSummary()
    path = put(tmp_path / "c.json", json.dumps(COCO)[:-20])
    assert len(list(read_rows("coco", path, summary=summary, skip_errors=True))) == 2
    assert summary.skipped == {"error": 1}
    assert "cut off" in summary.messages[0]
    (tmp_path / "shards").mkdir()
    for name in ("a", "b", "c"):
        shard(tmp_path / "shards" / f"{name}.tar", [("1.txt", b"A dog")])
    put(tmp_path / "shards" / "b.tar", "text")
    got = list(read_rows("webdataset", tmp_path / "shards", summary=(summary := ReadSummary()), skip_errors=True))
    assert ([row["id"] for row in got], summary.skipped) == (["a/1", "c/1"], {"error": 1})
    fails("snli", put(tmp_path / "s.jsonl", "{\n" + lines(SNLI)), ":1: not JSON")
    assert len(list(read_rows("snli", tmp_path / "s.jsonl", skip_errors=True))) == 1
    with pytest.raises(DataError, match=r"not one row; .*the first: .*not JSON"):
        list(read_rows("snli", put(tmp_path / "s.jsonl", "{\n"), skip_errors=True))


def test_an_unknown_format_is_told_with_all_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"did you mean 'coco'\? known: .*coco, .*csv, .*webdataset"):
        list(read_rows("coko", tmp_path))


def test_what_is_not_json_is_written_as_json(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jsonl", '{"source": "a", "meta": {"n": NaN, "half": "\\ud83d", "deep": [[1]]}}\n')
    convert("jsonl", path, tmp_path / "out.jsonl")
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)["meta"] == {"n": None, "half": "\ud83d", "deep": [[1]]}
