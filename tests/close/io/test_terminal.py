"""Names and captions of others on the terminal: nothing of them is obeyed."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from close.errors import CloseError, reason, shown, written
from data_gen import errors as data_gen

HOSTILE = "a\x1b[31mred\x07\u202egnp\u2028\x9b2J\ud83d.png"


def test_what_a_terminal_obeys_is_written_out():
    assert written(HOSTILE) == r"a\u001b[31mred\u0007\u202egnp\u2028\u009b2J\ud83d.png"
    assert written("two\tcells\nand lines\r") == r"two\tcells\nand lines\r"
    assert written("two\tcells\nand lines\r", keep="\t\n") == "two\tcells\nand lines" + r"\r"


def test_one_way_everywhere():
    """In messages as in tables, in data_gen as in close, and what is written is not written again."""
    for text in (HOSTILE, "".join(map(chr, range(0x3000))), "".join(map(chr, range(0xD800, 0xE000)))):
        line = written(text)
        assert line == written(line) == data_gen.written(text) == str(data_gen.InputError(text))
        assert str(CloseError(text[:200])) == written(text[:200])
        assert len(line.splitlines()) == 1


def test_a_name_that_is_not_utf_8_is_found_again():
    name = os.fsdecode(b"caf\xe9.png")
    assert os.fsencode(json.loads(f'"{written(name)}"')) == b"caf\xe9.png"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_what_an_encoding_has_no_letters_for_is_escaped_as_in_json(encoding):
    said = {"text": "Größe 商品 😀"}
    code = f"from close.io.terminal import *; escape_the_rest(); show({json.dumps(said, ensure_ascii=False)!r})"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout.decode(encoding)) == said
    assert "Größe" in done.stdout.decode(encoding)


def test_a_first_line_that_goes_on_is_told_to_its_end():
    said = "can't load from one of: \n(1) a file, \n(2) a tokenizer or \n(3) a class. \nYou may install more."
    told = "can't load from one of: (1) a file, (2) a tokenizer or (3) a class."
    assert reason(ValueError(said), whole=False) == told
    assert reason(ValueError("no shape:\n3 or 4\nsee the manual"), whole=False) == "no shape: 3 or 4"
    assert reason(ValueError("damaged\nsee the manual"), whole=False) == "damaged"
    assert reason(ValueError(), whole=False) == "ValueError"


def test_values_are_short_whatever_they_are():
    for value in (16**5000, [[16**5000]], "x" * 10**6, b"y" * 10**6, {1: {2: {3: {4: {5: {6: {7: 8}}}}}}}):
        assert 0 < len(shown(value)) < 300
        assert 0 < len(data_gen.shown(value)) < 300


@pytest.mark.parametrize("text", ["plain", "नमस्ते", "👩‍👩‍👧", "עברית\u200e", "tab\tand\nline"])
def test_what_people_write_stays(text):
    assert written(text, keep="\t\n") == text


def test_in_json_it_means_the_same():
    assert json.loads(written(json.dumps(HOSTILE, ensure_ascii=False))) == HOSTILE


def test_pictures_with_names_that_speak_to_the_terminal(cli, tmp_path, pictures):
    shutil.copy(pictures / "p00.png", tmp_path / "a\x1b[2Jb\n.png")
    (tmp_path / "c\x1b]0;x\x07.png").write_bytes(b"no picture")
    ran = cli("classify", tmp_path, "--label", "red", "--label", "blue")
    assert ran.code == 1
    assert "\x1b" not in ran.out + ran.err
    assert r"a\u001b[2Jb\n.png" in ran.out
    assert len(ran.out.splitlines()) == 1
    assert "]0;x" in ran.err
    ran = cli("info", tmp_path / "no\x1b[31m\n")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "[31m" in ran.err
