"""The HTML report: everything in it, everything escaped, nothing fetched; looked at by a real browser where there is one."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from close.gap.measured_tables import measure_tables
from close.gap.measures import MEASURES
from close.gap.modalities import Modalities
from close.gap.report.figures import _cosine_samples, _drawn, _plane, recalls
from close.gap.report.page import _thumbnail, number, render_html

EVIL = '<script>document.title="hacked"</script><img src=x onerror=alert(1)> & "quoted" $x_1$'
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br"}


class Balanced(HTMLParser):
    """Every element closed in order; collects what the page refers to."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gap")
    rng = np.random.default_rng(0)
    content = rng.normal(size=(220, 24)) * np.linspace(2, 0.5, 24)
    owner = np.repeat(np.arange(220), 2)
    np.save(folder / "image.npy", content + 0.5 * rng.normal(size=content.shape) - 0.5)
    np.save(folder / "text.npy", content[owner] + 0.5 * rng.normal(size=(440, 24)) + 0.5)
    with (folder / "rows.jsonl").open("w") as rows:
        for i in range(220):
            sources = [f"{EVIL} {i}", f"caption {i} of 𝄞 and émeu"]
            rows.write(json.dumps({"id": f"{i}<i>", "source": sources, "image": f"{i}.png"}) + "\n")
            if i % 3:
                Image.new("RGB", (300, 200), tuple(rng.integers(0, 255, 3).tolist())).save(folder / f"{i}.png")
    (folder / "1.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    tables = folder / "text.npy", folder / "image.npy"
    cases = measure_tables(
        [("as it is", *tables), (f"twin {EVIL}", *tables)],
        pairs=folder / "rows.jsonl",
        adapters={"mean_shift": "mean_shift", f"noise {EVIL}": {"gaussian": {"cosine": 0.7}}},
        bootstrap=50,
    )
    return render_html(cases)


def test_everything_is_there(page):
    found = parsed(page)
    words = " ".join(" ".join(found.text).split())
    for heading in (
        "What was found",
        "What to do",
        "Side by side",
        "Nearest texts",
        "All measures",
        "Notes",
        "Contrastive loss against the shift",
        "Search among texts",
    ):
        assert heading in words
    for measure in MEASURES:
        assert measure.title.strip() in words
    assert re.search(r"A (wide|clear) gap, \w+ of it one constant shift", words)
    assert found.tags.count("figure") == 4 * 3 + 5
    assert found.tags.count("img") >= 3  # thumbnails, where the file is a picture


def test_pictures_are_shown_as_encoders_see_them(tmp_path, monkeypatch):
    def shown(name):
        made = _thumbnail(tmp_path / name)
        return made and np.asarray(Image.open(BytesIO(base64.b64decode(made.partition(",")[2]))))

    Image.fromarray(np.linspace(0, 65535, 3600).reshape(60, 60).astype(np.uint16)).save(tmp_path / "deep.png")
    assert shown("deep.png").mean() == pytest.approx(127.5, abs=2)
    assert shown("deep.png#xywh=0,0,30,20").shape == (20, 30, 3)
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 1000
    )  # with more than twice as many Pillow raises what is no OSError
    assert shown("deep.png") is None


def test_the_means_in_the_picture_are_of_all_rows():
    rng = np.random.default_rng(0)
    data = Modalities.of(rng.normal(size=(900, 8)) + 1, rng.normal(size=(900, 8)) - 1)
    plane = _plane(data, 0)
    means = _drawn(data, plane, 0)[3]
    gap = np.linalg.norm(data.image.mean(axis=0, dtype=float) - data.text.mean(axis=0, dtype=float))
    assert means[1, 0] - means[0, 0] == pytest.approx(gap, abs=1e-6)


def test_behind_a_memory_no_recall_is_drawn(folder):
    tables = ("as it is", folder / "text.npy", folder / "image.npy")
    measured = measure_tables([tables], pairs=folder / "rows.jsonl", adapters={"memory": "nearest"}, bootstrap=0)
    assert measured[1].report["recall.image_to_text.at_1"] is None
    assert [str(one) for one in recalls(measured)] == [str(one) for one in recalls(measured[:1])]


