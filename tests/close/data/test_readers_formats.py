"""Every reader: a good file in the published layout, and what it makes of it."""

import csv
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from close.data.readers import READERS, ReadOptions, ReadSummary, convert, read_rows
from close.data.rows import RowFile
from close.errors import DataError

COCO = {
    "info": {"year": 2014, "version": "1.0"},
    "licenses": [{"id": 3, "name": "Attribution", "url": "http://x"}],
    "images": [
        {"license": 3, "file_name": "COCO_val2014_000000000042.jpg", "height": 2, "width": 2, "id": 42},
        {"license": 3, "file_name": "COCO_val2014_000000000073.jpg", "height": 2, "width": 2, "id": 73},
    ],
    "annotations": [
        {"image_id": 73, "id": 1, "caption": "A motorcycle.\n"},
        {"image_id": 42, "id": 2, "caption": "Shoes \u2013 and a dog."},
        {"image_id": 42, "id": 3, "caption": "A dog sleeps."},
    ],
}
NOCAPS = {
    "licenses": [],
    "info": {"description": "nocaps validation dataset"},
    "images": [
        {
            "id": 0,
            "open_images_id": "0013ea",
            "height": 1,
            "width": 1,
            "file_name": "0013ea.jpg",
            "domain": "in-domain",
        },
        {"id": 1, "open_images_id": "00aa", "height": 1, "width": 1, "file_name": "00aa.jpg", "domain": "out-domain"},
    ],
    "annotations": [
        {"image_id": 0, "id": 0, "caption": "A baby."},
        {"image_id": 1, "id": 1, "caption": "A lynx."},
        {"image_id": 0, "id": 2, "caption": "A child."},
    ],
}
KARPATHY = {
    "images": [
        {
            "filepath": "val2014",
            "sentids": [770337, 771687],
            "filename": "COCO_val2014_000000391895.jpg",
            "imgid": 0,
            "split": "test",
            "sentences": [
                {"tokens": ["a", "man"], "raw": "A man.", "imgid": 0, "sentid": 770337},
                {"tokens": ["a", "bike"], "raw": "A bike.", "imgid": 0, "sentid": 771687},
            ],
            "cocoid": 391895,
        },
        {
            "filename": "1000092795.jpg",
            "sentids": [5],
            "imgid": 1,
            "split": "restval",
            "sentences": [{"tokens": ["two"], "raw": "Two men.", "imgid": 1, "sentid": 5}],
        },
    ],
    "dataset": "coco",
}
SNLI = [
    {
        "annotator_labels": ["neutral", "entailment"],
        "captionID": "3416050480.jpg#4",
        "gold_label": "neutral",
        "pairID": "3416050480.jpg#4r1n",
        "sentence1": "A person on a horse.",
        "sentence1_parse": "(ROOT)",
        "sentence2": "A person is training his horse.",
    },
    {
        "annotator_labels": ["neutral", "entailment", "contradiction"],
        "captionID": "3416050480.jpg#4",
        "gold_label": "-",
        "pairID": "3416050480.jpg#4r1c",
        "sentence1": "A person on a horse.",
        "sentence2": "A person is at a diner.",
    },
]
QUESTIONS = {
    "info": {},
    "task_type": "Open-Ended",
    "data_type": "mscoco",
    "license": {},
    "data_subtype": "val2014",
    "questions": [
        {"image_id": 42, "question": "Is there a dog?", "question_id": 42000},
        {"image_id": 73, "question": "How many wheels?", "question_id": 73000},
    ],
}
ANNOTATIONS = {
    "info": {},
    "license": {},
    "data_subtype": "val2014",
    "data_type": "mscoco",
    "annotations": [
        {
            "question_type": "how many",
            "multiple_choice_answer": "2",
            "answers": [
                {"answer": a, "answer_confidence": "yes", "answer_id": i}
                for i, a in enumerate(["2"] * 5 + ["two"] * 3 + ["4", "3"], 1)
            ],
            "image_id": 73,
            "answer_type": "number",
            "question_id": 73000,
        },
        {
            "question_type": "is there a",
            "multiple_choice_answer": "yes",
            "answers": [{"answer": "yes", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)],
            "image_id": 42,
            "answer_type": "yes/no",
            "question_id": 42000,
        },
    ],
}
VQA_E = [
    {
        "img_id": 42,
        "question": "What animal sleeps?",
        "question_type": "what animal",
        "answers": ["dog"] * 4 + ["cat"] * 4 + ["puppy"] * 2,
        "multiple_choice_answer": "dog",
        "explanation": ["A dog sleeps on shoes. ", 0.83],
    }
]
NEWS = [
    {
        "id": 7,
        "caption": "A storm over Rome.",
        "topic": "world",
        "source": "bbc",
        "image_path": "./bbc/images/0013/600.jpg",
        "article_path": "./bbc/articles/7.txt",
    }
]


