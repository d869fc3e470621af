"""Prompts as CLOSE writes them, and answers as models write them."""

import json

import pytest

from data_gen.errors import InputError
from data_gen.prompts.answers import parse
from data_gen.prompts.compose import compose, instruct, json_schema
from data_gen.prompts.shots import read_shots, show, style_shots
from data_gen.prompts.style import load_style
from data_gen.text.files import raw_lines, read_texts
from data_gen.text.language import load_language
from data_gen.text.words import clean, words
from data_gen.verbs import VERBS, Shot

ENGLISH = load_language("en")
CAPTIONS, VQA = VERBS["captions"](), VERBS["vqa"]()


def test_in_context_prompt():
    shot = Shot("1", "dog, park", ({"caption": "A dog in a park."},))
    text = compose(CAPTIONS, "Do it.", [show(CAPTIONS, shot)], ["cat, sofa"], structured=False)
    assert text == "Do it.\n\nkeywords: dog, park\ncaption: A dog in a park.\n\nkeywords: cat, sofa\ncaption:"


def test_several_givens_ask_for_json_in_order():
    text = compose(CAPTIONS, "Do it.", [], ["cat", "dog"], structured=True)
    assert "1. keywords: cat\n2. keywords: dog" in text
    assert json_schema(CAPTIONS)["properties"]["items"]["items"]["required"] == ["caption"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" A dog runs.", ["A dog runs."]),
        ("caption: A dog runs.\n", ["A dog runs."]),
        ('Sure! Here is one:\n\n"A dog runs."', ["A dog runs."]),
        ("**Caption:** A dog runs.\nI hope you like it.", ["A dog runs."]),
        ("1. A dog runs.\n2) A cat sleeps.\n- A bus", ["A dog runs.", "A cat sleeps.", "A bus"]),
        ('```json\n{"items": [{"caption": "A dog runs."}]}\n```', ["A dog runs."]),
        ('Here you go: ["A dog.", "A cat."] Enjoy', ["A dog.", "A cat."]),
        ('{"items": ["A dog.", {"caption": "A cat."}]}', ["A dog.", "A cat."]),
        ("<think>Let me see\n{}</think>A dog runs.", ["A dog runs."]),
        ("“A dog”", ["A dog"]),
        ('"Stop" says a sign that reads "go"', ['"Stop" says a sign that reads "go"']),
        ("A sign [in a park] is red", ["A sign [in a park] is red"]),
        ("", []),
    ],
)
def test_parse_single_field(answer, expected):
    assert [record["caption"] for record in parse(answer, ["caption"]).records] == expected


@pytest.mark.parametrize(
    "answer",
    [
        "question: What is it?\nanswer: a dog\nquestion: Is it red?\nanswer: no",
        "What is it?\nanswer: a dog\n\nQuestion: Is it red?\nAnswer: no",
        "1. Question: What is it?\n   Answer: a dog\n2. Question: Is it red?\n   Answer: no",
        "**Question 1:** What is it?\n**Answer:** a dog\n**Question 2:** Is it red?\n**Answer:** no",
        '[{"question": "What is it?", "answer": "a dog"}, {"answer": "no", "question": "Is it red?"}]',
        '{"items": [{"question": "What is it?", "answer": "a dog"}, {"question": "Is it red?", "answer": "no"}, {"answer": ""}]}',
    ],
)
def test_parse_two_fields(answer):
    expected = [{"question": "What is it?", "answer": "a dog"}, {"question": "Is it red?", "answer": "no"}]
    assert parse(answer, ["question", "answer"]).records == expected


def test_clean_leaves_one_printable_line():
    assert clean("a\x00b\u2028c\x1b[31m d\ud800\u200be\u0301 \u00e9\n") == "a b c [31m d é é"
    assert clean("Ein  Hund\tläuft 🐕") == "Ein Hund läuft 🐕"


def test_words():
    assert words("The dog's 2 well-known cats, LÄUFT!") == ["the", "dog's", "2", "well-known", "cats", "läuft"]
    assert words("犬と猫") == ["犬", "と", "猫"]


