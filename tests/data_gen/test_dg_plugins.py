"""Verbs and filters of one's own, from a file that is no part of the package, used from the command line."""

import json
import os
import textwrap

import pytest
from dg_server import Do, Server, digest, prompt_of
from dg_tools import EXAMPLES, rows

from data_gen import filters as data_gen_filters
from data_gen import verbs as data_gen_verbs
from data_gen.errors import InputError
from data_gen.plugins import load_plugins
from data_gen.verbs import VERBS

OWN = '''
from dataclasses import dataclass
from typing import Annotated

from data_gen.filters import FILTERS, Filter
from data_gen.verbs import VERBS, TextOptions, Verb, text_of


@dataclass(kw_only=True)
class TitleOptions(TextOptions):
    longest: Annotated[int, "words in a title"] = 3


@VERBS.register("titles")
class Titles(Verb):
    """Write a title for each caption of a file.

    More of it.
    """

    options_class = TitleOptions
    fields = ("title",)

    @property
    def instruction(self):
        return f"Write a title of at most {self.options.longest} words."

    def rows(self, given, records):
        return [[{"task": "caption", "source": given, "target": r["title"]}] for r in records]

    def record(self, row):
        return {"title": text_of(row, "target")}


@FILTERS.register("shouting")
class Shouting(Filter):
    def rejects(self, candidate):
        return candidate.text.isupper()
'''


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def title(body, before):
    text = f"Title {digest(body)}"
    return Do(text.upper() if digest(body) % 3 == 0 else text)


@pytest.mark.parametrize("first", [True, False])
def test_an_own_verb_and_filter_run_from_the_command_line(data_gen, own, examples, tmp_path, first):
    plugin = ["--plugin", own] if first else [f"--plugin={own}"]
    line = ["titles", "--out", tmp_path / "o.jsonl", "--count", 20, "--model", "m", "--input", examples]
    line += ["--filter", "shouting", "--longest", 2, "--json"]
    with Server(title) as server:
        line += ["--base-url", server.url]
        code, out, stderr = data_gen(*plugin, *line) if first else data_gen(*line, *plugin)
        asked = prompt_of(json.loads(server.requests[0][2]))
    assert code == 0, stderr
    assert asked.startswith("Write a title of at most 2 words.")
    found = rows(tmp_path / "o.jsonl")
    assert json.loads(out)["accepted"] == len(found) == 20
    assert json.loads(out)["rejected"]["shouting"] > 0
    assert all(row["source"] in EXAMPLES and row["target"].startswith("Title ") for row in found)
    assert all(row["id"].startswith("titles-") for row in found)


def test_the_examples_in_the_documentation_run(data_gen, examples, tmp_path):
    plugins = []
    for module in (data_gen_verbs, data_gen_filters):
        plugins += ["--plugin", tmp_path / f"{module.__name__}.py"]
        plugins[-1].write_text(textwrap.dedent(module.__doc__.partition("names:\n")[2]))
    line = ["titles", "--out", tmp_path / "o.jsonl", "--count", 12, "--model", "m", "--input", examples]
    with Server(title) as server:
        code, out, stderr = data_gen(*line, "--filter", "shouting", "--base-url", server.url, *plugins)
    assert code == 0, stderr
    assert "shouting" in out
    assert len(rows(tmp_path / "o.jsonl")) == 12


def test_help_shows_what_is_ones_own(data_gen, own):
    code, out, _ = data_gen("--help", "--plugin", own)
    assert code == 0
    assert "Write a title for each caption of a file." in out
    assert "More of it" not in out
    code, out, _ = data_gen("titles", "--help", "--plugin", own, env={"COLUMNS": "200"})
    assert code == 0
    assert all(part in out for part in ("--longest", "words in a title", "shouting", "--plugin"))


def test_what_an_installed_package_offers_is_there(data_gen, tmp_path):
    site = tmp_path / "site"
    about = site / "own_titles-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "own_titles.py").write_text(OWN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-titles\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[data_gen.plugins]\ntitles = own_titles\n")
    path = os.pathsep.join([str(site), os.path.dirname(os.path.dirname(os.path.dirname(__file__)))])
    code, out, stderr = data_gen("--help", env={"PYTHONPATH": path})
    assert code == 0, stderr
    assert "Write a title for each caption of a file." in out
    assert "titles" in data_gen("--help", "--plugin", "own_titles", env={"PYTHONPATH": path})[1]


@pytest.mark.parametrize("name", ["./gone.py", "no_such_module", "no_such.module"])
def test_a_plugin_that_is_not_there_is_one_line(data_gen, name):
    code, _, stderr = data_gen("--plugin", name, "--help")
    assert code == 1
    assert stderr.count("\n") == 1
    assert name.split(".")[-1].removesuffix("py") in stderr


def test_a_bug_of_a_plugin_keeps_its_traceback(data_gen, tmp_path):
    (tmp_path / "bad.py").write_text("import no_such_thing\n")
    code, _, stderr = data_gen("--plugin", tmp_path / "bad.py", "--help")
    assert code == 1
    assert "Traceback" in stderr
    assert "bad.py" in stderr


def test_without_the_plugin_its_verb_is_wrong_usage(data_gen):
    code, _, stderr = data_gen("titles")
    assert code == 2
    assert "titles" in stderr


def test_a_name_is_given_once_and_a_file_loaded_once(tmp_path):
    with pytest.raises(ValueError, match="'vqa' is registered already"):
        VERBS.register("vqa")(VERBS["captions"])
    (tmp_path / "once.py").write_text(f"open({str(tmp_path / 'count')!r}, 'a').write('x')\n")
    load_plugins([str(tmp_path / "once.py")] * 2)
    assert (tmp_path / "count").read_text() == "x"
    with pytest.raises(InputError, match="did you mean 'captions'"):
        VERBS["caption"]