def put(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path)
    return path


def lines(values: list[dict]) -> str:
    return "".join(json.dumps(v) + "\n" for v in values)


def rows(name: str, path: Path, folder: Path | None = None, **options: object) -> list[dict]:
    return list(read_rows(name, path, options=ReadOptions(**options), folder=folder or path.parent))  # type: ignore[arg-type]


def test_coco_captions_one_row_each_in_file_order(tmp_path: Path) -> None:
    got = rows("coco", put(tmp_path / "c.json", COCO))
    assert got[0] == {
        "id": "1",
        "source": "A motorcycle.",
        "group": "73",
        "image": "COCO_val2014_000000000073.jpg",
    }
    assert [r["id"] for r in got] == ["1", "2", "3"]
    assert got[1]["source"] == "Shoes \u2013 and a dog."


def test_coco_one_row_an_image_in_image_order(tmp_path: Path) -> None:
    for name in ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg"):
        picture(tmp_path / "pictures" / name)
    got = rows("coco", put(tmp_path / "ann" / "c.json", COCO), per="image", images=tmp_path / "pictures")
    assert [r["id"] for r in got] == ["42", "73"]
    assert got[0]["references"] == ["Shoes \u2013 and a dog.", "A dog sleeps."]
    assert got[0]["image"] == os.path.join("..", "pictures", "COCO_val2014_000000000042.jpg")


def test_coco_annotations_before_images(tmp_path: Path) -> None:
    turned = {key: COCO[key] for key in ("annotations", "images")}
    assert rows("coco", put(tmp_path / "c.json", turned)) == rows("coco", put(tmp_path / "d.json", COCO))


def test_nocaps_keeps_the_domain_and_reads_the_captionless_test_set(tmp_path: Path) -> None:
    got = rows("nocaps", put(tmp_path / "n.json", NOCAPS))
    assert [(r["id"], r["references"], r["meta"]) for r in got] == [
        ("0", ["A baby.", "A child."], {"domain": "in-domain"}),
        ("1", ["A lynx."], {"domain": "out-domain"}),
    ]
    test_set = {key: value for key, value in NOCAPS.items() if key != "annotations"}
    assert "references" not in rows("nocaps", put(tmp_path / "t.json", test_set))[0]


def test_karpathy_splits_and_both_shapes(tmp_path: Path) -> None:
    path = put(tmp_path / "dataset_coco.json", KARPATHY)
    got = rows("karpathy", path)
    assert [r["id"] for r in got] == ["770337", "771687", "5"]
    assert got[0]["image"] == os.path.join("val2014", "COCO_val2014_000000391895.jpg")
    assert got[2]["image"] == "1000092795.jpg"
    images = rows("karpathy", path, per="image", split=("test",))
    assert [(r["id"], r["references"]) for r in images] == [("391895", ["A man.", "A bike."])]


def test_snli_skips_and_counts_pairs_without_a_label(tmp_path: Path) -> None:
    summary = ReadSummary()
    path = put(tmp_path / "snli_1.0_dev.jsonl", lines(SNLI))
    got = list(read_rows("snli", path, summary=summary))
    assert got == [
        {
            "id": "3416050480.jpg#4r1n",
            "source": "A person on a horse.",
            "context": "A person is training his horse.",
            "label": "neutral",
            "target": "neutral",
        }
    ]
    assert (summary.read, summary.written, summary.skipped) == (2, 1, {"label '-'": 1})


