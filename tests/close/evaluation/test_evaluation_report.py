"""The HTML page: everything in it, everything escaped, nothing outside of it."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import close
from close.data.rows import Row
from close.errors import DataError
from close.evaluation.examples import about
from close.evaluation.page import evaluation_page
from close.evaluation.scores import score

EVIL = "</style><script>alert(1)</script><img src=x onerror='x'>\"'&"


class Page(HTMLParser):
    """Elements, attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def result(tmp_path: Path, **more: Any) -> dict[str, Any]:
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "a.png")
    example = {"id": EVIL, "context": EVIL, "prediction": EVIL, "references": [EVIL, "b", "b"], "score": 12.5}
    return {
        "run": EVIL,
        "data": EVIL,
        "rows": 1234,
        "task": "caption",
        "modality": "image",
        "generation": {"num_beams": 5},
        "versions": {EVIL: EVIL},
        "scores": {"cider": 95.44, "bleu_4": None, "ci": {"cider": [90.1, 101.26]}, "tokenizer": "python", "missing": 3,
                   "notes": {"meteor": EVIL}, "per_domain": {EVIL: {"n": 5, "cider": 1.0}}},
        "examples": {
            "measure": "cider",
            "best": [example | {"image": str(tmp_path / "a.png")}],
            "worst": [example | {"image": str(tmp_path / "gone.png")}],
            "random": [example | {"image": None, "prediction": " ", "source": EVIL}],
        },
    } | more  # fmt: skip


def test_everything_is_there_and_escaped(tmp_path: Path) -> None:
    html = evaluation_page(result(tmp_path))
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count(EVIL) >= 12
    for said in (
        "95.4",
        "90.1 to 101.3",
        "python Penn Treebank",
        "3 references have no prediction",
        "× 2",
        "said nothing",
    ):
        assert said in page.text, said
    assert "gone.png: not found" in page.text
    assert "num_beams" in page.text.replace("generation.", "")


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    html = evaluation_page(result(tmp_path))
    for _, attributes in Page(html).elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "@import" not in html
    assert "url(" not in html


def test_pictures_are_small_copies(tmp_path: Path) -> None:
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', evaluation_page(result(tmp_path)))
    assert len(pictures) == 1
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as image:
        assert image.size == (320, 160)
        assert image.getpixel((5, 5)) == pytest.approx((254, 0, 0), abs=4)


