"""The command line: exit codes, one line for whatever is wrong, and no key anywhere."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from dg_server import Do, Server, good
from dg_tools import command, environment, rows

from data_gen.cli import main


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["data-gen", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def line(tmp_path, examples):
    def of(url="http://127.0.0.1:9/v1", count=10, **options):
        named = {
            "out": tmp_path / "o.jsonl",
            "count": count,
            "model": "m",
            "examples": examples,
            "base-url": url,
            **options,
        }
        return [
            "captions",
            *(part for name, value in named.items() if value is not None for part in (f"--{name}", value)),
        ]

    return of


def test_a_run(cli, line, tmp_path):
    with Server(good) as server:
        code, out, _ = cli(*line(server.url), "--json")
    assert code == 0
    assert json.loads(out)["accepted"] == 10 == len(rows(tmp_path / "o.jsonl"))


def test_budget_is_exit_code_3(cli, line):
    with Server(good) as server:
        code, _, stderr = cli(*line(server.url, count=1000), "--max-tokens", "3000")
    assert code == 3
    assert "the same command with a larger one continues" in stderr


def test_dry_run_needs_no_key_and_no_server(cli, line):
    code, out, _ = cli(*line(None), "--dry-run")
    assert code == 0
    assert "prompt 2" in out
    code, out, _ = cli(*line(None), "--dry-run", "--json")
    assert code == 0
    assert len(json.loads(out)["prompts"]) == 3
    assert json.loads(out)["requests"] == 10


def test_help_shows_every_choice(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = cli("captions", "--help")
    assert code == 0
    for choices in (
        "chat|completions",
        "uniform|unigram",
        "ego-centric, entailment",
        "de, en, es, fr",
        "cosine=FILE:0.3",
    ):
        assert choices in out


def test_the_version_and_what_can_be_chosen_are_shown_without_a_verb(cli, monkeypatch):
    assert cli("--version") == (0, f"data-gen {version('close-toolkit')}\n", "")
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = cli("--help")
    assert code == 0
    assert "Styles: character-based, detailed," in out
    assert "Languages: de, en, es, fr." in out


@pytest.mark.parametrize("wrong", [{"endpoint": "tea"}, {"sampling": "best"}, {"count": "ten"}, {"timeout": "soon"}])
def test_a_value_of_the_wrong_kind_is_wrong_usage(cli, line, wrong):
    code, _, stderr = cli(*line(**wrong))
    assert code == 2
    assert f"--{next(iter(wrong))}" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("arguments", [["nothing"], ["captions", "--cuont", "3"], ["captions"], ["merge"], []])
def test_wrong_usage_is_exit_code_2(cli, arguments):
    assert cli(*arguments)[0] == 2


def one_line(result, text, code=1):
    got, _, stderr = result
    assert got == code
    assert text in stderr
    assert stderr.count("\n") == 1
    assert "Traceback" not in stderr


def test_what_is_wrong_before_anything_is_asked(cli, line, tmp_path):
    empty, silent, broken = tmp_path / "empty.txt", tmp_path / "silent.txt", tmp_path / "broken.toml"
    empty.write_text("")
    silent.write_text("... !!\n")
    broken.write_text("instruction = [")
    for options, text in [
        ({"url": None}, "no key: set OPENAI_API_KEY"),
        ({"url": "127.0.0.1:8000"}, "is no URL"),
        ({"style": broken}, "is not TOML"),
        ({"style": "nice"}, "no style 'nice'"),
        ({"language": "xx"}, "no language 'xx'"),
        ({"examples": empty}, "holds no text with words"),
        ({"examples": tmp_path / "none.txt"}, "No such file"),
        ({"corpus": silent, "sampling": "unigram"}, "holds no text with words"),
        ({"corpus": tmp_path / "examples.txt", "sampling": "unigram"}, "lower --min-count"),
        ({"out": tmp_path / "no" / "o.jsonl"}, "no folder"),
        ({"filter": "colour"}, "no filter 'colour'"),
    ]:
        one_line(cli(*line(**options)), text)
    assert not (tmp_path / "o.jsonl").exists()
    one_line(cli("report", empty, "--target", silent), "holds no text with words")
    one_line(cli("merge", empty.with_name("none"), "--out", tmp_path / "m.jsonl"), "No such file")
    one_line(cli("serve-mini", "--port", "99999"), "--port must be")


def test_names_reach_the_terminal_with_escapes(cli, line, tmp_path):
    odd = tmp_path / "a\x1b[31m\nb\x9b\u202e.jsonl"
    one_line(cli(*line(examples=odd)), "a\\u001b[31m\\nb\\u009b\\u202e.jsonl: No such file")
    with Server(good) as server:
        code, out, _ = cli(*line(server.url, out=odd))
        assert (code, out.count("\n")) == (0, 1)
        assert "a\\u001b[31m\\nb\\u009b\\u202e.jsonl: 10 accepted" in out
        cli(*line(server.url, out=tmp_path / "o.jsonl"))
    code, out, _ = cli("merge", odd, "--out", tmp_path / "m\x9b\x1b.jsonl", "--json")
    assert code == 0
    assert json.loads(out)["out"] == str(tmp_path / "m\x9b\x1b.jsonl")
    assert out.strip().isprintable()
    broken = tmp_path / "broken.toml"
    broken.write_text('names = ["\\u001b[31m"]\nshots = ["\\u001b[31m", 3]\n')
    one_line(cli(*line(style=broken)), "every shot is a table")


def test_a_name_that_is_no_utf8_and_a_terminal_that_is_none(line, tmp_path):
    out = os.fsencode(tmp_path) + b"/\xff\xfe.jsonl"
    arguments = [os.fsencode(part) for part in command(*line(None, count=3), "--dry-run")]
    arguments[arguments.index(b"--out") + 1] = out
    env = environment({"PYTHONIOENCODING": "ascii"})
    done = subprocess.run(arguments, env=env, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with Server(good) as server:
        run = [part if part != b"--dry-run" else b"--base-url" for part in arguments] + [server.url.encode()]
        done = subprocess.run(run, env=env, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert b"\\udcff\\udcfe.jsonl: 3 accepted" in done.stdout


def test_pipes_and_devices_are_refused_and_not_waited_for(cli, line, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", "/dev/zero"):
        one_line(cli(*line(examples=path)), "no file, but a pipe or a device")
        one_line(cli("merge", path, "--out", tmp_path / "m.jsonl"), "no file, but a pipe or a device")
    one_line(cli(*line(out=tmp_path / "pipe.jsonl")), "no file, but a pipe or a device")


def test_what_the_server_says(cli, line, tmp_path):
    one_line(cli(*line()), "is it running?")
    assert not list(tmp_path.glob("*.jsonl*"))
    for status, text in ((404, "does not know the model 'm'"), (401, "refuses the key")):
        with Server(lambda body, before, status=status: Do(status=status)) as server:
            one_line(cli(*line(server.url)), text)


def test_the_output_of_another_run(cli, line):
    with Server(good) as server:
        cli(*line(server.url))
        one_line(cli(*line(server.url, seed=1)), "is the output of another run (seed: 0 there, 1 now)")


def test_a_full_disk_loses_nothing(line, tmp_path):
    """The limit on file size is the disk's end; the rest of the write fails like on a full disk."""
    with Server(good) as server:
        arguments = command(*line(server.url, count=200))
        limit = 24 * 1024

        full = ["bash", "-c", f"trap '' XFSZ; ulimit -f {limit // 1024}; exec \"$@\"", "bash", *arguments]
        done = subprocess.run(full, env=environment(), capture_output=True, text=True, timeout=300)
        one_line((done.returncode, "", done.stderr), "the same command continues")
        assert "File too large" in done.stderr
        assert subprocess.run(arguments, env=environment(), capture_output=True).returncode == 0
        assert len(server.requests) <= 200 + 48  # what was on its way, twice 16, and no answer that was written
    with Server(good) as server:
        other = command(*line(server.url, count=200, out=tmp_path / "whole.jsonl"))
        assert subprocess.run(other, env=environment(), capture_output=True).returncode == 0
    texts = [[row["target"] for row in rows(tmp_path / name)] for name in ("o.jsonl", "whole.jsonl")]
    assert texts[0] == texts[1]


