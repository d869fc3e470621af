"""Filters, each against a plain definition."""

import itertools
from collections import Counter
from random import Random

import numpy as np
import pytest

from data_gen.errors import InputError
from data_gen.filters import Candidate, Setting, default_filters, make_filter
from data_gen.prompts.style import Style
from data_gen.text.language import load_language
from data_gen.text.words import words
from data_gen.verbs import Shot

STYLE, ENGLISH = Style(min_words=3, max_words=5), load_language("en")


def made(option):
    return make_filter(option, Setting(STYLE, ENGLISH, 0))


def candidate(text, **values):
    return Candidate(**{"id": "x", "given": "dog", "text": text, "key": text, **values})


def rejecting(text, filters, **values):
    return next((f.name for f in filters if f.rejects(candidate(text, **values))), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("... !", "empty"),
        ("Sure, here is a caption with a dog", "refusal"),
        ("Here's a caption for the photo", "refusal"),
        ("I'm sorry, but I can't help with that", "refusal"),
        ("I cannot create captions of people", "refusal"),
        ("As an AI, I have no eyes", "refusal"),
        ("As a large language model I see nothing", "refusal"),
        ("A dog. Let me know if you want more", "refusal"),
        ("a dog, in a PARK", "copied"),
        ("Dog!", "copied"),
        ("A dog sleeps", None),
        ("I can't believe how fast my dog runs", None),
        ("OK, one more step and I am on the summit", None),
        ("Here is a sign with text above a door", None),
        ("Sure of himself, a boy jumps", None),
        ("I'm unable to stop smiling", None),
    ],
)
def test_default_filters_remove_only_what_no_one_wants(text, reason):
    filters = default_filters([Shot("1", "dog, park", ({"caption": "A dog in a park."},))])
    assert rejecting(text, filters) == reason


def test_the_same_words_are_a_duplicate():
    filters = default_filters([])
    for f in filters:
        f.add(candidate("A dog, in a park."))
    assert rejecting("a DOG in a park", filters) == "duplicate"
    assert rejecting("a dog in the park", filters) is None


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("length", "one two three", "one two"),
        ("length=1-2", "one two", "one two three"),
        ("language", "A dog runs over the green grass", "Ein Hund rennt über das grüne Gras"),
        ("keywords", "Two dogs bark", "Two cats meow"),
    ],
)
def test_simple_filters(option, good, bad):
    assert not made(option).rejects(candidate(good, keywords=("dog",)))
    assert made(option).rejects(candidate(bad, keywords=("dog",)))


def test_forbidden_words_and_phrases(tmp_path):
    (tmp_path / "no.txt").write_text("gun\nred car\n")
    forbidden = made(f"forbidden={tmp_path / 'no.txt'}")
    assert forbidden.rejects(candidate("A Gun on a table"))
    assert forbidden.rejects(candidate("a red, car"))
    assert not forbidden.rejects(candidate("a gunner beside a red bus and a car"))


def test_judge_wants_a_yes():
    assert not made("judge").rejects(candidate("x", verdict=" Yes, it does."))
    assert made("judge").rejects(candidate("x", verdict="No."))
    assert made("judge").rejects(candidate("x", verdict="Yesterday"))
    assert made("judge").rejects(candidate("x", verdict=""))


def test_cosine_to_the_keywords(tmp_path):
    (tmp_path / "v.txt").write_text("5 2\nDog 1 0\npuppy 0.9 0.1\nCAR 0 1\ncar 1 0\nthe 1 1\n")  # word2vec's, cased
    cosine = made(f"cosine={tmp_path / 'v.txt'}:0.5")
    assert not cosine.rejects(candidate("A puppy"))
    assert cosine.rejects(candidate("A car"))
    assert not cosine.rejects(candidate("nothing known"))
    (tmp_path / "v.txt").write_text("dog 1 0\npuppy 0.9 0.1\n")  # of content words alone
    assert not made(f"cosine={tmp_path / 'v.txt'}:0.5").rejects(candidate("A puppy"))


