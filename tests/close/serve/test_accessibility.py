"""axe-core finds nothing serious on any page that people look at: the served one, the reports, the site."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from asking import serving
from browser import Tab

from close.evaluation.page import captions_page, index_page
from close.evaluation.side_by_side import side_by_side
from close.gap.measured_tables import measure_tables
from close.gap.report.page import render_html
from close.mini import export
from close.runs.evaluate import evaluate
from close.serve.limits import Limits

ROOT = Path(__file__).parents[3]
SERIOUS = """axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations
    .filter((one) => ['serious', 'critical'].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.length} times, first ${one.nodes[0].html.slice(0, 200)}`))"""


def findings(tab: Tab, url: str, width: int, scheme: str) -> list[str]:
    """What axe finds serious of a page, at a width and in a scheme of colours."""
    pytest.importorskip("axe_core_python")
    tab.looks(width, 900, scheme)
    tab("Page.navigate", url=url)
    tab.sees(f"document.readyState === 'complete' && location.href.startsWith({url!r})")
    tab.js(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8") + "; true")
    return [f"{url}, {width}, {scheme}: {one}" for one in tab.js(SERIOUS)]


def looks(tab: Tab, url: str) -> list[str]:
    """The same, on a screen by day and on a telephone by night."""
    return [*findings(tab, url, 1280, "light"), *findings(tab, url, 390, "dark")]


def test_the_served_page(browser, mini_run):
    with serving([mini_run], Limits()) as (server, *_):
        assert looks(browser, server.url) == []


def test_reports(browser, mini_run, tmp_path):
    export(tmp_path / "test", "test", 3)
    evaluate(mini_run, tmp_path / "test" / "eval.jsonl", tokenizer="python")
    report = mini_run / "evaluations" / "eval-image" / "report.html"
    index = tmp_path / "index.html"
    index.write_text(index_page(side_by_side({"one": mini_run}, tokenizer="python")), encoding="utf-8")
    captions = tmp_path / "captions.html"
    rows = [{"item": f"{i}.png", "text": "a ring" * (i % 3), "score": -i / 9, "error": None} for i in range(12)]
    captions.write_text(captions_page([((), row) for row in rows], "A run", "12 images"), encoding="utf-8")
    rng = np.random.default_rng(0)
    tables = []
    for name, shift in (("text", 0.3), ("image", -0.3)):
        tables.append(tmp_path / f"{name}.npy")
        np.save(tables[-1], rng.normal(size=(120, 16)) + shift)
    gap = tmp_path / "gap.html"
    measured = measure_tables([("as it is", *tables)], per_image=1, adapters={"shift": "mean_shift"}, bootstrap=20)
    gap.write_text(render_html(measured), encoding="utf-8")
    assert [one for page in (report, index, gap, captions) for one in looks(browser, Path(page).as_uri())] == []


def test_the_site(browser, tmp_path):
    """Every page, by day; the first one by night too."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    pages = sorted(
        page for page in tmp_path.glob("*.html") if page.name != "404.html"
    )  # that takes its looks from a server
    assert len(pages) > 20
    found = [one for page in pages for one in findings(browser, page.as_uri(), 1280, "light")]
    assert [*found, *findings(browser, (tmp_path / "index.html").as_uri(), 390, "dark")] == []
