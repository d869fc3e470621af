"""The embedded language model, as users start it: `data-gen serve-mini` in a process of its own, over real HTTP."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from dg_tools import command, environment, rows
from mini_server import served

import data_gen
from data_gen.mini.serve import MODEL
from data_gen.text.words import words

needs_server = pytest.mark.skipif(not importlib.util.find_spec("fastapi"), reason="the serve extra is not installed")
FOLDER = Path(data_gen.__file__).parent / "mini" / MODEL
SHOTS = ["a small red star on the left", "we see a ring and a large blue moon", "a green heart with a tiny black box"]


def free_port():
    """A port that no connection is given meanwhile: those are above 32,767."""
    for port in range(20_000 + os.getpid() % 10_000, 32_768):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


@needs_server
def test_plain_prompts_give_new_captions_with_the_keywords_asked(data_gen, tmp_path):
    (tmp_path / "shots.txt").write_text("\n".join(SHOTS))
    (tmp_path / "keywords.txt").write_text("star\nring\nmoon\nheart\nsnow\ndiamond\n")
    files = ["--examples", tmp_path / "shots.txt", "--keywords", tmp_path / "keywords.txt"]
    port = free_port()
    with served(command("serve-mini", "--port", port), port, tmp_path / "server.log", environment()) as url:
        for endpoint in ("chat", "completions"):
            out = tmp_path / f"{endpoint}.jsonl"
            asked = ["--out", out, "--count", 30, "--model", MODEL, "--base-url", url, "--endpoint", endpoint]
            code, _, message = data_gen("captions", *asked, *files)
            assert code == 0, message
            found = rows(out)
            assert len({row["target"] for row in found}) == 30
            used = [word in words(row["target"]) for row in found for word in row["meta"]["keywords"]]
            assert sum(used) >= 0.7 * len(used)
            assert not {row["target"] for row in found} & set(SHOTS)
        assert f"listens at {url}" in (tmp_path / "server.log").read_text()
        with urllib.request.urlopen(f"{url}/models", timeout=60) as answer:
            assert [model["id"] for model in json.load(answer)["data"]] == [MODEL]
        missing = ["--out", tmp_path / "no.jsonl", "--count", 1, "--model", "nothing", "--base-url", url]
        code, _, message = data_gen("captions", *missing, *files)
        assert code == 1
        assert message.count("\n") == 1


def test_the_model_is_small_and_in_the_wheel():
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size < 4e6
    suffixes = {path.suffix for path in FOLDER.iterdir()}
    packed = re.findall(r'"\*\*/\*(\.\w+)"', (FOLDER.parents[2] / "pyproject.toml").read_text().split("data_gen = ")[1])
    assert suffixes <= set(packed)


def test_a_port_in_use_is_told(data_gen):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, message = data_gen("serve-mini", "--port", taken.getsockname()[1])
    assert code == 1
    assert message.count("\n") == 1
    assert "in use" in message


def test_without_its_extra_one_line_says_what_to_install():
    hide = "import sys; sys.modules['fastapi'] = None; from data_gen.cli import main; sys.argv[1:] = ['serve-mini']; main()"
    done = subprocess.run([sys.executable, "-c", hide], env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: serve-mini needs fastapi: pip install 'close-toolkit[serve]'\n"
