"""Penn Treebank tokens of captions, without Java.

The published caption scores count the tokens of one tokenizer: Stanford CoreNLP 3.4.1's `PTBTokenizer`, lower-cased,
punctuation left out. `tokenize` gives the same tokens from a table of patterns: at each place the pattern that reaches
furthest wins, the first among equals. The patterns describe what the Java program was seen to do with real and with
made-up captions; `experiments/scoring/ptb_agreement.py` measures how far the two agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["PUNCTUATION", "tokenize"]

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


_L = r"[^\W\d_¼-¾⅐-⅞²³¹]"  # a letter
_A = r"[^\W_¼-¾⅐-⅞²³¹]"  # a letter or a digit
_Q = r"['’\x92]"  # an apostrophe
_S = r"[ \t\n\r\xa0]"


def _any(names: str, *forms: Callable[[str], str]) -> str:
    return "(?:" + "|".join(form(name) for name in names.split() for form in forms) + ")"


def _caseless(name: str) -> str:
    return f"(?i:{name})"


_WORD = rf"{_L}{_A}*(?:[.!?]{_L}{_A}*)*"
_AUXILIARY = rf"{_Q}(?:[msdMSD]|re|ve|ll|RE|VE|LL)"
_OF = rf"(?:[dDoOlL][`‘‛\x91'’\x92]{_A})?"  # the d' and o' of d'oeuvre and jack-o'-lantern
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
    rf"([A-Za-z]*[A-MO-Za-mo-z])[nN]{_Q}[tT]",
    rf"([yY]{_Q}){_L}",
    rf"({_AUXILIARY}|[nN]{_Q}[tT])[^A-Za-z]",
    rf"{_L}+[aeiouyAEIOUY]{_Q}[aeiouA-Z]{_L}*|[A-HJ-XZn]{_Q}{_L}{{2,}}|[lLdDjJ]{_Q}|{_Q}[2-9]0[sS]",
    rf"{_Q}[nN]{_Q}?|(?i:{_Q}em|ol{_Q}|{_Q}till?|{_Q}cause|c{_Q}mon|o{_Q}clock|ma{_Q}am|[eo]{_Q}er|ne{_Q}er)",
    rf"({_Q}|[`‘‛\x91])[A-Za-z][^ \t\n\r\xa0]",
    # what the web brought
    r"https?://[^\s<>\"]+\.[^\s<>\"]*[^\s<>\".!?,;:)]",
    r"[A-Za-z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+",
    r"@[A-Za-z_]\w*|#[A-Za-z]+",
    r"(?:[\w#]+\.)+(?:com|net|org|edu)(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?",
    r"([<>]?[:;=]['’]?-?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]|\^_\^",
    # numbers
    r"[-+]?(?:\d*(?:[.:,]\d+)+|\d+)",
    r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}",
    rf"(?:\d{{1,4}}[- \xa0])?{_FRACTION}",
    r"\(\d{2,3}\)[ \xa0]?\d{3,4}[- \xa0]?\d{3,5}|(?:\+?\d{1,4}[- ])?\d{2,4}[- ]\d{3,4}[- ]\d{3,5}",
    # several words in one
    rf"{_OF}{_A}+(?:[-_]{_OF}{_A}+)*",
    r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9]+))+",
    rf"{_PART}(?:\\?/{_PART}){{1,2}}",
    r"[A-Z]+(?:[&+][A-Z]+)+",
    # abbreviations
    rf"{_any(_ABBREVIATIONS + ' ' + _TITLES, _caseless)}\.",
    rf"{_any(_CAPITALISED, str.capitalize, str.upper)}\.",
    rf"({_any(_NUMBERED, _caseless)}\.){_S}?\d",
    r"[A-Za-z](?:\.[A-Za-z])*\.",
    rf"([A-Za-z])\.{_S}+(?:{_any(_OPENERS, str, str.upper)}|M[rRsS]\.){_S}",
    rf"((?:{_WORD}|{_A}+(?:[-/]{_A}+)*)\.)[,;:]",
    # signs
    r"[?!]+|\.{3,5}|(?:\. ){2,4}\.|-{2,}|\*+|_+|#+|@+|[A-Z]*\$|C\+\+|[CcFf]#",
    r"''|``|.",
)
_RULES = [re.compile(pattern) for pattern in _PATTERNS]

_ESCAPES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "£": "#", "€": "$", "¢": "cents"}
_SIGNS |= {part.replace("'", mark): part for part in ("n't", "'s", "'m", "'d", "'re", "'ve", "'ll") for mark in "’\x92"}
_MARKS = (
    dict.fromkeys('“”‘’—–…"', "'")
    | dict.fromkeys((". . .", ". . . .", ". . . . .", "....", "....."), "...")
    | {"---": "--", "----": "--"}
)
_TABLE = str.maketrans(_ESCAPES | {" ": "\xa0"})
_SIMPLE = re.compile(r"[A-Za-z]{2,}(?=,?[ \n])")
_CUT = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))


def tokenize(captions: Iterable[str]) -> list[list[str]]:
    """The tokens of each caption: lower-cased, punctuation left out.

    As in the reference, a caption that ends in one letter and a full stop ("... in her T.") is read with an eye on the
    first word of the caption after it, so the order of `captions` can decide about that full stop.
    """
    lines = [" ".join(c.splitlines()) for c in captions]
    return [_line(line + "\n" + after[:16] + "\n") for line, after in zip(lines, [*lines[1:], ""], strict=True)]


def _line(text: str) -> list[str]:
    """The tokens of `text` up to its first line break; the rest is only looked at."""
    tokens, start, end = [], 0, text.index("\n")
    while start < end:
        if text[start].isspace():
            start += 1
            continue
        token = _token(text, start)
        start += len(token)
        token = _MARKS.get(token, token)
        if token not in PUNCTUATION:
            token = token.lower()
            tokens.append(_SIGNS.get(token, token).translate(_TABLE))
    return tokens


def _token(text: str, start: int) -> str:
    """The token at `start`: of the pattern that reaches furthest, the first among equals."""
    if (simple := _SIMPLE.match(text, start)) and simple[0].lower() not in _CUT:
        return simple[0]  # most words; no pattern could reach further
    best, end = text[start], start
    for rule in _RULES:
        if (found := rule.match(text, start)) and found.end() > end:
            best, end = found[found.lastindex or 0], found.end()
    return best
