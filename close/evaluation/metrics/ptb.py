"""Penn Treebank tokens of captions, without Java.

The published caption scores count the tokens of one tokenizer: Stanford CoreNLP 3.4.1's `PTBTokenizer`, lower-cased,
punctuation left out. `tokenize` gives the same tokens from a table of patterns: at each place the pattern that reaches
furthest wins, the first among equals. The patterns describe what the Java program was seen to do with real and with
made-up captions; `experiments/scoring/ptb_agreement.py` measures how far the two agree.

What is a letter, a digit or a mark is what Java takes for one (Unicode of 2012, without vowel signs of many scripts), and lies in
`ptb_characters.json`, found by `experiments/scoring/ptb_characters.py`. Characters that it doesn't know, emoji among them, part
words and are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

__all__ = ["KNOWN", "PUNCTUATION", "dropped", "tokenize"]

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the scorers leave out. (The reference means to drop brackets too, but looks for `-LRB-` in lower case.)"""

# Abbreviations that keep their full stop: whatever follows; only when capitalised; only before a number.
_ABBREVIATIONS = """al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext
 feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc
 ppte ppty pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo"""
_TITLES = """adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov govs
 hon insp invt jos lt maj mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph pres prof profs pvt rep reps rev sen sens sfc
 sgt spc st ste supt vs wm"""
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
_NUMBERED = "art ca fig figs no nos op pp prop"
# After one letter and a full stop, these words begin a sentence, so that the full stop is not the letter's.
_OPENERS = """A About According After An As At But Earlier He Her Here However If In It Last Many More Now Once One Other
 Our She Since So Some Such That The Their Then There These They This We What When While Yet You"""


# Read as the sign that they stand for; others, `&copy;` say, are an "&", a word and a semicolon.
_ENTITIES = {"&amp;": "&", "&quot;": '"', "&apos;": "'", "&nbsp;": "\xa0", "&mdash;": "—", "&ndash;": "—", "&md;": "—"}
_ENTITY = re.compile("|".join(_ENTITIES), re.IGNORECASE)

# Patterns see a caption's shape: of each class of characters that are not ASCII's, one stands for all.
_LETTER, _MARK, _DIGIT, _NOTHING, _RUN, _SIGN = "é˂٣\x01²¬"
_ACCENT = "&[aeiouAEIOU](?:acute|grave|uml);"
_L = f"(?:[A-Za-z{_LETTER}{_MARK}]|{_ACCENT})"
_A = f"(?:[A-Za-z{_LETTER}{_MARK}\\d]|{_ACCENT})"
_B = f"[A-Za-z{_LETTER}\\d]"  # in what is joined by hyphens
_H = "[-_‐]"
_Q = r"['’\x92]"  # an apostrophe
_N = r"['’\x92`‘‛\x91]"  # in n't
_S = r"[ \t\n\r\xa0]"


def _any(names: str, *forms: Callable[[str], str]) -> str:
    return "(?:" + "|".join(form(name) for name in names.split() for form in forms) + ")"


def _caseless(name: str) -> str:
    return f"(?i:{name})"


_WORD = rf"{_L}{_A}*(?:[.!?]{_L}{_A}*)*"
_AUXILIARY = rf"{_Q}(?:[msdMSD]|re|ve|ll|RE|VE|LL)"
_OF = rf"(?:[dDoOlL][`‘‛\x91'’\x92]{_B})?"  # the d' and o' of d'oeuvre and jack-o'-lantern
_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_FRACTION = r"\d{1,4}\\?[/⁄]\d{1,4}"

# Where there is a group, the token is the group, and what follows it only counts for the length.
_PATTERNS = (
    r"(?i:(can)not|(gon)na|(got)ta|(lem)me|(gim)me|(wan)na)",
    rf"({_Q}[tT])(?i:is|was)",
    r"</?[A-Za-z!][^<>\n]*>",
    # words, and what an apostrophe parts them from: john 's, ca n't, y' all
    rf"({_any(_ABBREVIATIONS, _caseless)}\.){_L}",
    _WORD,
    rf"({_WORD}){_AUXILIARY}",
    rf"([A-Za-z]*[A-MO-Za-mo-z])[nN]{_N}[tT]",
    rf"([yY]{_Q}){_L}",
    rf"({_AUXILIARY}|[nN]{_N}[tT])[^A-Za-z]",
    rf"{_L}+[aeiouyAEIOUY]{_Q}[aeiouA-Z]{_L}*|[A-HJ-XZn]{_Q}{_L}{{2,}}|[lLdDjJ]{_Q}|{_Q}[2-9]0[sS]",
    rf"{_Q}[nN]{_Q}?|(?i:{_Q}em|ol{_Q}|{_Q}till?|{_Q}cause|c{_Q}mon|o{_Q}clock|ma{_Q}am|[eo]{_Q}er|ne{_Q}er)",
    rf"({_Q}|[`‘‛\x91])[A-Za-z][^ \t\n\r\xa0]",
    # what the web brought
    r"https?://[^\s<>\"]+\.[^\s<>\"]*[^\s<>\".!?,;:)]",
    r"[A-Za-z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+",
    rf"@[A-Za-z_]\w*|#{_L}+",
    r"(?:[\w#]+\.)+(?:com|net|org|edu)(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?",
    r"([<>]?[:;=]['’]?-?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]|\^_\^",
    # numbers
    r"[-+]?(?:\d*(?:[.:,٫٬]\d+)+|\d+)",
    r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}",
    rf"(?:\d{{1,4}}[- \xa0])?{_FRACTION}",
    r"\(\d{2,3}\)[ \xa0]?\d{3,4}[- \xa0]?\d{3,5}|(?:\+?\d{1,4}[- ])?\d{2,4}[- ]\d{3,4}[- ]\d{3,5}",
    # several words in one
    rf"{_OF}{_B}+(?:{_H}{_OF}{_B}+)*",
    r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9]+))+",
    rf"{_PART}(?:\\?/{_PART}){{1,2}}",
    r"[A-Z]+(?:[&+][A-Z]+)+",
    # abbreviations
    rf"{_any(_ABBREVIATIONS + ' ' + _TITLES, _caseless)}\.",
    rf"{_any(_CAPITALISED, str.capitalize, str.upper)}\.",
    rf"({_any(_NUMBERED, _caseless)}\.){_S}?\d",
    r"[A-Za-z](?:\.[A-Za-z])*\.",
    rf"([A-Za-z])\.{_S}+(?:{_any(_OPENERS, str, str.upper)}|M[rRsS]\.){_S}",
    rf"((?:{_WORD}|{_A}+(?:[-/]{_A}+)*)\.)[,;:、]",
    # signs
    r"(?i:&(?:lt|gt|ht|tl|ur|lr|qc|ql|qr|odq|cdq|#\d+);)",
    r"[?!]+|\.{3,5}|(?:\. ){2,4}\.|-{2,}|\*+|_+|#+|@+|[A-Z]*\$|C\+\+|[CcFf]#",
    rf"''|``|<<|>>|{_RUN}+|[“«\x93]{{2}}|[”»\x94]{{2}}|.",
)
_RULES = [re.compile(pattern) for pattern in _PATTERNS]