def test_vectors_of_tokens_that_are_no_words_are_read_over(tmp_path):
    """fastText's files have tokens of no-break spaces and of marks that nobody sees, GloVe's tokens with spaces."""
    odd = ["\xa0 0.3 0.4 ", "New\xa0York 0.3 0.4", "\u200b 0.3 0.4", ". . . 0.3 0.4", "at name@x.org 0.3 0.4"]
    (tmp_path / "v.vec").write_text(
        "\n".join(["8 2", "dog 1 0 ", *odd, "\tpuppy\t0.9  0.1", "car 0 1"]), encoding="utf-8"
    )
    cosine = made(f"cosine={tmp_path / 'v.vec'}:0.5")
    assert not cosine.rejects(candidate("A puppy"))
    assert cosine.rejects(candidate("A car"))
    for first in (
        "3 2\n\xa0 0.3 0.4\ndog 1 0",
        "dog 1 0\n1 000 0.3 0.4",
        "4 2\n. . 0.3 0.4\n1\xa0000 0.3 0.4\ndog 1 0",
    ):
        (tmp_path / "v.vec").write_text(f"{first}\ncar 0 1\n", encoding="utf-8")
        assert made(f"cosine={tmp_path / 'v.vec'}:0.5").rejects(candidate("A car"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cat 1 2 3", "line 2: expected a word and its vector of 2 numbers"),
        ("cat 1", "line 2: expected a word and its vector of 2 numbers"),
        ("cat 1 x", "line 2: expected a word and its vector of 2 numbers"),
        ("cat 1 nan", "line 2: expected a word"),
        ("cat", "line 2: expected a word"),
    ],
)
def test_what_is_no_vector_is_told_with_its_line(tmp_path, line, told):
    (tmp_path / "v.vec").write_text(f"dog 1 0\n{line}\n")
    with pytest.raises(InputError, match=told):
        made(f"cosine={tmp_path / 'v.vec'}:0.5")
    (tmp_path / "v.vec").write_text("\n")
    with pytest.raises(InputError, match="holds no word vectors"):
        made(f"cosine={tmp_path / 'v.vec'}:0.5")


def shingles(text):
    found = words(text)
    return {*found, *itertools.pairwise(found)}


def test_near_duplicates_against_exact_jaccard():
    rng = Random(0)
    vocabulary = ["".join(chr(97 + int(d)) for d in str(i + 1000)) for i in range(3000)]
    near, kept, wrong, caught, pairs = made("near=0.7"), {}, 0, 0, 0
    for _ in range(500):
        text = " ".join(rng.choice(vocabulary) for _ in range(12))
        if kept and rng.random() < 0.5:
            base = words(rng.choice(list(kept)))
            for _ in range(rng.choice([0, 1, 4, 8])):
                base[rng.randrange(12)] = rng.choice(vocabulary)
            text = " ".join(base)
        new = shingles(text)
        nearest = max((len(new & other) / len(new | other) for other in kept.values()), default=0.0)
        rejected = near.rejects(candidate(text))
        if nearest >= 0.85:
            pairs += 1
            caught += rejected
        if nearest <= 0.5:
            wrong += rejected
        if not rejected:
            kept[text] = new
            near.add(candidate(text))
    assert pairs > 40
    assert caught >= 0.97 * pairs
    assert wrong <= 2


def test_near_duplicate_memory_does_not_depend_on_the_texts():
    near = made("near")
    for i in range(3000):
        near.add(candidate(f"word{i} " * 50))
    used = near._signatures.nbytes + near._tables.nbytes
    assert used <= 512 * 4096


def test_frequent_ngrams_as_close_defines_them():
    ngrams = made("ngrams=5/40")
    texts = ["a man opens the red door today", "a man opens the blue door", "a cat sleeps on the old sofa"]
    rng, counts = Random(1), Counter()
    chosen = [texts[min(2, int(rng.expovariate(1)))] for _ in range(300)]
    for number, text in enumerate(chosen):
        found = words(text)
        grams = {tuple(found[i : i + n]) for n in range(4, 10) for i in range(len(found) - n + 1)}
        chance = sum(counts[g] for g in grams if counts[g] >= 5) / 40
        expected = chance > 0 and Random(f"0:ngrams:{number}").random() < chance
        assert ngrams.rejects(candidate(text, id=str(number))) == expected
        if not expected:
            counts.update(grams)
            ngrams.add(candidate(text))
    assert sum(counts.values()) > 0


def test_ngram_sketch_stays_close_with_many_ngrams():
    ngrams, rng = made("ngrams"), np.random.default_rng(0)
    for row in rng.integers(0, 500, (1000, 12)):
        ngrams.add(candidate(" ".join("".join(chr(97 + int(d)) for d in str(i)) for i in row)))
    cells = ngrams._cells(["completely", "new", "words", "that", "never", "came", "before", "here"])
    assert ngrams._counts[cells].min(axis=0).max() <= 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lenght", r"did you mean 'length'\? known: .*length"),
        ("length=5", "expected length=3-20"),
        ("length=a-b", "expected length=3-20"),
        ("length=20-3", "expected length=3-20"),
        ("length=nan-3", "expected length=3-20"),
        ("near=nan", "is not from 0 to 1"),
        ("ngrams=5/0", "expected ngrams=50/800"),
        ("forbidden", "expected forbidden=FILE"),
        ("cosine", "expected cosine=FILE:0.3"),
        ("language=de", "--language says which one"),
        ("keywords=FILE", "--keywords names their file"),
        ("judge=me", "takes no value"),
        ("near=x", "expected near=0.7"),
        ("ngrams=50", "expected ngrams=50/800"),
        ("forbidden=/nowhere", "can't read"),
        ("cosine=/nowhere:0.3", "can't read"),
    ],
)
def test_wrong_filters_are_told(option, message):
    with pytest.raises(InputError, match=message):
        made(option)
