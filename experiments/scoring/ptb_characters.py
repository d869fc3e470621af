"""Which characters the Java tokenizer takes for letters, digits, marks …, for every one that it knows.

    python experiments/scoring/ptb_characters.py [--out close/evaluation/metrics/ptb_characters.json]

Each of the 65,536 characters is put into the same few places of a word; those that come out as a known one does are of its class.
What lies beyond (emoji, rare letters) comes out as nothing at all, which is seen too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from close.evaluation.metrics.ptb import KNOWN, tokenize
from close.evaluation.metrics.tokens import java_tokens
from close.io.files import write_json

_PLACES = "xa{c}bx|{c}|xa {c} bx|{c}{c}|1{c}2|xa{c}|{c}bx|xa{c}{c}bx|xa{c}1|don{c}t|xa.{c}b|{c}-bx|xa-{c}|{c} {c}xa"
PLACES = _PLACES.split("|")
CLASSES = {"letter": "é", "mark": "\u02c2", "digit": "٣", "nothing": "\x01", "run": "²"}
ROOT = Path(__file__).parents[2]


def characters() -> list[str]:
    """All of the plane that a line of text can hold, and some of the planes beyond."""
    plane = [chr(code) for code in range(1, 0x10000) if not 0xD800 <= code < 0xE000]
    return [c for c in plane if len(f"a{c}a".splitlines()) == 1] + [chr(code) for code in range(0x10000, 0x20000, 7)]


def seen(every: list[str]) -> dict[str, tuple[str, ...]]:
    """Character to what Java makes of it in each place, the character itself written as a private one."""
    lines = java_tokens({"": [place.format(c=c) for c in every for place in PLACES]})[""]
    size = len(PLACES)
    return {c: tuple(lines[i * size : i * size + size]) for i, c in enumerate(every)}


def form(character: str, lines: Iterable[str]) -> tuple[str, ...]:
    """What came out, whichever character it was."""
    return tuple(line.replace(character.lower(), "\0").replace(character, "\0") for line in lines)


def ranges(codes: Iterable[int]) -> str:
    """ "00aa 00c0-00d6 …"."""
    found: list[list[int]] = []
    for code in sorted(codes):
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return " ".join(f"{first:04x}" if first == last else f"{first:04x}-{last:04x}" for first, last in found)


def main() -> None:
    """Look, write the table, and say how often the Python tokenizer still differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "close" / "evaluation" / "metrics" / "ptb_characters.json")
    arguments = parser.parse_args()
    outcome = seen(characters())
    forms = {form(example, outcome[example]): name for name, example in CLASSES.items()}
    table: dict[str, list[int]] = {name: [] for name in CLASSES}
    for character, lines in outcome.items():
        name = forms.get(form(character, lines))
        if name and not character.isascii() and character not in KNOWN:
            table[name].append(ord(character))
    beyond = [code for codes in table.values() for code in codes if code > 0xFFFF]
    assert not set(beyond) - set(table["nothing"]), "characters beyond the plane come out as something"
    write_json(arguments.out, {name: ranges(c for c in codes if c <= 0xFFFF) for name, codes in table.items()})
    print({name: len(codes) for name, codes in table.items()})
    ours = tokenize(place.format(c=c) for c in outcome for place in PLACES)
    theirs = [line for lines in outcome.values() for line in lines]
    different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if " ".join(a) != b]
    print(f"{len(different)} of {len(theirs)} lines differ, of {len({i // len(PLACES) for i in different})} characters")
    for i in different[:: max(1, len(different) // 60)]:
        character = list(outcome)[i // len(PLACES)]
        print(f"  {ord(character):04x} {PLACES[i % len(PLACES)]!r}: {' '.join(ours[i])!r}, Java {theirs[i]!r}")


if __name__ == "__main__":
    main()
