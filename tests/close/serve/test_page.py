"""The page as people use it, in Chromium: they drop a picture, read the caption, ask, and break it."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest
from asking import serving
from browser import Tab
from PIL import Image

from close.mini import WORLDS, export
from close.runs.recipe import Recipe
from close.serve.limits import Limits
from close.training.train import train

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("fastapi"), reason="the serve extra is not installed")


@pytest.fixture(scope="module")
def server(mini_run, pair):
    with serving([mini_run, pair[0]], Limits()) as found:
        yield found


@pytest.fixture
def page(browser: Tab, server) -> Tab:
    """The page, just opened; nothing may have gone wrong in it when its test ends."""
    browser.looks(1280, 900)
    browser.open(server[0].url)
    browser.told.clear()
    yield browser
    assert browser.told == []


@pytest.fixture
def shots(tmp_path) -> Path:
    """Where pictures of the page are left: CLOSE_SHOTS, for who wants to look at them."""
    folder = Path(os.environ.get("CLOSE_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "a photo.png"
    Image.new("RGB", (320, 200), (180, 40, 40)).save(path)
    return path


def test_a_dropped_picture_is_captioned(page, server, photo, shots):
    page.drop([photo])
    page.sees("document.querySelectorAll('.said').length === 1")
    wanted = server[0]("/v1/caption", {"n": 3, "task": "caption"}, files=[(photo.name, photo.read_bytes())]).json
    output = wanted["outputs"][0]
    assert page.text(".said") == (output["text"] or "(nothing)")
    assert page.text(".bars .line span:first-child").split("\n") == [
        one["text"] or "(nothing)" for one in output["candidates"]
    ]
    assert "a photo.png" in page.text("figcaption")
    assert page.js("document.querySelector('#status').textContent").startswith("a photo.png: ")
    assert page.js("document.querySelector('.shown img').naturalWidth") == 320
    with Image.open(page.shot(shots / "dropped.png")) as shot:
        assert shot.size[0] == 1280
        assert len(shot.convert("RGB").getcolors(1 << 24)) > 50


def test_a_hypothesis_is_judged_by_keyboard_alone(page):
    page.js("document.querySelector('#thumbs button').focus()")
    page.enter()
    page.sees("document.querySelector('.said')")
    page.js("document.querySelector('#segments input:checked').focus()")
    page.press("ArrowRight", 39)
    page.sees("!document.querySelector('#context-field').hidden")
    assert page.text("#context-label") == "Hypothesis"
    page.tab()
    assert page.js("document.activeElement.id") == "context"
    assert page.js("document.querySelectorAll('#ideas option').length") > 0
    page.type("there is a star")
    page.enter()
    page.sees("document.querySelectorAll('.bars li').length === 3")
    shares = [float(one) for one in re.findall(r"([\d.]+) %", page.text(".bars .number"))]
    assert sum(shares) == pytest.approx(100, abs=2)
    assert page.text(".said") in ("entailment", "neutral", "contradiction")


def test_without_a_hypothesis_the_page_asks_for_one(page, photo):
    page.js("document.querySelector('#segments input[value=entailment]').click()")
    page.drop([photo])
    page.sees("document.querySelector('.waiting')")
    assert "hypothesis" in page.text(".waiting")
    assert page.js("document.activeElement.id") == "context"


def test_two_runs_side_by_side_and_text_in_place_of_a_picture(page):
    page.js("(() => { const two = document.querySelector('#beside'); two.value = two.options[2].value; })()")
    page.click("#text")
    page.type("a large red star")
    page.enter()
    page.sees("document.querySelectorAll('.said').length === 2")
    assert page.text(".answer .by").split("\n") == ["mine", "one"]
    assert "a large red star" in page.text("blockquote")
    page.click("#clear")
    page.sees("!document.querySelector('.item') && !document.querySelector('#empty').hidden")


def test_what_is_no_picture_is_told_and_the_next_is_captioned(page, tmp_path, photo):
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(b"no picture")
    page.drop([broken, photo])
    page.sees("document.querySelector('.error') && document.querySelector('.said')")
    assert "<b>broken.png can't be read" in page.text(".error")
    assert "no preview" in page.text(".absent")


def test_a_recording_is_played_on_the_page(page, tmp_path):
    """Under the page's own policy; what a run makes of it is its encoder's business, and this one's takes pictures."""
    (tmp_path / "rain.wav").write_bytes(WORLDS["sound"].file(next(WORLDS["sound"].scenes("test", 1))))
    page.drop([tmp_path / "rain.wav"])
    page.sees("document.querySelector('.shown audio') && document.querySelector('.shown audio').duration > 3")
    page.sees("document.querySelector('.error')")
    assert "Sound" in page.text("figcaption")
    assert "rain.wav can't be read" in page.text(".error")


