"""The Python tokenizer against the Java one: what the Java program was seen to give, and the program itself."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from close.evaluation.metrics import tokens as ptb_tokens
from close.evaluation.metrics.ptb import tokenize

java = pytest.mark.skipif(shutil.which("java") is None, reason="the reference tokenizer needs Java")

# Captions and the tokens that pycocoevalcap's PTBTokenizer (CoreNLP 3.4.1) gave for them.
SEEN = {
    "A man's dog isn't here, it's John's.": "a man 's dog is n't here it 's john 's",
    "I can't, won't and cannot; gonna lemme 'tis": "i ca n't wo n't and can not gon na lem me 't is",
    'A sign that reads "Don\'t Walk".': "a sign that reads do n't walk",
    "Two o'clock on D'oeuvre rock'n'roll ol' 'em": "two o'clock on d'oeuvre rock 'n' roll ol' 'em",
    "The dogs' tails, y'all.": "the dogs tails y' all",
    "A T-shirt, a black-and-white t.v. and an x-ray": "a t-shirt a black-and-white t.v. and an x-ray",
    "It's 5:30pm on 10/29/2011, 10-29-2011 or 3 1/2": "it 's 5:30 pm on 10/29/2011 10-29-2011 or 3\xa01/2",
    "5'4\" at 50's, 1950's, '70s, 8th, 22nd": "5 4 at 50 's 1950 's '70s 8th 22nd",
    "$5.50, US$5, 100%, #1 and 3,000 & more": "$ 5.50 us$ 5 100 % # 1 and 3,000 & more",
    "Mr. Smith of St. Louis, Mo. and Ave. B, etc.": "mr. smith of st. louis mo. and ave. b etc.",
    "No. 5 is no. It is at 8 a.m. in the U.S.": "no. 5 is no it is at 8 a.m. in the u.s.",
    "A mass. of grass in Mass. today": "a mass of grass in mass. today",
    "(a red) [dog] {x} <b> w/ and/or a/b/c/d": "-lrb- a red -rrb- -lsb- dog -rsb- -lcb- x -rcb- <b> w / and/or a/b/c / d",
    "wall.A dog--running... no . . . yes!! what?! ----": "wall.a dog running no yes !! what ?!",
    "a_b A&B a & b C++ www.foo.com a@b.com @user #tag": "a_b a&b a & b c++ www.foo.com a@b.com @user #tag",
    "“quoted” ‘this’ — that – Zoë’s café £5 5½": "quoted this that zoë 's café # 5 5 1/2",
    "smile :) or :-( or <3": "smile :-rrb- or :--lrb- or < 3",
    "a &quot;sign&quot; of AT&amp;T &amp; john&apos;s, can&apos;t": "a sign of at&t & john 's ca n't",
    "dog&mdash;cat &ndash; a&nbsp;b caf&eacute; &amp;amp;": "dog cat a b caf&eacute; & amp",
    "&lt;b&gt; &LT;3 it&#39;s &odq;x &copy; &#x27; a &quot b": "< b > < 3 it &#39; s &odq; x & copy & #x 27 a & quot b",
    "  ": "",
    "": "",
    "लड़का खेलता है।": "लड़का खेलता है ।",
    "犬が走る。 หมาวิ่งบนหญ้า": "犬が走る 。 หมาวิ่งบนหญ้า",
    "العَرَبِيَّة كَلب يجري، هنا": "العَرَبِيَّة كَلب يجري ، هنا",
    "சிறுவன் ខ្មែរ a👍🏽b 😀": "சிறுவன் ខ ម រ a b",
    "Ｄｏｇ ｒｕｎｓ！ ΣΑΣ Ёлка": "ｄｏｇ ｒｕｎｓ ！ σας ёлка",
    "cafe\u0301 Zoë’s don‘t l’homme #été ": "cafe\u0301 zoë 's do n`t l’homme #été",
    "१२ कुत्ते 3½ x²³ ①② ٣٫٥": "१२ कुत्ते 3 1/2 x ²³ ① ② ٣٫٥",
    "x‑ray soft\u00adhyphen «chien» „Hund“ 5€ \x01a\u200bb": "x‑ray softhyphen chien „ hund 5 $ a b",
}


@pytest.mark.parametrize(("caption", "tokens"), SEEN.items())
def test_what_java_was_seen_to_give(caption: str, tokens: str) -> None:
    assert " ".join(tokenize([caption])[0]) == tokens


@java
def test_the_list_above_is_what_java_gives() -> None:
    assert ptb_tokens.java_tokens({"x": list(SEEN)})["x"] == list(SEEN.values())


def test_the_next_caption_decides_about_a_last_letter() -> None:
    assert tokenize(["A sign that reads K.", "A dog."]) == [["a", "sign", "that", "reads", "k"], ["a", "dog"]]
    assert tokenize(["A sign that reads K.", "two dogs."])[0][-1] == "k."
    assert tokenize(["A sign that reads K."])[0][-1] == "k."


def real_captions() -> list[str]:
    folder = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = folder / "coco_captions" / "captions_val2017.json"
    if not path.exists():
        pytest.skip("the COCO captions file is not here")
    return [a["caption"] for a in json.loads(path.read_text(encoding="utf-8"))["annotations"]]


@java
def test_same_tokens_on_every_real_caption() -> None:
    real = real_captions()
    ours = [" ".join(tokens) for tokens in tokenize(real)]
    theirs = ptb_tokens.java_tokens({"all": real})["all"]
    assert len(real) == 25014
    assert [(c, a, b) for c, a, b in zip(real, ours, theirs, strict=True) if a != b] == []


FRAGMENTS = """isn't Gonna John's dogs' 's O'Clock 'n' 5:30pm 3,000 -5 (5) 50's '50s 5'4" 7" 1/2 3/4 100% $5.50 #1 no.
555-1234 A&B a&b AT&T and/or w/ 24/7 "hello" 'hello' (a) [a] www.foo.com @user #tag St. Ave. etc. e.g. U.S. a.m. T.V. tv.
B. 5. t-shirt's x-ray - -- --- ... .... .. !! ?! :) ;) café ½ 10° C++ a_b * = ~ 1st 2x4 F-16 12"x14" Jr. Dr. vs. ft. lbs.
N.Y. L.A. mm. Mon. Sat. wall.A half-full. e-mail. x/y/z 10:30a.m. .5 5. 1-800-555-1234 'til o'er ma'am it's. cannot."""


@java
def test_same_tokens_of_every_seventh_character() -> None:
    """In six places of a word; `experiments/scoring/ptb_characters.py` looks at all of them in more."""
    every = [chr(code) for code in (*range(0x80, 0xD800, 7), *range(0xE000, 0x12000, 7)) if code != 0xAD]
    every = [c for c in every if len(f"a{c}a".splitlines()) == 1]
    captions = [place.format(c=c) for c in every for place in ("xa{c}bx", "{c}", "{c}{c}", "1{c}2", "xa{c}1", "{c}-bx")]
    ours, theirs = tokenize(captions), ptb_tokens.java_tokens({"": captions})[""]
    assert [(c, a, b) for c, a, b in zip(captions, map(" ".join, ours), theirs, strict=True) if a != b] == []


@java
def test_halves_of_characters_are_left_out_by_both() -> None:
    odd = ["a \ud83d b", "a\udc00b", "\ud83d\ude00 dog", "\ud83d"]
    assert ptb_tokens.java_tokens({"": odd}) == ptb_tokens.python_tokens({"": odd}) == {"": ["a b", "a b", "dog", ""]}


@java
def test_made_up_captions_hardly_ever_differ() -> None:
    """Real captions with odd things put into them: fewer than one in a thousand may differ."""
    draw = random.Random(7)
    words = ["a", "dog", "The", "runs", "in", "front", "of", "red", "bus", "signs", "man", "Two", "women", "wearing"]
    made, fragments = [], FRAGMENTS.split()
    for _ in range(20000):
        caption = draw.choices(words, k=8)
        for _ in range(draw.randrange(1, 4)):
            caption.insert(draw.randrange(len(caption) + 1), draw.choice(fragments))
        place = draw.randrange(len(caption))
        caption[place] += draw.choice([".", ",", "'s", "'", '"', "!", "?", ";", ":", "-", "n't", "'re", ")", "..", "%"])
        made.append(" ".join(caption) + draw.choice([".", "", " ."]))
    ours = [" ".join(tokens) for tokens in tokenize(made)]
    theirs = ptb_tokens.java_tokens({"all": made})["all"]
    differ = [(c, a, b) for c, a, b in zip(made, ours, theirs, strict=True) if a != b]
    assert len(differ) < 20, differ[:5]


@pytest.mark.parametrize(
    "unit", ["a.", "a-", "1/", "a@", "@", ".", "-", "(", "'", "a'", "é", "\u2028", "😀", "\x00", "है", "犬"]
)
def test_odd_texts_take_no_unreasonable_time(unit: str) -> None:
    start = time.process_time()
    tokens = tokenize([unit * 2000])[0]
    assert time.process_time() - start < 5
    assert len(tokens) <= 2000
