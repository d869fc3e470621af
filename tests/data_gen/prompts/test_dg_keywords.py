"""Keywords: extraction, uniform draws, and unigram matching against a slow reading of its definition."""

import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from data_gen.errors import InputError
from data_gen.prompts.keywords import Uniform, UnigramMatched, extract_keywords
from data_gen.text.files import read_texts
from data_gen.text.language import load_language
from data_gen.text.words import count_words, words

ENGLISH = load_language("en")
SHARED = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def test_nouns_and_verbs_by_frequency():
    counts = count_words(["A small red dog quickly runs to two dogs", "The dog sleeps", "a dog's bone runs"])
    assert extract_keywords(counts, ENGLISH) == ["dog", "runs", "bone", "dogs", "sleeps"]
    assert extract_keywords(counts, ENGLISH, 2) == ["dog", "runs"]


@pytest.mark.skipif(not SHARED.exists(), reason="the shared test data is not there")
def test_keywords_of_coco_are_mostly_nouns_and_verbs():
    counts = count_words(t.text for t in read_texts(SHARED / "coco_captions" / "captions_val2017.json"))
    top = extract_keywords(counts, ENGLISH, 5)
    assert top[:3] == ["man", "sitting", "standing"]
    neither = {"red", "large", "two", "of", "near", "very", "white", "wooden", "several", "their", "slowly"}
    assert neither.isdisjoint(top)
    assert {"tennis", "riding", "giraffe", "umbrella", "holds"} <= set(top)


@pytest.mark.parametrize(
    ("keyword", "word", "used"),
    [
        ("dog", "dogs", True),
        ("run", "running", True),
        ("ride", "riding", True),
        ("baby", "babies", True),
        ("bus", "buses", True),
        ("car", "cart", False),
        ("cat", "caterpillar", False),
        ("hot dog", "dog", False),
    ],
)
def test_a_keyword_is_used_in_inflected_forms(keyword, word, used):
    assert ENGLISH.uses(keyword, frozenset({word, "a"})) is used


def test_languages_tell_each_other_apart():
    texts = {
        "en": "A brown dog runs across the grass of a park",
        "de": "Ein brauner Hund läuft über die Wiese in einem Park",
        "fr": "Un chien brun court dans l'herbe du parc avec une balle",
        "es": "Un perro marrón corre por la hierba del parque con una pelota",
    }
    languages = {tag: load_language(tag) for tag in texts}
    for tag, text in texts.items():
        assert [other for other, language in languages.items() if language.speaks(text)] == [tag]
    assert not languages["en"].speaks("Собака бежит по парку")
    for text in (
        "a man in a hat stands in an alley",
        "A man sitting in a chair in an office.",
        "A cat sits in an armchair in a room",
    ):
        assert [tag for tag, language in languages.items() if language.speaks(text)] == ["en"]
    for text in ("Die Katze schläft in der Sonne", "Die Kinder spielen am Strand"):
        assert languages["de"].speaks(text)


def test_uniform_draws_are_uniform_and_different():
    sampler = Uniform([str(i) for i in range(10)])
    drawn = Counter()
    for seed in range(5000):
        pair = sampler.draw(Random(seed), 2)
        assert len(set(pair)) == 2
        drawn.update(pair)
    assert all(abs(n - 1000) < 150 for n in drawn.values())
    assert set(Uniform(["a"]).draw(Random(0), 2)) == {"a"}


def test_unigram_matching_draws_what_is_lacking():
    target = Counter(the=50, dog=30, cat=15, bus=5)
    sampler = UnigramMatched(["dog", "cat", "bus", "cow"], target)
    accepted = Counter(the=40, dog=35, cat=5, a=20)
    sampler.refresh(accepted, 100)
    lacking = {k: max(0, target[k] / 100 * (100 + 100) - accepted[k]) for k in ("dog", "cat", "bus")}
    drawn = Counter(sampler.draw(Random(seed), 1)[0] for seed in range(6000))
    for keyword, lack in lacking.items():
        assert abs(drawn[keyword] / 6000 - lack / sum(lacking.values())) < 0.025
    sampler.refresh(Counter(dog=900, the=100), 10)
    assert {k for seed in range(200) for k in sampler.draw(Random(seed), 2)} == {"cat", "bus"}


def test_unigram_matching_where_nothing_lacks_and_where_one_word_has_it_all():
    sampler = UnigramMatched(["dog", "cat"], Counter(dog=1, cat=1, a=8))
    sampler.refresh(Counter(dog=50, cat=50), 1)
    assert len(sampler.draw(Random(0), 2)) == 2
    sampler.refresh(Counter(dog=5000, a=40000), 1)
    assert sampler.draw(Random(0), 2) == ("cat",)


def test_a_target_without_keywords_is_told():
    with pytest.raises(InputError, match="none of the keywords"):
        UnigramMatched(["cow"], Counter(dog=1))


def test_keywords_are_found_whatever_their_case_and_as_phrases():
    texts = ["A dog at a traffic light", "The dog and a cat", "Traffic light and traffic lights", "a cat"]
    keywords = ["Dog", "traffic light", "cat", "dog", "zebra", "light traffic"]
    sampler = UnigramMatched(keywords, count_words(texts), texts)
    assert sampler.left_out == ["zebra", "light traffic"]
    sampler.refresh({}, 100)
    drawn = Counter(sampler.draw(Random(seed), 1)[0] for seed in range(6000))
    assert set(drawn) == {"Dog", "traffic light", "cat"}  # two of each in the texts
    assert all(abs(count - 2000) < 200 for count in drawn.values())
    accepted = Counter(sampler.counted(words("A DOG near a traffic light, a dog")))
    assert (accepted["dog"], accepted["traffic light"], accepted["light"]) == (2, 1, 1)
    sampler.refresh(Counter({"dog": 50, "traffic light": 50}), 1)
    assert sampler.draw(Random(0), 2) == ("cat",)