@pytest.mark.parametrize(("count", "size"), [(2, (432, 213)), (3, (432, 432)), (12, (492, 492))])
def test_all_pictures_of_an_example_are_shown(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    for n in range(count):
        Image.new("RGB", (400, 400), ("red", "blue")[n % 2]).save(tmp_path / f"{n}.png")
    values = result(tmp_path)
    names = [str(tmp_path / f"{n}.png") for n in range(count)]
    values["examples"]["best"][0] |= {"image": names[0], "images": names}
    html = evaluation_page(values)
    (picture,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.size == size
        assert image.getpixel((size[0] - 9, 9)) == pytest.approx((0, 0, 254) if count < 9 else (254, 0, 0), abs=4)
    assert 'alt="Pictures of' in html
    assert ("9 of 12 pictures" in html) == (" of 12 pictures" in html) == (count > 9)


@pytest.mark.parametrize("gone", [0, 2, 11])
def test_of_several_pictures_those_that_open_are_shown_and_the_others_named(tmp_path: Path, gone: int) -> None:
    for n in range(12):
        (tmp_path / f"{n}.png").write_bytes(b"no picture")
        if n != gone:
            Image.new("RGB", (400, 400), "blue").save(tmp_path / f"{n}.png")
    names = [str(tmp_path / f"{n}.png") for n in range(12)]
    values = result(tmp_path)
    values["examples"] = {"best": [values["examples"]["best"][0] | {"image": names[0], "images": names}]}
    html = evaluation_page(values)
    (picture,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.size == (492, 492)
        assert image.getpixel((9, 9)) == pytest.approx((0, 0, 254), abs=4)
    told = f"; {gone}.png: not found, or no picture" if gone < 9 else ""
    assert f">9 of 12 pictures{told}<" in html


def test_places_on_this_machine_are_no_settings(tmp_path: Path) -> None:
    assert "/home/me" not in evaluation_page(result(tmp_path, data_place="/home/me/rows.jsonl"))


def test_of_several_pictures_all_are_told_and_of_one_that_alone() -> None:
    both = about(Row("x", images=(Path("a.jpg"), Path("b.jpg"))))
    assert (both["image"], both["images"]) == ("a.jpg", ["a.jpg", "b.jpg"])
    assert "images" not in about(Row("x", images=(Path("a.jpg"),)))


def test_confusion_and_types(tmp_path: Path) -> None:
    scores = {
        "accuracy": 75.0,
        "n": 4,
        "ci": {"accuracy": [25.0, 100.0]},
        "confusion": {"neutral": {"neutral": 1, "maybe": 3}, "entailment": {"neutral": 0, "maybe": 0}},
        "per_answer_type": {"yes/no": 50.0},
    }
    text = " ".join(Page(evaluation_page({"scores": scores})).text.replace("\xa0", "").split())
    assert "is neutral 1 25% 3 75%" in text.replace("neutral1", "neutral 1").replace("%3", "% 3")
    assert "said maybe" in text
    assert "By answer type" in text


def test_what_is_no_evaluation() -> None:
    with pytest.raises(DataError, match="the result: not an evaluation"):
        evaluation_page({})


class Tables(HTMLParser):
    """How many tables lie in a box that scrolls, and how many do not."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.boxes: list[bool] = []
        self.found = {True: 0, False: 0}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "div":
            self.boxes.append("scroll" in (given.get("class") or "").split() and given.get("tabindex") == "0")
        elif tag == "table":
            self.found[any(self.boxes)] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.boxes.pop()


@pytest.mark.parametrize("name", ["evaluation/page", "evaluation/comparison", "demo/report"])
def test_tables_scroll_in_their_own_box(name: str) -> None:
    """On a narrow screen a table that is not in one is cut off; the templates as they are, every part of them."""
    room, template = name.split("/")
    html = (Path(close.__file__).parent / room / f"{template}.html.j2").read_text(encoding="utf-8")
    found = Tables(html).found
    assert found[True] > 0
    assert found[False] == 0


def test_pictures_have_words(tmp_path: Path) -> None:
    images = [attributes for tag, attributes in Page(evaluation_page(result(tmp_path))).elements if tag == "img"]
    assert [image["alt"] for image in images] == [f"Picture of {EVIL}: {EVIL}"]


def test_a_metric_says_how_its_numbers_look(monkeypatch: pytest.MonkeyPatch) -> None:
    from close.evaluation.metrics import METRICS, Metric, Score
    from close.evaluation.metrics.base import Metrics

    own = Metrics()
    own.register(Metric("speed", "caption", (Score("speed", "Speed", scale=(0, None), digits=3),)))(dict)
    own.register(METRICS["cider"])(METRICS["cider"].function)
    monkeypatch.setattr("close.evaluation.page.METRICS", own)
    text = Page(evaluation_page({"scores": {"speed": 1.23456, "cider": 95.44, "ci": {"speed": [1, 2]}}})).text
    for said in ("1.235", "1.000 to 2.000", "95.4"):
        assert said in text


def test_what_an_evaluation_need_not_say() -> None:
    length = {"mean": 3.0, "sd": 1.0, "min": 1, "max": 5}
    scores = {
        "cider": 12.3,
        "bleu_4": 4.5,
        "per_domain": {"near": {"n": 2, "cider": 67.8}},
        "diversity": {"vocabulary": 3, "unique": 50, "distinct_1": 20, "distinct_2": 30, "length": length},
    }
    examples = {"best": [{"id": "x", "prediction": "a", "references": [], "score": 1, "image": "\0"}]}
    text = Page(evaluation_page({"scores": scores, "examples": examples})).text
    assert "67.8" in text
    assert "not found, or no picture" in text


def test_a_page_says_once_what_was_done_to_missing_predictions(tmp_path: Path) -> None:
    scores = score("caption", {"1": "a dog"}, {"1": ["a dog"], "2": ["a cat"]}, missing="zero", tokenizer="python")
    text = Page(evaluation_page({"scores": scores})).text
    assert "1 are missing and scored as if nothing was said" in text
    assert "left out" not in text
    assert "3 references have no prediction and are left out" in Page(evaluation_page(result(tmp_path))).text