def test_a_text_is_no_stranger_to_its_second_image():
    text = np.eye(12)
    image = np.concatenate((text, text + 0.01 * np.roll(text, 1, axis=1)))
    pairs = np.stack((np.tile(np.arange(12), 2), np.arange(24)), axis=1)
    _, (strangers, _), *_ = _cosine_samples(Modalities.of(text, image, pairs), 0)
    assert len(strangers) > 15_000
    assert strangers.max() < 0.1


def test_strings_from_data_are_text_and_nothing_else(page):
    found = parsed(page)
    assert "script" not in found.tags
    assert EVIL in " ".join(found.text)
    assert "src=x" not in "".join(f"<{tag}" for tag in found.tags)


def test_the_page_needs_nothing_but_itself(page):
    for link in parsed(page).links:
        assert link.startswith(("#", "data:")), link
    assert not re.findall(r"url\((?!#)", page)
    assert "@import" not in page
    left = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    assert "http:" not in left
    assert "https:" not in left


def test_colours_are_the_pages_own(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--image)" in drawings
    assert not re.findall(r"#0[12]00[0-9a-f]{2}", page)


def test_same_seed_same_page(folder, page):
    one = [("one", folder / "text.npy", folder / "image.npy")]
    first, second = (render_html(measure_tables(one, pairs=folder / "rows.jsonl", bootstrap=0)) for _ in range(2))
    assert first == second


def test_unpaired_tables_without_words_make_a_page_too(folder):
    one = [("one", folder / "text.npy", folder / "image.npy")]
    found = parsed(render_html(measure_tables(one, unpaired=True, bootstrap=0)))
    words = " ".join(found.text)
    assert "need pairs of text and image" in words
    assert "Nearest texts" not in words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (1e-9, "≈ 0"),
        (0.85276, "0.853"),
        (-0.31, "−0.310"),
        (0.00044, "0.0004"),
        (117.8, "118"),
        (12345.6, "12,346"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown


# in a browser


def chromium(folder, *options):
    without = (
        "background-networking",
        "component-update",
        "sync",
        "gpu",
        "quic",
        "dev-shm-usage",
        "extensions",
        "breakpad",
    )
    headless = ("--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--enable-logging=stderr")
    alone = (f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND")
    command = [BROWSER, *(f"--disable-{name}" for name in without), *headless, *alone, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Skips where there is no Chromium that shows a page."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    try:
        chromium(tmp_path_factory.mktemp("probe"), "--dump-dom", "about:blank")
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"Chromium does not run here: {error}")


def browse(folder, name, *options):
    """Console lines and requested addresses of a page."""
    log = folder / f"{name}.net.json"
    done = chromium(folder, f"--log-net-log={log}", *options, (folder / f"{name}.html").as_uri())
    wanted = set(re.findall(r'"url":"((?:https?|wss?|ftp):[^"]*)', log.read_text(errors="replace")))
    own = re.compile(r"//[^/]*\b(google|googleapis|gstatic|gvt1)\.com")  # the browser's own affairs
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line], [
        url for url in wanted if not own.search(url)
    ]


@pytest.mark.usefixtures("browser")
def test_a_browser_shows_it_without_errors_or_requests(folder, page):
    (folder / "report.html").write_text(page, encoding="utf-8")
    picture = folder / "report.png"
    assert browse(folder, "report", "--window-size=1200,2400", f"--screenshot={picture}") == ([], [])
    with Image.open(picture) as shot:
        assert shot.size[0] == 1200
        assert len(shot.convert("RGB").getcolors(1 << 24)) > 50  # something is drawn
    print(f"screenshot: {picture}")


@pytest.mark.usefixtures("browser")
def test_the_browser_would_have_told(folder):
    (folder / "bad.html").write_text('<script>nope()</script><img src="http://example.com/x.png">', encoding="utf-8")
    console, requests = browse(folder, "bad", f"--screenshot={folder / 'bad.png'}")
    assert any("nope" in line for line in console)
    assert requests == ["http://example.com/x.png"]
