"""Words of every script: what counts as one, which are the same, and the scores that count them."""

import unicodedata

import pytest

from close.errors import UnknownNameError
from close.evaluation.metrics import caption_scores, diversity
from close.evaluation.metrics.vqa import vqa_accuracy
from close.evaluation.metrics.words import words

NO_JAVA = ("bleu", "rouge_l", "cider")
BOY, GIRL = "लड़का खेलता है", "लड़की खेलती है"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOY, ["लड़का", "खेलता", "है"]),
        ("It's a T-shirt, 3,000.5 “quoted”!", ["it's", "a", "t", "shirt", "3,000.5", "quoted"]),
        ("犬が走る。", ["犬", "が", "走", "る"]),
        ("ひらがな カタカナ", ["ひ", "ら", "が", "な", "カタカナ"]),
        ("개가 달린다", ["개가", "달린다"]),
        ("العَرَبِيَّة، كَلب", ["العَرَبِيَّة", "كَلب"]),
        ("หมา", ["ห", "ม", "า"]),
        ("a 👍🏽 😀😀 🇩🇪🇫🇷", ["a", "👍🏽", "😀", "😀", "🇩🇪", "🇫🇷"]),
        ("one 👨‍👩‍👧 family", ["one", "👨👩👧", "family"]),
        (" \u2028…—!?\r\n", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == [unicodedata.normalize("NFC", word) for word in expected]


@pytest.mark.parametrize(
    "same",
    [
        ("Ｄｏｇ", "dog"),
        ("ﬁne", "fine"),
        ("cafe\u0301", "CAFÉ"),
        ("STRASSE", "straße"),
        ("❤️", "❤"),
        ("so\xadft", "soft"),
    ],
)
def test_the_same_word_in_other_characters(same: tuple[str, str]) -> None:
    assert words(same[0]) == words(same[1]) != []


def test_a_vowel_sign_makes_another_caption() -> None:
    found = diversity([BOY, GIRL], training=[BOY])
    assert (found["unique"], found["novel"], found["vocabulary"], found["empty"]) == (100, 50, 5, 0)
    assert diversity(["😀", "犬が走る"])["length"] == {"mean": 2.5, "sd": 1.5, "min": 1, "max": 4}


@pytest.mark.parametrize(("tokenizer", "right"), [("python", False), ("unicode", True)])
def test_writing_without_spaces_is_scored_by_its_characters(tokenizer: str, right: bool) -> None:
    references = {"a": ["一只狗在草地上奔跑"], "b": ["两个人在海边散步"], "c": ["一辆红色的公共汽车"]}
    said = {"a": "一只狗在草地上睡觉", "b": "两个人在海边", "c": "一辆红色的卡车"}
    scores = caption_scores(said, references, tokenizer=tokenizer, metrics=NO_JAVA, samples=0)
    assert (scores["cider"] > 50) == right
    assert (scores["bleu_1"] > 50) == right
    assert ("unicode" in scores["notes"].get("tokenizer", "")) == (not right)
    assert scores["tokenizer"] == tokenizer


@pytest.mark.parametrize("tokenizer", ["python", "java"])
def test_marks_that_stand_apart_are_the_same_captions(tokenizer: str) -> None:
    """Of either side; what is composed already is scored as it was."""
    said = {"a": "Hüfte: größere Ergüsse", "b": "Milz vergrößert"}
    apart = {key: unicodedata.normalize("NFD", text) for key, text in said.items()}
    assert apart != said
    scores = [
        caption_scores(
            ours, {key: [text] for key, text in theirs.items()}, tokenizer=tokenizer, metrics=NO_JAVA, samples=0
        )
        for ours, theirs in ((said, said), (said, apart), (apart, said), (apart, apart))
    ]
    assert all(one == scores[0] for one in scores[1:])
    assert scores[0]["bleu_1"] == pytest.approx(100)


def test_answers_whose_marks_stand_apart_are_the_same() -> None:
    answers = ("Ergüsse", "Ergüsse", "Hüfte")
    assert vqa_accuracy(unicodedata.normalize("NFD", "Ergüsse"), answers) == vqa_accuracy("Ergüsse", answers) > 0


def test_no_note_where_the_penn_treebank_tokenizer_reads_all() -> None:
    for one in ("A café on the Straße.", BOY, "собака бежит"):
        scores = caption_scores({"a": one}, {"a": [one]}, tokenizer="python", metrics=["bleu"], samples=0)
        assert "tokenizer" not in scores["notes"]
        assert scores["bleu_2"] == pytest.approx(100, abs=1e-4)


def test_hindi_by_penn_treebank_tokens_as_java_counts_them() -> None:
    references = {"a": [BOY + "।"], "b": [GIRL + "।"], "c": ["एक कुत्ता दौड़ता है"]}
    said = {"a": BOY, "b": BOY, "c": "एक कुत्ता सोता है"}
    scores = caption_scores(said, references, tokenizer="python", metrics=["bleu"], samples=0)
    assert scores["bleu_1"] == pytest.approx(100 * 7 / 10 * 2.718281828 ** (1 - 12 / 10), abs=1e-4)
    with pytest.raises(UnknownNameError, match="unicode"):
        caption_scores(said, references, tokenizer="unicod")
