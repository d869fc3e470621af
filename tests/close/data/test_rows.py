"""Rows: what is accepted, what is refused and how it is told."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from close.data.rows import Row, RowFile, named_images, parse_row
from close.errors import CloseError, DataError, MissingError


def jsonl(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


GOOD = '{"source": "a dog"}'


def test_every_key(tmp_path):
    values = {
        "id": "7",
        "source": ["a dog", "an animal"],
        "context": "what is it?",
        "target": "dog",
        "image": "images/7.png",
        "group": 3,
        "references": ["a dog"],
        "answers": ["dog", "dog", "cat"],
        "label": "neutral",
        "task": "vqa",
        "meta": {"own": 1},
    }
    (row,) = RowFile(jsonl(tmp_path, json.dumps(values)))
    assert row == Row(
        id="7",
        source=("a dog", "an animal"),
        context="what is it?",
        target=("dog",),
        images=(tmp_path / "images/7.png",),
        group="3",
        references=("a dog",),
        answers=("dog", "dog", "cat"),
        label="neutral",
        task="vqa",
        meta={"own": 1},
    )


def test_empty_names_are_none(tmp_path):
    """As pandas writes what is missing."""
    nothing = dict.fromkeys(("id", "group", "label", "task", "context"), "")
    found = RowFile(jsonl(tmp_path, *[json.dumps({"source": "a"} | nothing)] * 2))
    assert list(found) == [Row(id=str(number), source=("a",)) for number in (1, 2)]


def test_several_images(tmp_path):
    several, one, none = RowFile(
        jsonl(
            tmp_path,
            json.dumps({"id": "a", "image": ["x.png", "sub/y.png"]}),
            json.dumps({"id": "b", "image": ["x.png"]}),
            json.dumps({"id": "c", "source": "a dog"}),
        )
    )
    assert several.images == (tmp_path / "x.png", tmp_path / "sub/y.png")
    assert several.image == several.images[0]
    assert named_images(several) == [("a#0", tmp_path / "x.png"), ("a#1", tmp_path / "sub/y.png")]
    assert named_images(one) == [("b", tmp_path / "x.png")]
    assert (none.image, named_images(none)) == (None, [])


@pytest.mark.parametrize("image", [[], ["a.png", ""], ["a.png", 5], {"a": 1}, 5, [["a.png"]]])
def test_images_that_are_none(tmp_path, image):
    with pytest.raises(DataError, match=r":1: 'image' is"):
        RowFile(jsonl(tmp_path, json.dumps({"id": "a", "image": image})))


def test_rows_by_position(tmp_path):
    lines = [json.dumps({"source": f"text {i} é"}, ensure_ascii=i % 2 == 0) for i in range(9)]
    rows = RowFile(jsonl(tmp_path, *lines[:4], "", "   ", *lines[4:]))
    assert len(rows) == 9
    assert [row.id for row in rows] == ["1", "2", "3", "4", "7", "8", "9", "10", "11"]  # lines, where there is no id
    assert rows[5] == rows[-4] == rows[5:6][0]
    assert [row.source[0] for row in rows[::-2]] == [f"text {i} é" for i in (8, 6, 4, 2, 0)]
    assert pickle.loads(pickle.dumps(rows))[3] == rows[3]
    for out in (9, -10):
        with pytest.raises(IndexError):
            rows[out]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_and_csv(tmp_path, ending, mark):
    (tmp_path / "a.txt").write_bytes(f"{mark}a dog{ending}  a cat, black {ending}".encode())
    assert [(row.id, row.source) for row in RowFile(tmp_path / "a.txt")] == [
        ("1", ("a dog",)),
        ("2", ("a cat, black",)),
    ]
    (tmp_path / "b.csv").write_bytes(
        f'{mark}Image,Caption,own{ending}1.png,"a cat, ""black""",{ending},a dog,{ending}'.encode()
    )
    rows = RowFile(tmp_path / "b.csv")
    assert [row.source for row in rows] == [('a cat, "black"',), ("a dog",)]
    assert [row.image for row in rows] == [tmp_path / "1.png", None]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("nonsense", "not JSON"),
        ("[1]", "expected a JSON object, not list"),
        ("{}", "missing key 'source'"),
        ('{"sorce": "a"}', "unknown key 'sorce': did you mean 'source'"),
        ('{"caption": "a"}', "unknown key 'caption'"),
        ('{"caption": "a"}', "a text is 'source' here, and what is to be said 'target'"),
        ('{"source": 3}', "'source' is 3, expected a string"),
        ('{"source": ["a", null]}', "'source' is None, expected a string"),
        ('{"source": ""}', "'source' is an empty text"),
        ('{"source": " \\n"}', "'source' is an empty text"),
        ('{"source": []}', "'source' is an empty list"),
        ('{"source": {"text": "a"}}', "expected a string"),
        ('{"source": "a", "context": 1}', "'context' is 1, expected a string"),
        ('{"source": "a", "id": 1.5}', "'id' is 1.5, expected a string"),
        ('{"source": "a", "id": true}', "'id' is True, expected a string"),
        ('{"source": "a", "meta": []}', None),
        ('{"source": "a", "meta": [1]}', "'meta' is [1], expected an object"),
        ('{"source": "\\ud83d dog"}', "half a character at position 0"),
        ('{"source": "a", "id": "\\udc00"}', "half a character"),
        ('{"source": ' + "9" * 5000 + "}", "beyond all measure"),
        ("[" * 100_000, "beyond all measure"),
    ],
)
def test_a_wrong_line_is_told(tmp_path, line, words):
    path = jsonl(tmp_path, GOOD, GOOD, line)
    if words is None:
        assert len(RowFile(path)) == 3
        return
    with pytest.raises(DataError) as told:
        RowFile(path)
    assert str(told.value).startswith(f"{path}:3: ")
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_wrong_file_is_told(tmp_path):
    def message(path: Path) -> str:
        with pytest.raises(CloseError) as told:
            RowFile(path)
        assert str(path) in str(told.value)
        return str(told.value)

    with pytest.raises(MissingError, match="no such file"):
        RowFile(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        RowFile(tmp_path)
    for name in ("a.jsonl", "a.txt", "a.csv"):
        (tmp_path / name).write_bytes(b"")
        assert "the file is empty" in message(tmp_path / name)
    (tmp_path / "head.csv").write_text("caption\n")
    assert "there is no row under its header" in message(tmp_path / "head.csv")
    (tmp_path / "a.xml").write_text("<a/>")
    assert ".jsonl, .txt, .csv, .tsv, .token or .parquet" in message(tmp_path / "a.xml")
    (tmp_path / "a.txt").write_bytes(b"a dog\n\xff\n")
    assert ":2: not UTF-8 at byte 0" in message(tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("image,words\n1,2\n")
    assert ":1: no column of captions (columns: image, words); say it by name or place" in message(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("image,words,rating\n1,2,3\n")
    assert "--columns caption=NAME," in message(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("image,caption\n1.png,a dog\n2.png,\n")
    assert ":3: no text in it" in message(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("image,caption\n1.png\n")
    assert ":2: 1 columns, but the header has 2: image, caption" in message(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"caption\n\xff\n")
    assert ":2: not UTF-8 at byte 0" in message(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_ids_are_unique(tmp_path, name):
    text = '{"id": "x", "source": "a"}\n{"id": "x", "source": "b"}\n' if name == "a.jsonl" else "id,text\nx,a\nx,b\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="two rows have the id 'x'"):
        RowFile(tmp_path / name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
KEYS = st.sampled_from(
    ["id", "source", "target", "context", "image", "group", "references", "answers", "label", "meta"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS | st.text(max_size=5), JSON, max_size=5))
def test_any_object_is_a_row_or_a_told_error(values):
    told = ""
    try:
        row = parse_row(values, "here:1", folder=Path("d"), default_id="1")
    except DataError as error:
        told = str(error)
    if told:
        assert told.startswith("here:1: ")
        assert told.encode()
    else:
        assert all(isinstance(text, str) and text.strip() for text in row.source)
        assert " ".join([row.id, *row.source, *row.target, row.context]).encode() is not None


@pytest.mark.parametrize("anywhere", [True, False])
def test_rows_are_read_by_position_on_every_system(tmp_path, monkeypatch, anywhere):
    if not anywhere:
        monkeypatch.delattr("os.pread")  # Windows has none
    path = jsonl(tmp_path, *(json.dumps({"source": f"dog {i}"}) for i in range(50)))
    rows = RowFile(path)
    assert [rows[i].source[0] for i in (49, 3, -1, 0)] == ["dog 49", "dog 3", "dog 49", "dog 0"]
    rows.stays_open = not rows.stays_open
    assert rows[7].source == ("dog 7",)
    path.write_bytes(path.read_bytes()[:-4])
    assert rows[7].source == ("dog 7",)
    with pytest.raises(DataError, match="has become shorter"):
        rows[49]
