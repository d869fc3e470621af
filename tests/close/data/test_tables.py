"""Tables: one layout whatever parts the cells, the same rows for training and for `convert`, and nothing lost without a word."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from close.data.columns import parse_columns
from close.data.readers import ReadOptions, ReadSummary, read_rows
from close.data.rows import RowFile
from close.data.shards import open_rows
from close.errors import CloseError, DataError, RecipeError
from close.runs.recipe import load_recipe


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def both(path: Path, columns: dict[str, str | int] | None = None) -> list[dict[str, Any]]:
    """The rows of a table as `convert` writes them, after a look that training reads the same."""
    made = list(read_rows("csv", path, options=ReadOptions(columns=columns), folder=path.parent))
    rows = RowFile(path, columns)
    seen = [(row.id, row.source, row.group, row.image, dict(row.meta)) for row in pickle.loads(pickle.dumps(rows))]
    assert seen == [
        (
            values["id"],
            (values["source"],) if "source" in values else (),
            values.get("group"),
            path.parent / values["image"] if "image" in values else None,
            values.get("meta", {}),
        )
        for values in made
    ]
    assert [row.source for row in (rows[i] for i in reversed(range(len(rows))))] == [row.source for row in rows][::-1]
    return made


def told(path: Path, columns: dict[str, str | int] | None = None) -> str:
    """What is said of a table, which is the same everywhere."""
    with pytest.raises(CloseError) as convert:
        list(read_rows("csv", path, options=ReadOptions(columns=columns)))
    with pytest.raises(CloseError) as train:
        RowFile(path, columns)
    assert str(train.value).startswith(
        str(convert.value).removesuffix("; close convert csv IN OUT --skip-errors leaves such rows out")
    )
    assert "\n" not in str(convert.value)
    return str(convert.value)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_cells_are_parted_by_what_parts_them(tmp_path: Path, name: str, delimiter: str, ending: str) -> None:
    lines = ["image;caption", "a.jpg;A dog", "", "b.jpg;A cat, asleep" if delimiter != "," else 'b.jpg;"A cat, asleep"']
    path = put(tmp_path / name, ending.join(lines).replace(";", delimiter) + ending)
    assert [(row["source"], row["image"]) for row in both(path)] == [("A dog", "a.jpg"), ("A cat, asleep", "b.jpg")]
    summary = ReadSummary()
    list(read_rows("csv", path, summary=summary))
    assert any("parted by" in note for note in summary.notes) == (delimiter != ("\t" if name == "t.tsv" else ","))


@pytest.mark.parametrize("end", ["", "\n"])
def test_commas_of_a_tsv_with_one_column_are_of_its_texts(tmp_path: Path, end: str) -> None:
    path = put(tmp_path / "t.tsv", f"caption\nA dog, on grass\n\nA cat; a mat, red{end}")
    assert [row["source"] for row in both(path)] == ["A dog, on grass", "A cat; a mat, red"]
    comma = put(tmp_path / "commas.tsv", "caption,n\nA dog,1\n")
    assert [row["source"] for row in both(comma)] == ["A dog"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_line_that_excel_puts_above_a_table(tmp_path: Path, delimiter: str) -> None:
    lines = [f"sep={delimiter}", f"image{delimiter}caption", f"a.jpg{delimiter}A dog"]
    assert [row["source"] for row in both(put(tmp_path / "t.csv", "\r\n".join(lines) + "\r\n"))] == ["A dog"]


def test_training_tells_an_unusual_delimiter_and_what_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    RowFile(put(tmp_path / "t.csv", "caption|width\nA dog|3\n"))
    assert "cells are parted by '|'" in caplog.text
    assert "source from caption; kept in meta: width" in caplog.text


@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_quotes_behind_tabs_and_bars_merge_nothing(tmp_path: Path, delimiter: str) -> None:
    lines = [
        "caption\timage",
        '"A dog" runs\ta.jpg',
        '"A cat\tb.jpg',
        'an owl"\tc.jpg',
        '"two ""big"" dogs"\td.jpg',
        '"\te.jpg',
    ]
    got = both(put(tmp_path / "t.tsv", "\n".join(lines).replace("\t", delimiter) + "\n"))
    assert [row["source"] for row in got] == ['"A dog" runs', '"A cat', 'an owl"', 'two "big" dogs', '"']


def test_a_quote_that_swallows_rows_is_told(tmp_path: Path) -> None:
    assert ":2: not CSV (a quote" in told(
        put(tmp_path / "t.csv", 'image,caption\na.jpg,"A dog\nb.jpg,A cat"\nc.jpg,An owl\n')
    )
    summary = ReadSummary()
    kept = list(read_rows("csv", tmp_path / "t.csv", summary=summary, skip_errors=True))
    assert ([row["source"] for row in kept], summary.skipped) == (["An owl"], {"error": 1})


@pytest.mark.parametrize(("row", "count"), [("a.jpg,A dog, running", 3), ("a.jpg", 1)])
def test_another_number_of_cells_is_told_everywhere(tmp_path: Path, row: str, count: int) -> None:
    assert f":3: {count} columns, but the header has 2" in told(
        put(tmp_path / "t.csv", f"image,caption\nb.jpg,A cat\n{row}\n")
    )


def test_empty_cells_at_the_end_are_no_surplus(tmp_path: Path) -> None:
    assert len(both(put(tmp_path / "t.csv", "image,caption,\na.jpg,A dog,,\nb.jpg,A cat\n"))) == 2


def test_flickr30k_where_a_number_and_its_caption_share_a_cell(tmp_path: Path) -> None:
    text = "image_name| comment_number| comment\n1.jpg| 0| Two men .\n2.jpg| 4   A dog .\n"
    assert [(row["source"], row["image"]) for row in both(put(tmp_path / "r.csv", text))] == [
        ("Two men .", "1.jpg"),
        ("A dog .", "2.jpg"),
    ]


@pytest.mark.parametrize("gap", ["\t", " "])
def test_token_files(tmp_path: Path, gap: str) -> None:
    text = f"1_aa.jpg#0{gap}A child , in pink .\n1_aa.jpg#1{gap}A girl .\n2.jpg.1#0{gap}A dog .\n"
    path = put(tmp_path / "results.token", text)
    assert both(path)[:2] == [
        {"id": "1_aa.jpg#0", "image": "1_aa.jpg", "group": "1_aa.jpg", "source": "A child , in pink ."},
        {"id": "1_aa.jpg#1", "image": "1_aa.jpg", "group": "1_aa.jpg", "source": "A girl ."},
    ]
    images = list(read_rows("csv", path, options=ReadOptions(per="image"), folder=tmp_path))
    assert images[0] == {
        "id": "1_aa.jpg",
        "image": "1_aa.jpg",
        "group": "1_aa.jpg",
        "references": ["A child , in pink .", "A girl ."],
    }
    assert len(images) == 2


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("A dog, big\thttp://x/1\nA cat\thttp://x/2\n", "caption=0"),
        ("A dog, big\thttp://x/1\n", "caption=0"),
        ('a.jpg,"A dog, big"\nb.jpg,A cat\n', "caption=1,image=0"),
        ("Bild;Worte;n\na.jpg;A dog, big;3\nb.jpg;A cat;4\n", "caption=1,image=0"),
        ("Bild;Worte;n\na.jpg;A dog, big;3\nb.jpg;A cat;4\n", "caption=worte, image=Bild"),
        ('image,caption,title\na.jpg,x,"A dog, big"\nb.jpg,y,A cat\n', "text=title"),
    ],
)
def test_columns_by_place_or_name_with_and_without_a_header(tmp_path: Path, text: str, columns: str) -> None:
    got = both(put(tmp_path / "t.csv", text), parse_columns(columns))
    assert [row["source"] for row in got] == ["A dog, big", "A cat"][: len(got)]
    assert all(("image" in row) == ("image" in columns or "caption,title" in text) for row in got)


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("title,description,image_path\nA,B,c.jpg\n", "", "which is the caption, title or description?"),
        ("image,words\na.jpg,A dog\n", "", "--columns caption=words"),
        ("a.jpg,A dog\nb.jpg,A cat\n", "", "no header"),
        ("http://x/1\tA dog\t3\n", "", "--columns caption=1,image=0"),
        ("image,words\na.jpg,A dog\n", "caption=werds", "no column 'werds' for 'caption'; there are 2: image, words"),
        ("image,words\na.jpg,A dog\n", "caption=7", "no column 7"),
        ("image,words\na.jpg,A dog\n", "capton=1", "unknown key 'capton'"),
        ("image,words\na.jpg,A dog\n", "image=0", "no column of captions"),
        ("Caption,caption\nA,B\n", "", "two columns have one name"),
        ("image,caption\na.jpg,\n", "", ":2: no text in it; caption is empty"),
        ("\n", "", "the file is empty"),
    ],
)
def test_a_table_without_captions_is_never_a_success(tmp_path: Path, text: str, columns: str, words: str) -> None:
    assert words in told(put(tmp_path / "t.csv", text), parse_columns(columns))


@pytest.mark.parametrize("order", [1, -1])
def test_conceptual_captions(tmp_path: Path, order: int) -> None:
    pairs = [('A dog, a "cat', "http://x/1.jpg"), ("caption", "https://y/2")]
    got = both(put(tmp_path / "Train_GCC-training.tsv", "".join("\t".join(pair[::order]) + "\n" for pair in pairs)))
    assert [(row["source"], row["meta"]) for row in got] == [(caption, {"url": url}) for caption, url in pairs]


def test_a_title_is_taken_where_nothing_else_may_be_the_caption_and_told(tmp_path: Path) -> None:
    path, summary = put(tmp_path / "t.csv", "filepath\ttitle\na.jpg\tA dog\n"), ReadSummary()
    assert [row["source"] for row in read_rows("csv", path, summary=summary)] == ["A dog"]
    assert any("source from title" in note for note in summary.notes)


def test_numbered_captions_are_rows_of_one_group(tmp_path: Path) -> None:
    path = put(
        tmp_path / "clotho.csv", "file_name,caption_1,caption_2,caption_3\na.wav,Rain .,Rain falls .,\nb.wav,Wind .,,\n"
    )
    assert [(row["id"], row["source"], row["group"]) for row in both(path)] == [
        ("2#0", "Rain .", "a.wav"),
        ("2#1", "Rain falls .", "a.wav"),
        ("3", "Wind .", "b.wav"),
    ]
    (first, _) = read_rows("csv", path, options=ReadOptions(per="image"))
    assert (first["references"], "source" in first) == (["Rain .", "Rain falls ."], False)


def test_captions_listed_in_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "flickr_annotations_30k.csv"
    put(path, 'raw,split,filename\n"[""A dog."", ""Zo\\u00eb\'s""]",train,a.jpg\n"[\'A cat.\']",test,b.jpg\n')
    assert [row["source"] for row in both(path)] == ["A dog.", "Zoë's", "A cat."]
    assert len(list(read_rows("csv", path, options=ReadOptions(split=("test",))))) == 1


def test_columns_of_our_names_and_other_types_go_to_meta(tmp_path: Path) -> None:
    text = "image,caption,meta,label,group,task\nhttp://x/a.jpg,A dog,train,,,\n"
    assert both(put(tmp_path / "t.csv", text)) == [
        {"id": "2", "source": "A dog", "meta": {"image": "http://x/a.jpg", "meta": "train"}}
    ]


@pytest.mark.parametrize("flag", ["is_rejected", "is_precanned"])
def test_rows_that_the_data_set_leaves_out_are_left_out(
    tmp_path: Path, flag: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path / "t.csv", f"caption,{flag}\nA dog,False\nQuality issues,True\nA can,1\nA cat,0\n")
    assert [row["source"] for row in both(path)] == ["A dog", "A cat"]
    assert f"2 rows are left out: {flag}" in caplog.text
    summary = ReadSummary()
    list(read_rows("csv", path, summary=summary))
    assert summary.skipped == {flag: 2}


def test_empty_lines_between_captions_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path / "t.txt", "\na dog\n\n\u3000\r\na cat\n\n")
    rows, summary = RowFile(path), ReadSummary()
    assert [(row.id, row.source) for row in rows] == [("2", ("a dog",)), ("5", ("a cat",))]
    assert "3 rows are left out: an empty line" in caplog.text
    assert [row["id"] for row in read_rows("txt", path, summary=summary)] == ["2", "5"]
    assert summary.skipped == {"an empty line": 3}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.txt"])
def test_unicode_with_a_mark_is_read_everywhere(tmp_path: Path, name: str, encoding: str) -> None:
    head = "caption\n" if name.endswith("sv") else ""
    lines = [
        json.dumps({"source": f"Zoë {n} \u2028😀"}, ensure_ascii=False) if "json" in name else f"Zoë {n} 😀"
        for n in range(9)
    ]
    rows = RowFile(put(tmp_path / name, head + "\n".join(lines) + "\n", encoding))
    assert [rows[n].source[0][:5] for n in (8, 0, 4)] == ["Zoë 8", "Zoë 0", "Zoë 4"]
    plain = RowFile(put(tmp_path / f"plain-{name}", head + "\n".join(lines) + "\n"))
    assert [row.source for row in rows] == [row.source for row in plain]


@pytest.mark.parametrize("spelling", ["UTF-8", "utf8", "U8", "utf_8_sig", "UTF-16"])
def test_any_spelling_of_an_encoding_drops_the_mark(tmp_path: Path, spelling: str) -> None:
    path = put(
        tmp_path / "t.csv", "image,caption\na.jpg,Un chien à la plage\n", "utf-16" if "16" in spelling else "utf-8-sig"
    )
    (row,) = read_rows("csv", path, options=ReadOptions(encoding=spelling), folder=tmp_path)
    assert (row["image"], row["source"]) == ("a.jpg", "Un chien à la plage")


def test_another_encoding_is_told_with_its_line_and_can_be_said(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "image,caption\na.jpg,A dog\nb.jpg,Zoë\nc.jpg,A cat\n", "cp1252")
    assert ":3: not UTF-8 at byte 8 of the line" in told(path)
    assert [row["source"] for row in read_rows("csv", path, skip_errors=True)] == ["A dog", "A cat"]
    assert [row["source"] for row in read_rows("csv", path, options=ReadOptions(encoding="cp1252"))][1] == "Zoë"
    with pytest.raises(DataError, match="is in another encoding"):
        list(read_rows("csv", path, options=ReadOptions(encoding="ascii")))


def test_recipes_name_columns(tmp_path: Path) -> None:
    put(tmp_path / "r.yaml", "data: {train: t.csv, columns: {caption: words, image: 0}}\n")
    put(tmp_path / "t.csv", "image,words\na.jpg,A dog\n")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert [row.source for row in open_rows(str(recipe.data.train), recipe.data.columns)] == [("A dog",)]
    assert load_recipe(tmp_path / "r.yaml", ["data.columns={text: 1}"]).data.columns == {"text": 1}
    with pytest.raises(RecipeError, match=r"data\.columns: columns: unknown key 'capton'"):
        load_recipe(tmp_path / "r.yaml", ["data.columns={capton: 1}"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_may_serve_several_keys(tmp_path: Path, kind: str) -> None:
    text = "premise,hyp,gold,file\nA dog,An animal,entailment,a.jpg\n"
    columns: dict[str, str | int] = {
        "source": "premise", "context": "hyp", "label": "gold", "target": "gold", "image": "file", "group": 3,
    }  # fmt: skip
    path = put(tmp_path / "t.csv", text)
    if kind == "parquet":
        path = tmp_path / "t.parquet"
        pq.write_table(
            pa.table({name: [value] for name, value in zip(*csv.reader(text.splitlines()), strict=True)}), path
        )
    (row,) = open_rows(path, columns)
    assert (row.label, row.target, row.group) == ("entailment", ("entailment",), "a.jpg")
    assert row.image is not None
    assert os.path.samefile(row.image.parent, tmp_path)
    assert not row.meta
    if kind == "csv":
        assert both(path, columns)[0]["label"] == "entailment"
        fewer = {key: column for key, column in columns.items() if key != "target"}
        assert open_rows(path, fewer).sha256 != open_rows(path, columns).sha256


def test_sums_of_tables_are_what_they_were(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "caption,file,caption_1\nA dog,a.jpg,A hound\n")
    said = repr({"file": "image", "caption": "source", "caption_1": "references"})
    assert RowFile(path, {"image": 1}).sha256 == hashlib.sha256(path.read_bytes() + said.encode()).hexdigest()


def test_two_columns_for_one_key_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "title,body\nA dog,barks\n")
    words = "columns: caption=title and text=body are both for the key 'source', which is one column"
    for read in (open_rows, lambda path, columns: ReadOptions(columns=columns)):
        with pytest.raises(RecipeError, match=words):
            read(path, {"caption": "title", "text": "body"})
    with pytest.raises(RecipeError, match="columns: caption=0 and caption=1: a key is one column"):
        parse_columns("caption=0,caption=1")


def test_the_same_file_read_otherwise_is_other_data(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "caption,title\nA dog,A cat\n")
    assert RowFile(path).sha256 == RowFile(path).sha256 != RowFile(path, {"caption": "title"}).sha256
