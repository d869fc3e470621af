"""`close caption --html`: a page to look at."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import pytest
from PIL import Image

from close.evaluation.page import captions_page


@pytest.fixture
def photos(pictures, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    (folder / "torn.jpg").write_bytes(b"no picture")
    return folder


def cards(page: str) -> list[str]:
    return re.findall(r'<article class="card example(.*?)</article>', page, re.DOTALL)


def test_a_page_of_pictures_and_what_is_said_of_them(cli, run, photos, tmp_path):
    page, lines = tmp_path / "said.html", tmp_path / "said.jsonl"
    ran = cli("caption", run, photos, "--n", 2, "--html", page, "--out", lines)
    assert ran.code == 1  # of the torn one
    assert f"{page}: 13 images" in ran.err
    shown = cards(page.read_text())
    assert len(shown) == 13
    for number, card in enumerate(shown[:12]):
        assert f"p{number:02}.png" in card
        data = re.search(r"base64,([^\"]+)", card)[1]
        assert Image.open(io.BytesIO(base64.b64decode(data))).format == "JPEG"
    assert "it could not be read" in shown[12]
    assert str(tmp_path) not in page.read_text()  # pages are sent round
    # without a file of lines, and on standard output as ever, which holds nothing else
    alone = cli("caption", run, photos / "p00.png", "--json", "--html", tmp_path / "one.html")
    assert alone.code == 0
    assert [json.loads(line)["item"] for line in alone.out.splitlines()] == [str(photos / "p00.png")]
    assert len(cards((tmp_path / "one.html").read_text())) == 1


def test_a_slip_in_a_path_leaves_the_page_that_is_there(cli, run, tmp_path):
    page = tmp_path / "said.html"
    ran = cli("caption", run, tmp_path / "nowhere", "--html", page)
    assert (ran.code, page.exists()) == (1, False)
    assert f"{page}: not written, as no item could be read" in ran.err
    page.write_text("of before")
    ran = cli("caption", run, tmp_path / "nowhere", "--html", page)
    assert (ran.code, page.read_text()) == (1, "of before")
    assert f"{page}: left as it is, as no item could be read" in ran.err


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("photos/p00.png", "photos/p00.png is read here, and would be replaced; give another output"),
        ("photos", "photos is read here, and would be replaced; give another output"),
        ("other", "other is a folder; expected a file to write"),
        ("said.jsonl", "said.jsonl is given for two outputs; give each a file of its own"),
    ],
)
def test_a_page_takes_no_others_place(told, run, photos, tmp_path, monkeypatch, page, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    before = (photos / "p00.png").read_bytes()
    for more in ((), ("--tiles", "2x2")):
        assert told("caption", run, "photos", *more, "--out", "said.jsonl", "--html", page) == f"error: {said}"
    assert (photos / "p00.png").read_bytes() == before
    assert not (tmp_path / "said.jsonl").exists()


def test_a_stopped_job_has_all_on_its_page(cli, run, photos, tmp_path, monkeypatch):
    from close.runs.pipeline import CloseCaptioner

    (photos / "torn.jpg").unlink()
    whole, page, lines = tmp_path / "whole.html", tmp_path / "said.html", tmp_path / "said.jsonl"
    assert cli("caption", run, photos, "--batch-size", 5, "--html", whole).code == 0
    answer, calls = CloseCaptioner.answer, []

    def stopped(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(self, *args, **kwargs)

    command = ("caption", run, photos, "--batch-size", 5, "--html", page, "--out", lines)
    with monkeypatch.context() as patch:
        patch.setattr(CloseCaptioner, "answer", stopped)
        assert cli(*command).code == 130
    assert not page.exists()
    assert cli(*command).code == 0
    assert page.read_text() == whole.read_text()


def test_a_page_is_of_pictures(refused, run, tmp_path):
    assert "--html" in refused("caption", run, "--vectors", tmp_path / "x.npy", "--html", tmp_path / "x.html")


def test_the_least_sure_are_marked_and_all_is_escaped():
    rows = [{"item": f"a/{i}.png", "text": f"<b>{i}</b>", "score": -i / 10, "error": None} for i in range(20)]
    rows += [{"item": "a/x.png", "text": " ", "score": -9.0, "error": None}]
    rows += [{"item": "a/y.png", "text": "", "score": -9.0, "error": None, "left_out": True, "confidence": 0.1}]
    page = captions_page([((), row) for row in rows], "A run", "22 images")
    assert "<b>" not in page
    assert "the least sure (2)" in page
    assert "those without a text (2)" in page
    marked = [card for card in cards(page) if card.startswith(" is-poor")]
    assert [re.search(r"<span>(\d+)\.png", card)[1] for card in marked] == ["18", "19"]
    assert "said nothing" in page
    assert "less sure than was asked for" in page
