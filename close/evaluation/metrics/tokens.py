"""Penn Treebank tokens, by the reference tokenizer (a Java program) or by `close.evaluation.metrics.ptb`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from close.errors import CloseError, MissingError
from close.evaluation.metrics import ptb
from close.registry import unknown_name

__all__ = ["Tokens", "java_tokens", "package_folder", "pick_tokenizer", "python_tokens", "run_java"]

Tokens = dict[str, list[str]]


def pick_tokenizer(tokenizer: str) -> str:
    """ "java" or "python", as asked for; "auto" is Java where it is installed.

    Raises:
        UnknownNameError: none of these. MissingError: "java", and there is no `java` on the PATH.
    """
    if tokenizer not in ("auto", "java", "python"):
        raise unknown_name("tokenizer", tokenizer, ("auto", "java", "python"))
    java = shutil.which("java") is not None
    if tokenizer == "java" and not java:
        raise MissingError("the reference tokenizer needs `java` on the PATH; install it, or use the python tokenizer")
    return ("java" if java else "python") if tokenizer == "auto" else tokenizer


def python_tokens(captions: Mapping[str, list[str]]) -> Tokens:
    """Id to tokenized captions, words parted by spaces, by `close.evaluation.metrics.ptb`."""
    lines = iter(ptb.tokenize(c for group in captions.values() for c in group))
    return {key: [" ".join(next(lines)) for _ in group] for key, group in captions.items()}


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
    done = subprocess.run(["java", "-Dfile.encoding=UTF-8", *arguments], input=text.encode(), capture_output=True)
    if done.returncode:
        raise CloseError(f"java ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode()