def test_snli_ve_names_the_picture(tmp_path: Path) -> None:
    picture(tmp_path / "flickr30k_images" / "3416050480.jpg")
    path = put(tmp_path / "ve.jsonl", lines([SNLI[0] | {"Flickr30K_ID": "3416050480"}]))
    got = rows("snli-ve", path, images=tmp_path / "flickr30k_images")
    assert got[0]["image"] == os.path.join("flickr30k_images", "3416050480.jpg")
    assert got[0]["label"] == "neutral"


def test_vqa_joins_questions_answers_and_captions(tmp_path: Path) -> None:
    questions, annotations = put(tmp_path / "q.json", QUESTIONS), put(tmp_path / "a.json", ANNOTATIONS)
    got = rows("vqa", questions, annotations=annotations, captions=put(tmp_path / "c.json", COCO))
    assert got[1] == {
        "id": "73000",
        "context": "How many wheels?",
        "group": "73",
        "source": ["A motorcycle."],
        "image": "COCO_val2014_000000000073.jpg",
        "answers": ["2"] * 5 + ["two"] * 3 + ["4", "3"],
        "target": ["2", "two"],
        "meta": {"question_type": "how many", "answer_type": "number"},
    }
    assert got[0]["source"] == ["Shoes \u2013 and a dog.", "A dog sleeps."]


def test_vqa_test_questions_have_no_answers(tmp_path: Path) -> None:
    got = rows("vqa", put(tmp_path / "q.json", QUESTIONS | {"data_subtype": "test-dev2015"}))
    assert got[0] == {
        "id": "42000",
        "context": "Is there a dog?",
        "group": "42",
        "image": "COCO_test2015_000000000042.jpg",
    }


def test_vqa_e_source_is_the_explanation_and_ties_are_targets(tmp_path: Path) -> None:
    got = rows("vqa-e", put(tmp_path / "VQA-E_val_set.json", VQA_E), split=("val2014",))
    assert got[0]["id"] == "42-0"
    assert got[0]["source"] == "A dog sleeps on shoes."
    assert got[0]["target"] == ["dog", "cat"]
    assert got[0]["image"] == "COCO_val2014_000000000042.jpg"


def test_visual_news_reads_the_article(tmp_path: Path) -> None:
    put(tmp_path / "bbc/articles/7.txt", "Rain fell.\n\nIt  stopped.")
    picture(tmp_path / "bbc/images/0013/600.jpg")
    got = rows("visualnews", put(tmp_path / "data.json", NEWS), images=tmp_path)
    assert got == [
        {
            "id": "7",
            "source": "A storm over Rome.",
            "context": "Rain fell. It stopped.",
            "target": "A storm over Rome.",
            "image": os.path.join("bbc", "images", "0013", "600.jpg"),
            "meta": {"topic": "world", "source": "bbc"},
        }
    ]


def test_csv_takes_usual_column_names_and_quoted_line_breaks(tmp_path: Path) -> None:
    text = 'image_path,Caption,author\nx.jpg,"A dog, ""big"",\nat rest",Ann\ny.jpg,A cat,\n'
    got = rows("csv", put(tmp_path / "t.csv", text))
    assert got == [
        {"id": "2", "image": "x.jpg", "group": "x.jpg", "source": 'A dog, "big",\nat rest', "meta": {"author": "Ann"}},
        {"id": "4", "image": "y.jpg", "group": "y.jpg", "source": "A cat"},
    ]


def test_tsv(tmp_path: Path) -> None:
    got = rows("csv", put(tmp_path / "t.tsv", "filepath\ttitle\nx.jpg\tA dog, asleep\n"))
    assert got == [{"id": "2", "image": "x.jpg", "group": "x.jpg", "source": "A dog, asleep"}]


def test_txt_and_jsonl(tmp_path: Path) -> None:
    assert rows("txt", put(tmp_path / "t.txt", "A dog.\nA cat.\n"))[1] == {"id": "2", "source": "A cat."}
    path = put(tmp_path / "in" / "t.jsonl", '{"source": "a", "image": "x.jpg"}\n\n{"id": "k", "source": ["b", "c"]}\n')
    got = list(read_rows("jsonl", path, folder=tmp_path))
    unnamed = put(tmp_path / "n.jsonl", '{"id": null, "source": "a"}\n{"id": "", "source": "b", "group": ""}\n')
    assert [row["id"] for row in read_rows("jsonl", unnamed)] == [row.id for row in RowFile(unnamed)] == ["1", "2"]
    assert got == [
        {"id": "1", "source": "a", "image": os.path.join("in", "x.jpg")},
        {"id": "k", "source": ["b", "c"]},
    ]