def test_a_disk_that_is_full_from_the_start_is_one_line(line):
    full = ["bash", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash", *command(*line())]
    done = subprocess.run(full, env=environment(), capture_output=True, text=True, timeout=300)
    one_line((done.returncode, "", done.stderr), "File too large; the same command continues")


def test_the_key_appears_nowhere(line, tmp_path):
    def decide(body, before):
        return [
            Do(status=500, raw=b'{"error": {"message": "key sk-very-secret failed"}}'),
            Do(raw=b"<html>authorization: Bearer sk-very-secret</html>"),
            Do("A dog with sk-very-secret in its mouth."),
            good(body, before),
        ][body["seed"] % 4]

    with Server(decide) as server:
        secret = {"OPENAI_API_KEY": "sk-very-secret", "OPENAI_LOG": "debug"}
        done = subprocess.run(
            command(*line(server.url, retries=0), "--patience", "30"),
            env=environment(secret),
            capture_output=True,
            text=True,
        )
        assert server.requests[0][1]["authorization"] == "Bearer sk-very-secret"
    everything = done.stdout + done.stderr + "".join(p.read_text() for p in tmp_path.iterdir())
    assert "key *** failed" in everything
    assert "Bearer ***</html>" in everything
    assert "A dog with *** in its mouth." in everything
    assert "sk-very-secret" not in everything


def test_report_and_merge(cli, line, tmp_path):
    with Server(good) as server:
        cli(*line(server.url))
    code, out, _ = cli("merge", tmp_path / "o.jsonl", tmp_path / "o.jsonl", "--out", tmp_path / "m.jsonl")
    assert code == 0
    assert "10 rows, 10 left out (duplicates, and what is accepted only with them)" in out
    assert rows(tmp_path / "m.jsonl") == rows(tmp_path / "o.jsonl")
    code, out, _ = cli("merge", tmp_path / "o.jsonl", tmp_path / "m.jsonl", "--out", tmp_path / "n.jsonl", "--json")
    assert (code, json.loads(out)) == (0, {"out": str(tmp_path / "n.jsonl"), "rows": 10, "duplicates": 10})
    code, out, _ = cli("report", tmp_path / "m.jsonl", "--target", tmp_path / "examples.txt")
    assert code == 0
    assert out.strip().endswith("m.jsonl.report.html")
    code, out, _ = cli("report", tmp_path / "m.jsonl", "--target", tmp_path / "examples.txt", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "m.jsonl.report.json").read_text())
    target = ["--target", tmp_path / "examples.txt"]
    one_line(cli("report", tmp_path / "m.jsonl", *target, "--out", tmp_path / "r.json"), "expected an HTML file")
    one_line(cli("report", tmp_path / "m.jsonl", *target, "--out", tmp_path / "no" / "r.html"), "can't write")