def test_a_run_of_sounds_is_tried_on_samples(browser, tmp_path):
    export(tmp_path / "data", "train", 6, world="sound")
    training = {"epochs": 1, "batch_size": 16, "save_strategy": "no"}
    values = {"data": {"train": str(tmp_path / "data" / "captions.jsonl")}, "training": training}
    recipe = Recipe.model_validate(values | {"encoder": "mini-sound", "language_model": "mini-sound"})
    with serving([train(recipe, tmp_path / "sounds")], Limits()) as (server, *_):
        browser.looks(1280, 900)
        browser.open(server.url)
        browser.told.clear()
        assert browser.text("h1") == "Trained on text, shown a recording"
        assert "Drop recordings" in browser.text("#drop")
        browser.click("#thumbs button")
        browser.sees("document.querySelector('.said') && document.querySelector('.shown audio').duration > 3")
        assert browser.told == []


def test_a_server_that_is_busy_is_asked_again(page, server, photo):
    desk = server[1]
    desk.batches.pace = 0.0  # it may come again in a second
    with desk.batches.places(desk.limits.queue):
        page.drop([photo])
        page.sees("document.querySelector('.waiting')?.textContent.startsWith('Busy')")
    page.sees("document.querySelector('.said')")


def test_a_phone(page, photo, shots):
    for scheme in ("light", "dark"):
        page.looks(390, 844, scheme)
        page.drop([photo], x=100)
        page.sees("document.querySelector('.said')")
        assert page.js("document.documentElement.scrollWidth") == 390
        small = (
            "[...document.querySelectorAll('button, select, input:not([type=radio], [type=file])')].filter((one) => "
        )
        assert page.js(small + "one.offsetHeight && one.offsetHeight < 24).map((one) => one.outerHTML)") == []
        page.shot(shots / f"phone-{scheme}.png")
    light, dark = (
        Image.open(shots / f"phone-{scheme}.png").convert("L").getpixel((2, 2)) for scheme in ("light", "dark")
    )
    assert light > 200 > 60 > dark


def test_a_key_is_asked_for(browser, mini_run, photo):
    with serving([mini_run], Limits(), key="s3cret") as (ask, _):
        browser.looks(1280, 900)
        browser("Page.navigate", url=ask.url)
        browser.sees("document.querySelector('#key')?.open")
        browser.type("s3cret")
        browser.enter()
        browser.sees("document.querySelector('#run option')")
        browser.drop([photo])
        browser.sees("document.querySelector('.said')")
    browser.drop([photo])  # it has stopped
    browser.sees("document.querySelector('.error')")
    assert "can't be reached" in browser.text(".error")


@pytest.mark.skipif("CLOSE_AXE" not in os.environ, reason="CLOSE_AXE names no axe.min.js (npm install axe-core)")
def test_axe_finds_nothing_serious(page, photo):
    page.drop([photo])
    page.sees("document.querySelector('.said')")
    page("Runtime.evaluate", expression=Path(os.environ["CLOSE_AXE"]).read_text(encoding="utf-8"))
    for scheme in ("light", "dark"):
        page.looks(1280, 900, scheme)
        found = page.js("axe.run().then((all) => all.violations.map((one) => [one.impact, one.id]))")
        assert not [one for one in found if one[0] in ("serious", "critical")], found


def test_two_pictures_are_one_item_of_a_task_that_takes_two(browser, tmp_path, photo, shots):
    export(tmp_path / "data", "train", 6)
    training = {"epochs": 1, "batch_size": 16, "save_strategy": "no"}
    values = {"data": {"train": str(tmp_path / "data" / "pairs.jsonl")}, "task": "nlvr2", "training": training}
    with serving([train(Recipe.model_validate(values), tmp_path / "pairs")], Limits()) as (server, *_):
        browser.looks(1280, 900)
        browser.open(server.url)
        browser.told.clear()
        assert browser.text("#context-label") == "Statement"
        browser.drop([photo])
        browser.sees("document.querySelector('#begun').textContent")
        assert browser.text("#begun") == "a photo.png: 1 more, nlvr2 takes 2 at once"
        browser.click("#thumbs button")
        browser.sees("document.querySelectorAll('.item img').length === 2")
        assert browser.text("#begun") == ""
        browser.click("#context")
        browser.type("there is a red star in both")
        browser.enter()
        browser.sees("document.querySelectorAll('.bars li').length === 2")
        assert browser.text(".said") in ("true", "false")
        assert browser.text("figcaption") == "Picture a photo.png · sample 1"
        browser.shot(shots / "two.png")
        browser.js("document.querySelector('#text').value = 'a red star\\n\\na blue box'")
        browser.click("#feed")
        browser.sees(
            "document.querySelectorAll('.item').length === 2 && document.querySelectorAll('.said').length === 2"
        )
        assert browser.js("document.querySelectorAll('blockquote').length") == 2
        assert browser.told == []