def test_folder_of_images_with_captions_beside(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "b.png")
    picture(tmp_path / "p" / "sub" / "a.JPG")
    put(tmp_path / "p" / "b.txt", "A square.\n\nRed.\n")
    put(tmp_path / "p" / "notes.md", "no picture")
    got = rows("folder", tmp_path / "p", folder=tmp_path)
    assert got == [
        {
            "id": "b.png",
            "image": os.path.join("p", "b.png"),
            "source": "A square.",
            "references": ["A square.", "Red."],
        },
        {"id": "sub/a.JPG", "image": os.path.join("p", "sub", "a.JPG")},
    ]


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_webdataset_shards_with_pictures_written_out(tmp_path: Path) -> None:
    content = picture(tmp_path / "x.jpg").read_bytes()
    (tmp_path / "shards").mkdir()
    shard(
        tmp_path / "shards" / "00000.tar",
        [
            ("000000.jpg", content),
            ("000000.txt", b"A red square."),
            ("000000.json", b'{"width": 4, "key": "000000"}'),
            ("000001.jpg", content),
            ("000001.json", b'{"caption": "Another."}'),
        ],
    )
    shard(tmp_path / "shards" / "00001.tar", [("000000.txt", "Ein Würfel.".encode())])
    got = rows("webdataset", tmp_path / "shards", folder=tmp_path, images=tmp_path / "out")
    assert got[0] == {
        "id": "00000/000000",
        "source": "A red square.",
        "image": os.path.join("out", "00000", f"{hashlib.sha256(content).hexdigest()[:16]}.jpg"),
        "group": f"{hashlib.sha256(content).hexdigest()[:16]}.jpg",
        "meta": {"width": 4, "key": "000000"},
    }
    assert [r["source"] for r in got] == ["A red square.", "Another.", "Ein Würfel."]
    assert (tmp_path / got[0]["image"]).read_bytes() == content
    assert "image" not in rows("webdataset", tmp_path / "shards")[0]


def test_a_picture_is_not_written_over_by_that_of_another_shard(tmp_path: Path) -> None:
    """Shards in folders often have the same names, and so have their samples."""
    contents = {name: picture(tmp_path / f"{name}.png").read_bytes() + name.encode() for name in "ab"}
    for name, content in contents.items():
        (tmp_path / "shards" / name).mkdir(parents=True)
        shard(tmp_path / "shards" / name / "0.tar", [("7.png", content), ("7.txt", name.encode())])
    for places in ([tmp_path / "shards"], [tmp_path / "shards" / name / "0.tar" for name in "ab"]):
        got = [row for place in places for row in rows("webdataset", place, folder=tmp_path, images=tmp_path / "out")]
        assert {row["source"]: (tmp_path / row["image"]).read_bytes() for row in got} == contents
    assert [row["id"] for row in rows("webdataset", tmp_path / "shards")] == ["a/0/7", "b/0/7"]


def test_captions_beside_the_text_of_a_sample_are_kept(tmp_path: Path) -> None:
    about = {"caption": "A dog", "captions": ["Fido", "A hound"], "blip_caption": "an animal", "key": "0"}
    path = shard(tmp_path / "t.tar", [("0.txt", b"A dog"), ("0.json", json.dumps(about).encode())])
    (row,) = rows("webdataset", path)
    del about["caption"]  # which says the same
    assert row == {"id": "t/0", "source": "A dog", "meta": about}


@pytest.mark.parametrize(
    "text", ["A dog.", "A dog.\r\n\r\n A hound on grass. \r\n", "Ein Hund\nA hound\u2028here\n", "\nA dog\n"]
)
def test_a_text_beside_a_picture_is_read_alike_in_a_shard_and_a_folder(tmp_path: Path, text: str) -> None:
    content = picture(tmp_path / "pictures" / "0.jpg").read_bytes()
    (tmp_path / "pictures" / "0.txt").write_bytes(text.encode())
    (of_folder,) = rows("folder", tmp_path / "pictures")
    (of_shard,) = rows("webdataset", shard(tmp_path / "t.tar", [("0.jpg", content), ("0.txt", text.encode())]))
    assert of_shard["source"] == of_folder["source"]
    assert of_shard.get("references", [of_shard["source"]]) == of_folder["references"]