@pytest.mark.parametrize("verb", list(VERBS))
def test_builtin_styles_fit_their_verbs(verb):
    verb = VERBS[verb]()
    names = [verb.style]
    if verb.name in ("captions", "rewrite"):
        names += ["ego-centric", "uplifting", "character-based", "review", "short", "detailed"]
    for name in names:
        style = load_style(name)
        shots = style_shots(verb, style, name)
        assert name == "plain" or len(shots) >= 4
        for shot in shots:
            for record in shot.records:
                assert set(record) == set(verb.fields)
                least = 1 if verb.name == "vqa" else style.min_words
                assert all(clean(v) == v and least <= len(words(v)) <= style.max_words for v in record.values())
            if verb.name == "captions":
                used = frozenset(words(shot.records[0]["caption"]))
                missing = [k for k in shot.given.split(", ") if not ENGLISH.uses(k.lower(), used)]
                assert not missing, (name, shot)
        asked = instruct(verb, style, ENGLISH, 3)
        assert verb.is_keyword_driven() or "keyword" not in asked, (name, asked)
        assert "Write in German." in instruct(verb, style, load_language("de"), 3)


def test_a_style_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('instruction = "Rhyme."\n[limits]\nmax_tokens = 9\n[sampling]\ntemperature = 0.5\n')
    style = load_style(str(path))
    assert (style.instruction, style.max_tokens, style.sampling) == ("Rhyme.", 9, {"temperature": 0.5})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("instruction = ", "is not TOML"),
        ("instructions = 'x'", "unknown entry 'instructions'"),
        ("[limits]\nmax_tokens = 0", "whole number above 0"),
        ("[limits]\nlongest = 3", "limits are"),
        ("[limits]\nmin_words = 9\nmax_words = 3", "min_words is 9, and max_words 3"),
        ("[limits]\nmin_words = 90", "min_words is 90, and max_words 60"),
        ("[sampling]\nheat = 3", "unknown entry 'heat'"),
        ("shots = [1]", "every shot is a table"),
        ("instruction = 5", "instruction is 5, expected a str"),
        ("limits = 5", "limits is 5"),
        ("sampling = 5", "sampling is 5"),
        ("names = [1]", "every name is a text"),
        ("[sampling]\ntemperature = 'hot'", "every sampling parameter is a number"),
    ],
)
def test_broken_styles_are_told(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_style(str(path))


def test_unknown_style_names_the_known_ones():
    with pytest.raises(InputError, match="ego-centric"):
        load_style("egocentric")


def test_shots_of_the_rows_that_the_verbs_write(tmp_path):
    path = tmp_path / "rows.jsonl"
    entailment = [
        {"source": "A dog.", "context": f"{n}", "target": n} for n in ("entailment", "neutral", "contradiction")
    ]
    path.write_text("\n".join(map(json.dumps, entailment)))
    (shot,) = read_shots(VERBS["entailment"](), path, ENGLISH, 0, 0)
    assert shot.records == ({n: n for n in ("entailment", "neutral", "contradiction")},)
    path.write_text(json.dumps({"source": "A dog.", "context": "What?", "target": ["dog"]}))
    assert read_shots(VQA, path, ENGLISH, 0, 0)[0].records == ({"question": "What?", "answer": "dog"},)
    path.write_text('{"source": "A dog."}')
    with pytest.raises(InputError, match="line 1"):
        read_shots(VQA, path, ENGLISH, 0, 0)


@pytest.mark.parametrize("group", [{}, {"group": "9"}])
def test_shots_of_rows_of_data_sets_whose_pictures_are_named(tmp_path, group):
    """`close convert` gives such rows a group, and their source is what they were made from."""
    path = tmp_path / "rows.jsonl"
    row = {
        "source": "a man rides",
        "context": "What is he doing?",
        "target": ["riding"],
        **group,
        "meta": {"image_id": 9},
    }
    path.write_text(json.dumps(row))
    (shot,) = read_shots(VQA, path, ENGLISH, 0, 0)
    assert (shot.given, shot.records) == ("a man rides", ({"question": "What is he doing?", "answer": "riding"},))
    labels = ("entailment", "neutral", "contradiction")
    rows = [{"source": "a man rides", "context": f"h {label}", "target": label, **group} for label in labels]
    path.write_text("\n".join(map(json.dumps, rows)))
    (shot,) = read_shots(VERBS["entailment"](), path, ENGLISH, 0, 0)
    assert shot.given == "a man rides"
    path.write_text(json.dumps({"source": "A rider.", "target": "A rider.", "group": "9"}))
    with pytest.raises(InputError, match="line 1: not a row that paraphrase writes"):
        read_shots(VERBS["paraphrase"](), path, ENGLISH, 0, 0)


def test_shots_from_captions_use_words_of_the_caption(examples):
    for shot in read_shots(CAPTIONS, examples, ENGLISH, 2, 0):
        found = words(shot.records[0]["caption"])
        assert len(shot.given.split(", ")) == 2
        assert all(keyword in found and ENGLISH.is_keyword(keyword) for keyword in shot.given.split(", "))


def test_read_texts(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffOne dog\r\n\n...\nTwo cats\n", encoding="utf-8")
    assert [(t.id, t.text) for t in read_texts(tmp_path / "a.txt")] == [("1", "One dog"), ("4", "Two cats")]
    (tmp_path / "a.jsonl").write_text('{"id": "x", "source": "S", "target": ["One", "Two"]}\n{"caption": "C"}\n')
    assert [(t.id, t.text) for t in read_texts(tmp_path / "a.jsonl")] == [("x", "One"), ("x", "Two"), ("2", "C")]
    (tmp_path / "a.jsonl").write_text('{"source": ["S", "T"], "context": "Is it red?", "target": "no"}\n')
    assert [t.text for t in read_texts(tmp_path / "a.jsonl")] == ["S", "T"]
    (tmp_path / "a.jsonl").write_text('{"context": null, "target": "A dog"}\n')
    assert [t.text for t in read_texts(tmp_path / "a.jsonl")] == ["A dog"]
    (tmp_path / "plain").write_text("One dog\n")
    assert [t.text for t in read_texts(tmp_path / "plain")] == ["One dog"]
    (tmp_path / "a.json").write_text('{"annotations": [{"id": 7, "caption": "A dog. "}]}')
    assert [(t.id, t.text) for t in read_texts(tmp_path / "a.json")] == [("7", "A dog.")]


def test_lines_end_as_any_system_ends_them_and_come_one_by_one(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffOne\r\nTwo\rThree\u2028x\n\n\ufeffFour".encode())
    assert list(raw_lines(tmp_path / "a.txt")) == ["One", "Two", "Three\u2028x", "", "\ufeffFour"]
    (tmp_path / "a.txt").write_bytes("\ufeffOne\nÄ".encode() + b"\xff\n")
    lines = raw_lines(tmp_path / "a.txt")
    assert next(lines) == "One"
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 9\)"):
        next(lines)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"...\n", "no text with words"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"target": "x"}\n{broken', "line 2: not JSON"),
        ("A.JSONL", b'{"target": "x"}\n{broken', "line 2: not JSON"),
        ("a.csv", b"id,caption\n1,A dog\n", r"a\.csv: expected \.txt .*, \.jsonl .* or \.json .*, not \.csv"),
        ("a.tsv", b"A dog\n", "not .tsv"),
        ("a.jsonl", b'["x"]', "line 1: expected an object"),
        ("a.jsonl", b'{"id": 1}', "line 1: no text"),
        ("a.jsonl", b'{"reason": "length", "target": "A dog", "raw": "A dog"}', "line 1: a row that was rejected"),
        ("a.json", b"{}", "not a COCO caption file"),
        ("a.json", b'{"annotations": [{"id": 1, "caption": 5}]}', "not a COCO caption file"),
        ("a.json", b'{"annotations": [', "not JSON"),
    ],
)
def test_broken_files_are_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / name)
