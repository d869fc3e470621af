"""Names and captions of others on the terminal: nothing of them is obeyed."""

import json
import shutil

import pytest

from close.io.terminal import escaped, field

HOSTILE = "a\x1b[31mred\x07\u202egnp\u2028\x9b2J\ud83d.png"


def test_what_a_terminal_obeys_is_written_out():
    assert escaped(HOSTILE) == r"a\u001b[31mred\u0007\u202egnp\u2028\u009b2J\ud83d.png"
    assert field("two\tcells\nand lines\r") == r"two\tcells\nand lines\u000d"


@pytest.mark.parametrize("text", ["plain", "नमस्ते", "👩‍👩‍👧", "עברית\u200e", "tab\tand\nline"])
def test_what_people_write_stays(text):
    assert escaped(text) == text


def test_in_json_it_means_the_same():
    assert json.loads(escaped(json.dumps(HOSTILE, ensure_ascii=False))) == HOSTILE


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