def test_several_lines_that_are_no_captions_are_told(tmp_path: Path) -> None:
    path = shard(tmp_path / "t.tar", [("0.txt", b'{\n"caption": "A dog"\n}'), ("1.txt", b"A cat")])
    with pytest.raises(DataError, match=r"sample '0': \.txt: expected one caption a line, but this looks like JSON"):
        rows("webdataset", path)


def test_parquet_with_pictures_inside_and_lists_of_captions(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    content = picture(tmp_path / "x.png").read_bytes()
    table = pa.table(
        {
            "image": [{"bytes": one, "path": "x.png"} for one in (content, content, content + b"0")],
            "captions": [["A square.", "Red."], ["Two."], ["Three."]],
            "caption": ["A square.", "Two.", "Three."],
            "score": [0.5, None, None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    got = rows("parquet", tmp_path / "t.parquet", images=tmp_path / "out")
    assert got[0] == {
        "id": "1",
        "image": os.path.join("out", f"{hashlib.sha256(content).hexdigest()[:16]}.png"),
        "group": f"{hashlib.sha256(content).hexdigest()[:16]}.png",
        "source": "A square.",
        "references": ["A square.", "Red."],
        "meta": {"score": 0.5},
    }
    assert got[1]["image"] == got[0]["image"] != got[2]["image"]  # one picture behind two rows is one
    assert (tmp_path / got[1]["image"]).read_bytes() == content


def test_every_format_is_tried_here() -> None:
    tried = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_readers_*.py"))
    own = set(READERS) - set(READERS.origins)  # the package's
    assert [name for name in own if f'"{name}"' not in tried] == []
    assert len(own) >= 14


def test_convert_writes_what_the_project_reads(tmp_path: Path) -> None:
    path = put(tmp_path / "c.json", COCO)
    summary = convert("coco", path, tmp_path / "out" / "c.jsonl")
    file = RowFile(tmp_path / "out" / "c.jsonl")
    assert summary.written == len(file) == 3
    assert file[0].source == ("A motorcycle.",)
    assert file[0].image is not None
    assert file[0].image.resolve() == (tmp_path / "COCO_val2014_000000000073.jpg").resolve()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["c.jsonl"]


def test_real_coco_captions_all_read(tmp_path: Path) -> None:
    folder = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = folder / "coco_captions" / "captions_val2017.json"
    if not path.exists():
        pytest.skip("the COCO captions file is not here")
    got = list(read_rows("coco", path))
    truth = json.loads(path.read_text(encoding="utf-8"))
    assert len(got) == len(truth["annotations"]) == 25014
    assert [r["source"] for r in got] == [a["caption"].strip() for a in truth["annotations"]]
    assert len(list(read_rows("coco", path, options=ReadOptions(per="image")))) == 5000


def test_csv_agrees_with_the_csv_module(tmp_path: Path) -> None:
    table = [["caption", "n"]] + [[f'He said "{i}",\n{i}', str(i)] for i in range(200)]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    assert [r["source"] for r in rows("csv", tmp_path / "t.csv")] == [row[0] for row in table[1:]]


def test_unknown_format_tells_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="did you mean 'karpathy'"):
        rows("karpaty", put(tmp_path / "x.json", {}))


def test_option_that_means_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'split' means nothing"):
        rows("coco", put(tmp_path / "x.json", COCO), split=("train",))


def test_missing_split_tells_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not one row; read 3, .*split test.*"):
        rows("karpathy", put(tmp_path / "x.json", KARPATHY), split=("train",))


TEXTCAPS = {
    "dataset_type": "train",
    "dataset_name": "textcaps",
    "data": [
        {
            "image_id": "a1",
            "image_path": "train/a1.jpg",
            "caption_id": n,
            "caption_str": text,
            "reference_strs": ["A sign says stop.", "A stop sign."],
        }
        for n, text in enumerate(["A sign says stop.", "A stop sign."])
    ],
}


def test_textcaps_one_row_a_caption_or_an_image(tmp_path: Path) -> None:
    path = put(tmp_path / "TextCaps_0.1_train.json", TEXTCAPS)
    assert [(r["id"], r["source"], r["group"]) for r in rows("textcaps", path)] == [
        ("0", "A sign says stop.", "a1"),
        ("1", "A stop sign.", "a1"),
    ]
    (image,) = rows("textcaps", path, per="image")
    assert image == {
        "id": "a1",
        "group": "a1",
        "image": os.path.join("train", "a1.jpg"),
        "references": ["A sign says stop.", "A stop sign."],
    }


BLIP = [
    {"image": "val2014/1.jpg", "caption": [" A dog. ", "A hound."], "image_id": "coco_1"},
    {"image": "val2014/2.jpg", "caption": "A cat.", "image_id": "coco_2", "split": "a"},
]
CAPTIONS = [(1, "A dog."), (1, "A hound."), (2, "A cat.")]


@pytest.mark.parametrize(
    "value",
    [
        BLIP,
        {"annotations": BLIP},
        {"info": {"list": [1]}, "licenses": [{"id": 1}], "tags": ["a"], "data": BLIP, "empty": []},
        {one["image"]: one["caption"] for one in BLIP},
        {one["image"]: {"captions": one["caption"]} for one in BLIP},
        [{"id": n, "image": f"val2014/{n}.jpg", "blip_caption": text, "url": "https://x"} for n, text in CAPTIONS[1:]],
        [{"file_name": f"val2014/{n}.jpg", "text": text} for n, text in CAPTIONS],
    ],
)
def test_json_lists_as_people_write_them(tmp_path: Path, value: object) -> None:
    got = rows("json", put(tmp_path / "x.json", value))
    said = [(os.path.join("val2014", f"{n}.jpg"), text) for n, text in CAPTIONS]
    assert [(row["image"], row["source"]) for row in got] == said[-len(got) :]
    assert len({row["id"] for row in got}) == len(got) >= 2
    for row in rows("json", put(tmp_path / "x.json", value), per="image"):
        assert row["references"] == [text for image, text in said[-len(got) :] if image == row["image"]]


def test_json_lists_take_columns_and_splits_and_tell_what_is_no_caption(tmp_path: Path) -> None:
    path = put(tmp_path / "x.json", BLIP)
    assert [row["source"] for row in rows("json", path, split=("a",))] == ["A cat."]
    path = put(tmp_path / "x.json", [{"foto": "1.jpg", "Beschreibung": "Ein Hund."}])
    with pytest.raises(DataError, match=r"x\.json: record\[0\]: no column of captions \(columns: foto, Beschreibung\)"):
        rows("json", path)
    (row,) = rows("json", path, columns={"caption": "Beschreibung", "image": "foto"})
    assert (row["source"], row["image"]) == ("Ein Hund.", "1.jpg")
    for wrong in ([1], [[]], [{}], {}, {"a.jpg": 3}, 3):
        with pytest.raises(DataError, match=r"x\.json"):
            rows("json", put(tmp_path / "x.json", wrong))


@pytest.mark.parametrize(
    ("tried", "value", "other"),
    [
        ("coco", TEXTCAPS, "textcaps"),
        ("coco", QUESTIONS, "vqa"),
        ("textcaps", COCO, "coco"),
        ("coco", VQA_E, "vqa-e"),
        ("visualnews", TEXTCAPS, "textcaps"),
        ("json", COCO, "coco"),
        ("json", KARPATHY, "karpathy"),
        ("textcaps", BLIP, "json"),
    ],
)
def test_a_file_of_another_format_is_told_with_its_format(
    tmp_path: Path, tried: str, value: object, other: str
) -> None:
    with pytest.raises(DataError, match=f"it may be in the format .*{other}"):
        rows(tried, put(tmp_path / "x.json", value))


def test_conversations_are_told(tmp_path):
    turns = [{"from": "human", "value": "What is it? <image>"}, {"from": "gpt", "value": "a dog"}]
    path = tmp_path / "llava.json"
    path.write_text(json.dumps([{"id": "1", "image": "1.jpg", "conversations": turns}]))
    with pytest.raises(DataError, match="LLaVA's conversations are not read"):
        list(read_rows("json", path))
