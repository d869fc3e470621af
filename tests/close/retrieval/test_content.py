"""Content words by word lists, in every language that has them."""

import pytest

from close.errors import MissingError, RecipeError, UnknownNameError
from close.plugins import load_plugins
from close.retrieval.content import WORD_FINDERS, common_words, languages, word_finder

SAID = {
    "en": ("A small Dog is quickly running with two red balls.", ["small", "dog", "running", "two", "red", "balls"]),
    "de": ("Ein großer Hund läuft über die grüne Wiese.", ["großer", "hund", "läuft", "grüne", "wiese"]),
    "fr": ("Un chien noir court dans l'herbe.", ["chien", "noir", "court", "herbe"]),
    "es": ("Un perro negro corre por la playa.", ["perro", "negro", "corre", "playa"]),
}


def test_what_a_caption_is_about():
    assert languages() == sorted(SAID)
    for language, (text, expected) in SAID.items():
        assert word_finder(language)([text]) == [expected]
    assert word_finder("en")(["They don't see the dog's bone"]) == [["see", "dog", "bone"]]
    assert word_finder("en", attributes=False)([SAID["en"][0]]) == [["dog", "running", "balls"]]


def test_a_word_has_to_be_in_enough_of_the_captions():
    found = word_finder("en")(
        ["a dog runs", "two dogs running", "a dog and a cat", "babies with a baby", "a baby rides", "riding"]
    )
    assert common_words(found, 3) == ["dog"]  # with dogs
    assert common_words(found, 2) == ["dog", "baby"]  # with babies; "ride" itself was not said
    assert common_words(found, 7) == []
    assert common_words([["horse"], ["horses"]], 2) == ["horse"]
    assert common_words([["runs"], ["running"]], 2) == []  # run itself was not said


def test_a_file_and_a_function_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(WORD_FINDERS, "_items", {})
    lists = tmp_path / "own.toml"
    lists.write_text('function = "la le"\nmodifiers = "bela"\nadverb_endings = ["ment"]\ninflections = ["s"]\n')
    assert word_finder(str(lists))(["la bela floro le arbos vivament"]) == [["bela", "floro", "arbos"]]
    plugin = tmp_path / "capitals.py"
    plugin.write_text(
        "from close.retrieval.content import WORD_FINDERS\n"
        "@WORD_FINDERS.register('capitals')\n"
        "def capitals(texts):\n"
        "    '''Words in capitals.'''\n"
        "    return [[word for word in text.split() if word.isupper()] for text in texts]\n"
    )
    load_plugins([str(plugin)])
    assert "capitals" in WORD_FINDERS
    assert common_words(word_finder("capitals")(["a DOG", "one DOG", "no dogs"]), 2, "capitals") == ["DOG"]


def test_lists_that_are_none(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown language 'english'.*known: de, en, es, fr"):
        word_finder("english")
    with pytest.raises(MissingError, match="no such file"):
        word_finder(str(tmp_path / "gone.toml"))
    for number, content in enumerate(["function = [", 'function = "a"', 'function = 1\nmodifiers = ""', ""]):
        broken = tmp_path / f"broken{number}.toml"
        broken.write_text(content)
        with pytest.raises(RecipeError, match="broken"):
            word_finder(str(broken))