_ESCAPES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "£": "#", "¢": "cents", "&lt;": "<", "&gt;": ">"}
_SIGNS |= dict.fromkeys("€\x80¤₠", "$")
_SIGNS |= {part.replace("'", mark): part for part in ("n't", "'s", "'m", "'d", "'re", "'ve", "'ll") for mark in "’\x92"}
_SIGNS |= {f"n{mark}t": "n`t" for mark in "‘‛\x91"}
_MARKS = (
    dict.fromkeys('“”‘’—–…"«»‛‐‑֊٫٬\x91\x92\x93\x94\x96\x97\x85', "'")
    | {mark * 2: "````" for mark in "“«\x93"}
    | {mark * 2: "''''" for mark in "”»\x94"}
    | dict.fromkeys((". . .", ". . . .", ". . . . .", "....", "....."), "...")
    | {"---": "--", "----": "--"}
)
_TABLE = str.maketrans(_ESCAPES | {" ": "\xa0", "\xad": ""})
KNOWN = frozenset("".join([*_SIGNS, *_MARKS, "‐‑֊⁄\xa0\xad、"]))
"""Characters that patterns and replacements name themselves."""

_SIMPLE = re.compile(r"[A-Za-z]{2,}(?=,?[ \n])")
_CUT = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))


def tokenize(captions: Iterable[str]) -> list[list[str]]:
    """The tokens of each caption: lower-cased, punctuation left out.

    As in the reference, a caption that ends in one letter and a full stop ("... in her T.") is read with an eye on the
    first word of the caption after it, so the order of `captions` can decide about that full stop.
    """
    lines = [_ENTITY.sub(lambda found: _ENTITIES[found[0].lower()], " ".join(c.splitlines())) for c in captions]
    return [_line(line + "\n" + after[:16] + "\n") for line, after in zip(lines, [*lines[1:], ""], strict=True)]


class _Shapes(dict[int, str]):
    """Code of a character to what stands for its class, for `str.translate`."""

    def __missing__(self, code: int) -> str:
        if code < 128 or chr(code) in KNOWN:
            return chr(code)
        return _NOTHING if code > 0xFFFF or 0xD800 <= code < 0xE000 else _SIGN


@cache
def _shapes() -> _Shapes:
    classes = {"letter": _LETTER, "mark": _MARK, "digit": _DIGIT, "nothing": _NOTHING, "run": _RUN}
    table = json.loads(Path(__file__).with_name("ptb_characters.json").read_text(encoding="utf-8"))
    found = _Shapes(dict.fromkeys(map(ord, "Σ\xad"), _LETTER) | dict.fromkeys(map(ord, "֊‑"), "‐"))
    for name, example in classes.items():
        for part in table[name].split():
            first, _, last = part.partition("-")
            found.update(dict.fromkeys(range(int(first, 16), int(last or first, 16) + 1), example))
    return found


def dropped(text: str) -> int:
    """How many characters of a text become part of no token because the reference does not know them."""
    return 0 if text.isascii() else text.translate(_shapes()).count(_NOTHING)


def _line(text: str) -> list[str]:
    """The tokens of `text` up to its first line break; the rest is only looked at."""
    shape = text if text.isascii() else text.translate(_shapes())
    tokens, start, end = [], 0, text.index("\n")
    while start < end:
        if shape[start] <= " " or shape[start] in "\x7f\xa0":
            start += 1
            continue
        size = _size(shape, start)
        token = text[start : start + size]
        start += size
        token = _MARKS.get(token, token)
        if token not in PUNCTUATION:
            token = token.lower()
            tokens.append(_SIGNS.get(token, token).translate(_TABLE))
    return [token for token in tokens if token]


def _size(shape: str, start: int) -> int:
    """Of the token at `start`: of the pattern that reaches furthest, the first among equals."""
    if (simple := _SIMPLE.match(shape, start)) and simple[0].lower() not in _CUT:
        return simple.end() - start  # most words; no pattern could reach further
    size, end = 1, start
    for rule in _RULES:
        if (found := rule.match(shape, start)) and found.end() > end:
            size, end = found.end(found.lastindex or 0) - start, found.end()
    return size
