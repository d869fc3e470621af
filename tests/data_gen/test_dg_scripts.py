"""Words, duplicates and cleaning outside Latin script, by Unicode's rules; and the quick way for ASCII is the same."""

import json
import random
import unicodedata

import pytest
from dg_server import Do, Server
from dg_tools import rows

from data_gen import TextOptions
from data_gen.filters import Candidate, Duplicate, Forbidden, Length, NearDuplicate
from data_gen.prompts.answers import parse
from data_gen.prompts.keywords import extract_keywords
from data_gen.run import generate, merge_shards
from data_gen.text.language import load_language
from data_gen.text.words import clean, count_words, same_text, words

BOY, GIRL = "लड़का खेलता है", "लड़की खेलती है"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BOY}।", ["लड़का", "खेलता", "है"]),
        ("هذا كَلْب صَغير", ["هذا", "كَلْب", "صَغير"]),
        ("می\u200cخواهم بروم", ["میخواهم", "بروم"]),
        ("นกบิน", ["น", "ก", "บิ", "น"]),
        ("男孩在玩。", ["男", "孩", "在", "玩"]),
        ("犬がボールで遊ぶ", ["犬", "が", "ボール", "で", "遊", "ぶ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("Ａ　Ｄｏｇ　１２", ["a", "dog", "12"]),
        ("ﬁne Straße", ["fine", "straße"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("l’homme d'or", ["l'homme", "d'or"]),
        ("well-known — Jean‑Luc 3-4", ["well-known", "jean-luc", "3", "4"]),
        ("1,000 dogs, 3.5 m, 2nd", ["1,000", "dogs", "3.5", "m", "2nd"]),
        ("'Stop', he said: 'go'", ["stop", "he", "said", "go"]),
        ("beau\u00adtiful", ["beautiful"]),
        ("🐕 👨‍👩‍👧 ...", []),
        ("Привет, мир!", ["привет", "мир"]),
    ],
)
def test_words_are_unicodes(text, expected):
    found = [unicodedata.normalize("NFC", word) for word in words(text)]
    assert found == [unicodedata.normalize("NFC", word) for word in expected]


def test_the_quick_way_for_ascii_is_the_same():
    """A letter beyond ASCII at the end, by itself, takes the other way."""
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("abzAZ019_.:',;- \"!\n?/") for _ in range(rng.randrange(1, 14)))
        assert words(text) == words(f"{text} é")[:-1], text


def candidate(text):
    return Candidate("1", "", text, text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BOY, GIRL),
        ("ผู้ชายเล่น", "ผู้หญิงเล่น"),
        ("I love my 🐕", "I love my 🐈"),
        ("ਮੁੰਡਾ ਖੇਡਦਾ", "ਮੁੰਡੇ ਖੇਡਦੇ"),
        ("🇩🇪", "🇫🇷"),
        ("+", "−"),
        ("காகம்", "காகா"),
    ],
)
def test_what_differs_is_no_duplicate(one, other):
    filter_ = Duplicate()
    filter_.add(candidate(one))
    assert filter_.rejects(candidate(one))
    assert not filter_.rejects(candidate(other))
    assert len(count_words([one, other])) != 1 or "🐕" in one or not words(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ａ　ｄｏｇ　ｒｕｎｓ．", "A dog runs."),
        ("cafe\u0301", "CAFÉ"),
        ("die Straße", "DIE STRASSE"),
        ("a dog’s bowl", "A dog's bowl!"),
        ("می\u200cخواهم", "میخواهم"),
        ("❤️ you", "❤️ YOU"),
    ],
)
def test_what_only_looks_different_is_a_duplicate(one, other):
    assert same_text(one) == same_text(other)


def test_filters_count_and_find_words_of_every_script():
    assert not Length(3, 3).rejects(candidate(BOY))
    assert not Length(4, 4).rejects(candidate("男孩在玩。"))
    forbidden = Forbidden(["लड़का", "孩在", "STRASSE", "🐕"])
    for text in (BOY, "男孩在玩", "Die Straße", "my 🐕!"):
        assert forbidden.rejects(candidate(text)), text
    for text in (GIRL, "在男孩", "Die Strassen", "my 🐈!"):
        assert not forbidden.rejects(candidate(text)), text
    near = NearDuplicate(0.7)
    near.add(candidate(f"{BOY} और कुत्ता भागता है"))
    assert not near.rejects(candidate(f"{GIRL} और बिल्ली सोती थी"))
    assert near.rejects(candidate(f"{BOY} और कुत्ता भागता है !"))


def test_keywords_of_a_language_with_marks(tmp_path):
    path = tmp_path / "hi.toml"
    path.write_text(
        'name = "Hindi"\nscript = "DEVANAGARI"\nfunction = "है और"\nmodifiers = ""\nadverb_endings = []\ninflections = [""]\n',
        encoding="utf-8",
    )
    language = load_language(str(path))
    assert extract_keywords(count_words([BOY]), language) == ["खेलता", "लड़का"]
    assert language.speaks(f"{BOY}।")
    assert load_language("en").speaks("Ａ ｄｏｇ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("👨‍👩‍👧 ❤️ 👍🏽", "👨‍👩‍👧 ❤️ 👍🏽"),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("beau\u00adtiful \u202eevil\u2066", "beautiful evil"),
        ("עברית\u200f.", "עברית."),
        ("A dog\u200d \u200crun\u2060s\ufeff", "A dog runs"),
        ("hidden\U000e0041\U000e0042 text", "hidden text"),
        ("\u0600١", "\u0600١"),
    ],
)
def test_cleaning_keeps_what_belongs_to_a_word_and_drops_what_nobody_sees(text, expected):
    assert clean(text) == unicodedata.normalize("NFC", expected)


def test_answers_in_other_scripts():
    assert [r["caption"] for r in parse("1、男孩在玩。\n2、女孩在跑。", ["caption"]).records] == [
        "男孩在玩。",
        "女孩在跑。",
    ]
    assert [r["caption"] for r in parse("「犬が走る」", ["caption"]).records] == ["犬が走る"]


def test_a_run_in_hindi_loses_no_row(tmp_path):
    (tmp_path / "in.txt").write_text(f"{BOY}\n{GIRL}\n", encoding="utf-8")
    options = {"model": "m", "input": tmp_path / "in.txt", "count": 2, "concurrency": 1, "style": "uplifting"}

    def decide(body, before):
        return Do(f"{GIRL} खुशी से" if GIRL in body["messages"][0]["content"] else f"{BOY} खुशी से")

    with Server(decide) as server:
        summary = generate("rewrite", TextOptions(out=tmp_path / "o.jsonl", base_url=server.url, **options))
    assert summary.rejected.total() == 0
    assert {row["target"] for row in rows(tmp_path / "o.jsonl")} == {f"{BOY} खुशी से", f"{GIRL} खुशी से"}
    more = [{"source": "x", "target": text} for text in ("+", "−", "🐕", "🐈", BOY, GIRL, "\ud83d")]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    assert merge_shards([tmp_path / "more.jsonl"], tmp_path / "all.jsonl") == (7, 0)
