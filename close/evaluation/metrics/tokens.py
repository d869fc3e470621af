"""What caption scores count: Penn Treebank tokens, by the reference (a Java program) or by `ptb`, or words.

Published scores are those of Penn Treebank tokens. They are made for English: `unicode` counts the words of any script.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from close.errors import CloseError, MissingError
from close.evaluation.metrics import ptb
from close.evaluation.metrics.words import composed, stops, unspaced, words
from close.registry import unknown_name

__all__ = [
    "TOKENIZERS",
    "Tokens",
    "java_tokens",
    "package_folder",
    "pick_tokenizer",
    "python_tokens",
    "run_java",
    "settled",
    "unicode_tokens",
    "unread",
]

Tokens = dict[str, list[str]]


def pick_tokenizer(tokenizer: str) -> str:
    """ "java", "python" or "unicode", as asked for; "auto" is Java where it is installed, else "python".

    Raises:
        UnknownNameError: none of these. MissingError: "java", and there is no `java` on the PATH.
    """
    if tokenizer not in ("auto", *TOKENIZERS):
        raise unknown_name("tokenizer", tokenizer, ("auto", *TOKENIZERS))
    java = shutil.which("java") is not None
    if tokenizer == "java" and not java:
        raise MissingError("the reference tokenizer needs `java` on the PATH; install it, or use the python tokenizer")
    return ("java" if java else "python") if tokenizer == "auto" else tokenizer


def settled(tokenizer: str, captions: Iterable[str]) -> tuple[str, str | None]:
    """Which of `TOKENIZERS` "auto" comes to, given all captions that are held against each other; any other as it is.

    Returns:
        It, and why Penn Treebank tokens say little of these captions, if so (`unread`).
    """
    used = pick_tokenizer(tokenizer)
    odd = None if used == "unicode" else unread(captions)
    return ("unicode" if odd and tokenizer == "auto" else used), odd


def python_tokens(captions: Mapping[str, list[str]]) -> Tokens:
    """Id to tokenized captions, words parted by spaces, by `close.evaluation.metrics.ptb`."""
    lines = iter(ptb.tokenize(c for group in captions.values() for c in group))
    return {key: [" ".join(next(lines)) for _ in group] for key, group in captions.items()}


def unicode_tokens(captions: Mapping[str, list[str]]) -> Tokens:
    """Id to the words of captions, parted by spaces, by `close.evaluation.metrics.words`."""
    return {key: [" ".join(words(caption)) for caption in group] for key, group in captions.items()}


def unread(captions: Iterable[str]) -> str | None:
    """Why Penn Treebank tokens say little of these captions, if so: more than one character in a hundred is misread."""
    total = lost = 0
    for caption in map(composed, captions):
        total += len(caption)
        lost += min(len(caption), ptb.dropped(caption) + unspaced(caption) + stops(caption))
    if lost <= total / 100:
        return None
    return (
        f"{100 * lost / total:.0f} % of all characters are left out by the Penn Treebank tokenizer, of scripts without spaces, or"
        " stops that it counts as words;"
        " the unicode tokenizer counts the words of any script"
    )


def java_tokens(captions: Mapping[str, list[str]]) -> Tokens:
    """Id to tokenized captions, words parted by spaces, by the reference.

    The program and options of pycocoevalcap's `PTBTokenizer`, without the file that it writes into site-packages.

    Raises:
        MissingError: no `java` on the PATH. CloseError: the program failed.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    text = [" ".join(c.splitlines()) for group in captions.values() for c in group]
    program = [
        "-cp",
        str(package_folder("tokenizer") / STANFORD_CORENLP_3_4_1_JAR),
        "edu.stanford.nlp.process.PTBTokenizer",
    ]
    output = run_java([*program, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"], "\n".join(text))
    lines = output.split("\n")
    if len(lines) < len(text):
        raise CloseError(f"the Java tokenizer returned {len(lines)} lines for {len(text)} captions")
    kept = iter([" ".join(w for w in line.rstrip().split(" ") if w not in PUNCTUATIONS) for line in lines])
    return {key: [next(kept) for _ in group] for key, group in captions.items()}


def package_folder(name: str) -> Path:
    """Where a part of pycocoevalcap lies.

    Raises:
        MissingError: it is not installed.
    """
    spec = find_spec(f"pycocoevalcap.{name}")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("pycocoevalcap is not installed; `pip install pycocoevalcap`")
    return Path(next(iter(spec.submodule_search_locations)))


def run_java(arguments: Sequence[str], text: str) -> str:
    """Run a Java program on `text` and return what it prints.

    Raises:
        MissingError: no `java` on the PATH. CloseError: the program failed.
    """
    if shutil.which("java") is None:
        raise MissingError("needs `java` on the PATH")
    content = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()  # no halves of characters
    done = subprocess.run(["java", "-Dfile.encoding=UTF-8", *arguments], input=content, capture_output=True)
    if done.returncode:
        raise CloseError(f"java ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode()


TOKENIZERS: Mapping[str, Callable[[Mapping[str, list[str]]], Tokens]] = {
    "java": java_tokens,
    "python": python_tokens,
    "unicode": unicode_tokens,
}
