"""The site: built strictly, whole, and without a link or a request that leads nowhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs", reason="the docs extra is not installed")
pytest.importorskip("mkdocstrings_handlers.python", reason="the docs extra is not installed")

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


class Page(HTMLParser):
    """What a page loads, what it links to, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for key in ("id", "name") if (value := found.get(key))}
        place = found.get("src") or (found.get("href") if tag == "link" else None)
        if place:
            self.loads.append(place)
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "img":
            self.pictures.append(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Page, str]]:
    """Every page of the site, by its name."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    pages = {}
    for path in folder.glob("*.html"):
        text, page = path.read_text(encoding="utf-8"), Page()
        page.feed(text)
        pages[path.name] = page, text
    pages["."] = Page(), " ".join(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return pages


def test_nothing_is_loaded_from_elsewhere(site):
    for name, (page, text) in site.items():
        assert not [place for place in page.loads if urlsplit(place).scheme not in ("", "data")], name
        assert not [host for host in ("fonts.googleapis", "unpkg.com", "cdn.") if f"//{host}" in text], name
    assert "iframe-worker.js" in site["index.html"][1]


def test_no_link_leads_nowhere(site):
    there = set(site["."][1].split())
    wrong = []
    for name, (page, _) in site.items():
        if name in (".", "404.html"):  # that one is served at any address, so that its links begin at the root
            continue
        for link in page.links + page.loads:
            place = urlsplit(link)
            if place.scheme:
                continue
            target = unquote(place.path).removeprefix("./") or name
            anchors = site[target][0].ids if target in site else None
            if target not in there | {"."} or (
                place.fragment and anchors is not None and place.fragment not in anchors | {"__"}
            ):
                wrong.append(f"{name}: {link}")
    assert not wrong


def test_every_picture_has_words(site):
    for name, (page, _) in site.items():
        assert all(picture.get("alt") for picture in page.pictures), name


_NAMES = """
import json
from typer.main import get_command
from close.adapters import ADAPTERS
from close.cli import commands
from close.data.readers import READERS
from close.evaluation.metrics import METRICS
from close.gap import MEASURES
from close.model.prefixes import PREFIXES
from data_gen.verbs import VERBS
verbs = get_command(commands()).commands
measures = [m for m in MEASURES if not m.title.startswith("  spread")]
assert all(m.source and m.misleads for m in measures), "a measure tells its source and where it misleads"
print(json.dumps({
    "adapters.html": list(ADAPTERS),
    "readers.html": list(READERS),
    "metrics.html": [metric.name for metric in METRICS],
    "prefixes.html": list(PREFIXES),
    "commands.html": [*(f"close {verb}" for verb in verbs), *(f"data-gen {verb}" for verb in VERBS)],
    "measures.html": [m.name for m in measures],
}))
"""


def test_all_that_has_a_name_stands_on_its_page(site):
    """In a process of its own: tests register parts."""
    done = subprocess.run([sys.executable, "-c", _NAMES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name, parts in json.loads(done.stdout).items():
        assert parts
        assert not [part for part in parts if part not in site[name][1]], name


def test_every_key_of_a_recipe_is_explained(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import made

    keys = made.recipe_keys()
    assert {"task", "data.train", "lora.r", "training.epochs"} <= {key for key, *_ in keys}
    assert not [key for key, _, _, meaning in keys if not meaning]
    kinds = {key: kind for key, kind, *_ in keys}
    assert not [kind for kind in kinds.values() if re.search("[A-Z(=]", kind)], "Python's own names of types"
    assert (kinds["retrieve.among"], kinds["retrieve.leave_out"]) == ("int", "texts, groups")


def test_a_page_names_the_records_of_its_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import made

    page = "<!-- record: experiments/a/b.json#x/y experiments/c.json experiments/a/b.json#z -->\n\nCIDEr 1.0"
    assert made.filled(page) == "<small>Recorded in `experiments/a/b.json`, `experiments/c.json`.</small>\n\nCIDEr 1.0"


def test_what_is_made_has_a_word_for_who_reads_the_file(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import made

    for page in DOCS.glob("*.md"):
        marks = re.findall(r"<!-- made: (\w+) -->(\n.*)?", page.read_text(encoding="utf-8"))
        assert all(name in made.MADE and word.startswith("\n*On the site (`make site`) ") for name, word in marks), page
    monkeypatch.setitem(made.MADE, "tasks", lambda: "| a table |")
    page = "All:\n\n<!-- made: tasks -->\n*On the site (`make site`) they stand here.*\n\n*Bold* words."
    assert made.filled(page) == "All:\n\n| a table |\n\n*Bold* words."


def test_arguments_side_by_side_come_one_to_a_line(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    from one_a_line import one_a_line

    doc = "What.\n\nArgs:\n    a: first (see b: c). b, c: two\n        lines.\n    d: a.b: no name.\nReturns:\n    a: that."
    assert one_a_line(doc, ["a", "b", "c", "d"]) == (
        "What.\n\nArgs:\n    a: first (see b: c).\n    b: two lines.\n    c: two lines.\n    d: a.b: no name.\n"
        "Returns:\n    a: that."
    )


def test_every_page_is_found_in_the_navigation():
    told = set(re.findall(r"(\w+)\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {path.stem for path in DOCS.glob("*.md")} == told
